"""ONNX Runtime on the CPU."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import onnxruntime as ort

from ..info import ModelInfo
from . import ModelFiles, streams_of


class ONNXRuntimeBackend:
    """Run a model with ONNX Runtime, in the precision of the file: `precision` has no effect; see `Backend`."""

    def __init__(self, path: Path, threads: int | None, precision: str) -> None:
        self.path = path
        self.files = ModelFiles(path)
        self.streams, self._share = streams_of(threads)
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            reason = ' '.join(str(error).split())
            if 'EfficientNMS_TRT' in reason:
                reason = 'its export format must be raw, decoded or nms, got trt, which needs TensorRT'
            raise ValueError(f'{path} must be a model that ONNX Runtime can load, got an error: {reason}') from None
        self.info = ModelInfo.from_properties(self.session.get_modelmeta().custom_metadata_map, path)
        self.input = self.session.get_inputs()[0]
        batch, _, height, width = (length if isinstance(length, int) else None for length in self.input.shape)
        self.batch = batch
        self.size = (height, width) if height and width else None
        self.precision = 'INT8 and float32' if is_quantised(path) else 'float32'

    def for_streams(self) -> ONNXRuntimeBackend:
        """Open the same model for several calls at a time; see `Streaming`."""
        return ONNXRuntimeBackend(self.files.again(), self._share, 'auto')

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalised images; see `Backend`."""
        try:
            return self.session.run(None, {self.input.name: images})
        except Exception as error:  # see above
            reason = ' '.join(str(error).split())
            raise ValueError(f'{self.path}: ONNX Runtime fails on images of shape {images.shape}: {reason}') from None


def is_quantised(path: Path) -> bool:
    """Return whether an ONNX file has Q/DQ nodes; it is searched for their name, because `onnx` isn't needed here."""
    with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b'QuantizeLinear') >= 0
