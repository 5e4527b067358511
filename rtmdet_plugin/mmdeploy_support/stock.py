"""mmdet's own RTMDet through mmdeploy 1.3.1 as it comes: what our exports are measured beside.

mmdeploy's wheel ships no configs. `stock_config` spells out what its repository has as
configs/mmdet/detection/detection_onnxruntime_static.py and what that inherits. One thing it takes on today's stack:
`legacy_onnx_export`, because mmdeploy fails in torch's dynamo exporter.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
from mmengine.config import Config
from mmengine.structures import InstanceData

from rtmdet_runtime.image import Image

from ..compat.onnx_export import legacy_onnx_export


def stock_config(size: tuple[int, int]) -> Config:
    """mmdeploy's deploy config for ONNX Runtime, static.

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


def export_stock(config: Config, checkpoint: Path, folder: Path, size: tuple[int, int], picture: Image) -> Path:
    """Write mmdet's model as `end2end.onnx`.

    Args:
        config: mmdet's own, of RTMDet.
        checkpoint: that fits it.
        folder: where to write.
        size: see `stock_config`.
        picture: any; mmdeploy traces the model with it.

    Returns:
        The ONNX file: input `input` (1, 3, H, W), normalised; outputs `dets` (1, K, 5) and `labels` (1, K).
    """
    from mmdeploy.apis import torch2onnx
    from mmdeploy.utils import get_root_logger

    get_root_logger().setLevel('ERROR')
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / 'picture.png'), picture)
    with legacy_onnx_export(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # TorchScript's, one for each branch that it can't follow
        torch2onnx(
            str(folder / 'picture.png'),
            work_dir=str(folder),
            save_file='end2end.onnx',
            deploy_cfg=stock_config(size),
            model_cfg=config.copy(),
            model_checkpoint=str(checkpoint),
            device='cpu',
        )
    return folder / 'end2end.onnx'


def stock_predict(config: Config, model: Path, size: tuple[int, int]) -> Callable[[Image], InstanceData]:
    """A function from a picture to boxes, by mmdeploy's own Python: mmdet's pipeline, the graph, and what follows.

    Args:
        config: mmdet's own, of RTMDet.
        model: what `export_stock` wrote.
        size: see `stock_config`.
    """
    from mmdeploy.apis.utils import build_task_processor
    from mmdeploy.utils import get_input_shape

    deploy_config = stock_config(size)
    task = build_task_processor(config.copy(), deploy_config, 'cpu')
    backend = task.build_backend_model([str(model)], data_preprocessor_updater=task.update_data_preprocessor)
    shape = get_input_shape(deploy_config)

    def predict(picture: Image) -> InstanceData:
        inputs, _ = task.create_input(picture, shape)
        return backend.test_step(inputs)[0].pred_instances

    return predict
