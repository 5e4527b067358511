"""ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from ..info import ModelInfo


class ONNXRuntimeBackend:
    """See `Backend`. It computes in the precision of the file, so `reduced_precision` makes no difference."""

    def __init__(self, path: Path, threads: int | None, reduced_precision: bool) -> None:
        self.path = path
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        except Exception as error:  # its exceptions have no common base of their own
            reason = ' '.join(str(error).split())
            if 'EfficientNMS_TRT' in reason:
                reason = 'the form trt holds a TensorRT plugin; accepted: the forms raw, decoded, nms'
            raise ValueError(f'{path}: ONNX Runtime does not load it: {reason}') from None
        self.info = ModelInfo.from_properties(self.session.get_modelmeta().custom_metadata_map, path)
        self.input = self.session.get_inputs()[0]
        batch, _, height, width = (length if isinstance(length, int) else None for length in self.input.shape)
        self.batch = batch
        self.size = (height, width) if height and width else None

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Compute the outputs of normalised images; see `Backend`."""
        try:
            return self.session.run(None, {self.input.name: images})
        except Exception as error:  # see above
            reason = ' '.join(str(error).split())
            raise ValueError(
                f'{self.path}: ONNX Runtime does not run it on the shape {images.shape}: {reason}'
            ) from None
