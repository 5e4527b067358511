"""OpenVINO on the CPU, for its IR and for ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov

from ..info import ModelInfo


class OpenVINOBackend:
    """Run a model with OpenVINO; see `Backend`."""

    def __init__(self, path: Path, threads: int | None, reduced_precision: bool) -> None:
        core = ov.Core()
        try:
            model = core.read_model(path)
            properties = read_properties(model)
            self.info = ModelInfo.from_properties(properties, path)
            settings: dict[str, str | int] = {'PERFORMANCE_HINT': 'LATENCY'}
            if not reduced_precision:
                settings['INFERENCE_PRECISION_HINT'] = 'f32'
            if threads is not None:
                settings['INFERENCE_NUM_THREADS'] = threads
            self.model = core.compile_model(model, 'CPU', settings)
        except RuntimeError as error:
            reason = ' '.join(str(error).split())
            if 'EfficientNMS_TRT' in reason:
                reason = 'its export format must be raw, decoded or nms, got trt, which needs TensorRT'
            raise ValueError(f'{path} must be a model that OpenVINO can load, got an error: {reason}') from None
        shape = model.inputs[0].partial_shape
        batch, _, height, width = (axis.get_length() if axis.is_static else None for axis in shape)
        self.batch = batch
        self.size = (height, width) if height and width else None

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalised images; see `Backend`."""
        return list(self.model(images).values())


def read_properties(model: ov.Model) -> dict[str, str]:
    """Return the metadata of the ONNX file, which OpenVINO stores under `framework`, in its IR as well."""
    if not model.has_rt_info('framework'):
        return {}
    return {name: value.astype(str) for name, value in model.get_rt_info('framework').astype(dict).items()}
