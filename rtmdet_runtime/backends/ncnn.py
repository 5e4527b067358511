"""ncnn on the CPU. A model is three files: .param (graph), .bin (weights) and .json (metadata, as in ONNX files)."""

from __future__ import annotations

from pathlib import Path

import ncnn
import numpy as np

from ..info import ModelInfo
from . import ModelFiles, streams_of

OPTIONS = dict(
    float16=('use_fp16_packed', 'use_fp16_storage', 'use_fp16_arithmetic'),
    bfloat16=('use_bf16_storage',),
)
"""Options of ncnn by precision. They are on by default in some versions, and off here unless the caller asks."""


class NcnnBackend:
    """Run a model with ncnn, which takes one image at a time; see `Backend`.

    `precision='auto'` is float32: the AP in float16 isn't measured on CPUs that compute in it.
    """

    batch = 1

    def __init__(self, path: Path, threads: int | None, precision: str) -> None:
        self.info = ModelInfo.from_file(path.with_suffix('.json'), path)
        self.streams, self._share = streams_of(threads)
        weights = path.with_suffix('.bin')
        if not weights.is_file():
            raise FileNotFoundError(f'{path} needs {weights.name} in the same folder; copy it there with the model')
        self.files = ModelFiles(path, weights, path.with_suffix('.json'))
        self.size = self.info.input_size
        self.net = ncnn.Net()
        self.net.opt.num_threads = threads or ncnn.get_big_cpu_count()
        self.precision = 'float32' if precision == 'auto' else precision
        for name, options in OPTIONS.items():
            for option in options:
                setattr(self.net.opt, option, name == precision)
        if self.net.load_param(str(path)) or self.net.load_model(str(weights)):
            raise ValueError(
                f'{path} and {weights.name} must be a model that ncnn can load, got an error; export it again'
            )
        # pnnx numbers the outputs in the right order (out0, out1, ...); the file lists them in the order of the graph.
        self.outputs = sorted(self.net.output_names(), key=lambda name: int(name.removeprefix('out')))

    def for_streams(self) -> NcnnBackend:
        """Open the same model for several calls at a time; see `Streaming`."""
        return NcnnBackend(self.files.again(), self._share, self.precision)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalised images; see `Backend`."""
        extractor = self.net.create_extractor()
        extractor.input('in0', ncnn.Mat(images[0]))
        return [np.array(extractor.extract(name)[1])[None] for name in self.outputs]
