"""mmdet's own model as its users run it: what ours are measured beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config

from rtmdet_runtime.image import Image, letterbox, normalization_table, write_input

from ..checkpoints.load_model import load_model
from ..export.metadata import model_info
from ..mmdeploy_support.deploy import require_mmdeploy
from ..mmdeploy_support.stock import export_stock, stock_predict

NAMES = ('mmdet, inference_detector', 'mmdet, mmdeploy stock, its Python', 'mmdet, mmdeploy stock, our letterbox')


def reference_steps(
    config: Config, checkpoint: Path, picture: Image, folder: Path, threads: int | None
) -> dict[str, Callable[[], object]]:
    """What predicts a picture with mmdet's model on the CPU, by name.

    Args:
        config: mmdet's own, of RTMDet.
        checkpoint: that fits it.
        picture: BGR, uint8. (H, W, 3)
        folder: where mmdeploy's export goes.
        threads: of ONNX Runtime behind our letterbox; mmdeploy's own Python leaves them to ONNX Runtime, PyTorch has
            those of the process.

    Returns:
        By `NAMES`: mmdet's `inference_detector`; mmdeploy's stock export by mmdeploy's own Python; and the same graph
        behind our letterbox, without what its own Python costs.

    Raises:
        FileNotFoundError, ValueError: see `load_model`.
        ModuleNotFoundError: where mmdeploy isn't installed.
    """
    require_mmdeploy()
    info = model_info(load_model(config, checkpoint), 'nms', None, {})
    detector = init_detector(config.copy(), str(checkpoint), palette='random', device='cpu')
    model = export_stock(config, checkpoint, folder, info.input_size, picture)
    predict = stock_predict(config, model, info.input_size)

    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(model), options, providers=['CPUExecutionProvider'])
    table = normalization_table(info)

    def graph_alone() -> tuple[np.ndarray, np.ndarray]:
        canvas, scale = letterbox(picture, info.input_size, info.pad_value, info.keep_ratio)
        inputs = np.empty((1, 3, *info.input_size), np.float32)
        write_input(canvas, table, info.to_rgb, inputs[0])
        dets, labels = session.run(None, {'input': inputs})
        return dets[0, :, :4] / np.array([*scale, *scale], np.float32), labels[0]

    steps = (lambda: inference_detector(detector, picture), lambda: predict(picture), graph_alone)
    return dict(zip(NAMES, steps, strict=True))
