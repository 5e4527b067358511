"""Predict with mmdet's own RTMDet as its users run it, in PyTorch and through mmdeploy 1.3.1's stock export.

mmdeploy's wheel ships no configs. `stock_config` spells out what its repository has as
configs/mmdet/detection/detection_onnxruntime_static.py and what that inherits. The export needs `legacy_onnx_export`
on today's stack, because mmdeploy fails in PyTorch's dynamo exporter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config
from mmengine.structures import InstanceData

from rtmdet_plugin import load_model
from rtmdet_plugin.compat.onnx_export import legacy_onnx_export
from rtmdet_plugin.export.metadata import model_info
from rtmdet_plugin.mmdeploy_support.deploy import require_mmdeploy
from rtmdet_runtime.image import Image, letterbox, normalization_table, write_input

NAMES = ('mmdet, inference_detector', 'mmdet, mmdeploy stock, its Python', 'mmdet, mmdeploy stock, our letterbox')
"""Names of the steps that `mmdet_steps` returns, as in the results."""


def stock_config(size: tuple[int, int]) -> Config:
    """Return mmdeploy's static deploy config for ONNX Runtime.

    Args:
        size: (height, width) of the network's input.
    """
    onnx_config = dict(
        type='onnx',
        export_params=True,
        keep_initializers_as_inputs=False,
        opset_version=11,
        save_file='end2end.onnx',
        input_names=['input'],
        output_names=['dets', 'labels'],
        input_shape=size[::-1],
        optimize=True,
    )
    post_processing = dict(
        score_threshold=0.05,
        confidence_threshold=0.005,
        iou_threshold=0.5,
        max_output_boxes_per_class=200,
        pre_top_k=5000,
        keep_top_k=100,
        background_label_id=-1,
    )
    codebase_config = dict(type='mmdet', task='ObjectDetection', model_type='end2end', post_processing=post_processing)
    return Config(
        dict(onnx_config=onnx_config, codebase_config=codebase_config, backend_config=dict(type='onnxruntime'))
    )


def export_stock(config: Config, checkpoint: Path, folder: Path, size: tuple[int, int], image: Image) -> Path:
    """Write mmdet's model as `end2end.onnx`.

    Args:
        config: mmdet's own config of an RTMDet.
        checkpoint: weights that fit the config.
        folder: folder to write to.
        size: see `stock_config`.
        image: any image; mmdeploy traces the model with it.

    Returns:
        The ONNX file: input `input` (1, 3, H, W), normalised; outputs `dets` (1, K, 5) and `labels` (1, K).
    """
    from mmdeploy.apis import torch2onnx
    from mmdeploy.utils import get_root_logger

    get_root_logger().setLevel('ERROR')
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / 'image.png'), image)
    with legacy_onnx_export(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript warns about each branch that it can't follow
        torch2onnx(
            str(folder / 'image.png'),
            work_dir=str(folder),
            save_file='end2end.onnx',
            deploy_cfg=stock_config(size),
            model_cfg=config.copy(),
            model_checkpoint=str(checkpoint),
            device='cpu',
        )
    return folder / 'end2end.onnx'


def stock_predict(config: Config, model: Path, size: tuple[int, int]) -> Callable[[Image], InstanceData]:
    """Return a function from an image to boxes that runs mmdeploy's own Python: pipeline, graph, post-processing.

    Args:
        config: mmdet's own config of an RTMDet.
        model: file that `export_stock` wrote.
        size: see `stock_config`.
    """
    from mmdeploy.apis.utils import build_task_processor
    from mmdeploy.utils import get_input_shape

    deploy_config = stock_config(size)
    task = build_task_processor(config.copy(), deploy_config, 'cpu')
    backend = task.build_backend_model([str(model)], data_preprocessor_updater=task.update_data_preprocessor)
    shape = get_input_shape(deploy_config)

    def predict(image: Image) -> InstanceData:
        inputs, _ = task.create_input(image, shape)
        return backend.test_step(inputs)[0].pred_instances

    return predict


def mmdet_steps(
    config: Config, checkpoint: Path, image: Image, folder: Path, threads: int
) -> dict[str, Callable[[], object]]:
    """Return functions that predict an image with mmdet's model on the CPU.

    Args:
        config: mmdet's own config of an RTMDet.
        checkpoint: weights that fit the config.
        image: BGR, uint8. (H, W, 3)
        folder: folder for mmdeploy's export.
        threads: number of threads of ONNX Runtime behind our letterbox. mmdeploy's own Python leaves it to ONNX
            Runtime, and PyTorch has the threads of the process.

    Returns:
        By the names in `NAMES`: mmdet's `inference_detector`; mmdeploy's stock export run by mmdeploy's own Python; the
        same graph behind our letterbox, without the cost of mmdeploy's Python.

    Raises:
        FileNotFoundError, ValueError: see `load_model`.
        ModuleNotFoundError: if mmdeploy isn't installed.
    """
    require_mmdeploy()
    info = model_info(load_model(config, checkpoint), 'nms', None)
    detector = init_detector(config.copy(), str(checkpoint), palette='random', device='cpu')
    model = export_stock(config, checkpoint, folder, info.input_size, image)
    predict = stock_predict(config, model, info.input_size)

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(model), options, providers=['CPUExecutionProvider'])
    table = normalization_table(info)

    def graph_behind_letterbox() -> tuple[np.ndarray, np.ndarray]:
        canvas, scale = letterbox(image, info.input_size, info.pad_value, info.keep_ratio)
        inputs = np.empty((1, 3, *info.input_size), np.float32)
        write_input(canvas, table, info.to_rgb, inputs[0])
        dets, labels = session.run(None, {'input': inputs})
        return dets[0, :, :4] / np.array([*scale, *scale], np.float32), labels[0]

    steps = (lambda: inference_detector(detector, image), lambda: predict(image), graph_behind_letterbox)
    return dict(zip(NAMES, steps, strict=True))
