"""TensorRT on an NVIDIA GPU. A model is two files: .engine, and .engine.json with the metadata, as in ONNX files.

An engine is a program for one type of GPU and one version of TensorRT. Opening it runs code in it, on the GPU and on
the host, so open only engines from people whose programs you would run.

Written according to the documentation of TensorRT 10 and 11 and of cuda-bindings; it has not been run on a GPU.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorrt as trt
from cuda.bindings import runtime as cudart

from ..info import INPUT, ModelInfo


class TensorRTBackend:
    """Run an engine with TensorRT, in the engine's precision: `threads` and `precision` have no effect.

    GPU memory is allocated once, for the largest batch size and image size of the engine's profile. See `Backend`.
    """

    precision = 'as built'

    def __init__(self, path: Path, threads: int | None, precision: str) -> None:
        properties = path.with_name(f'{path.name}.json')
        self.path, self.info = path, ModelInfo.from_file(properties, path)
        self.stream = _call(
            cudart.cudaStreamCreate
        )  # a clear error if there is no GPU; TensorRT returns a null pointer
        self.memory: dict[str, int] = {}
        weakref.finalize(self, _release, self.memory, self.stream)

        logger = trt.Logger(trt.Logger.ERROR)
        trt.init_libnvinfer_plugins(logger, '')  # EfficientNMS_TRT is one of them
        self.runtime = trt.Runtime(logger)
        self.engine = self.runtime.deserialize_cuda_engine(path.read_bytes())
        if self.engine is None:
            raise ValueError(
                f'{path} must be an engine for this GPU and TensorRT {trt.__version__}, got one that does not load; '
                'build it again with both'
            )
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        if set(names) != {INPUT, *self.info.outputs}:
            raise ValueError(
                f'{path}: inputs and outputs must be {", ".join([INPUT, *self.info.outputs])}, those of the export '
                f'format {self.info.form} in {properties.name}, got {", ".join(names)}'
            )
        shape = tuple(self.engine.get_tensor_shape(INPUT))
        profile = self.engine.get_tensor_profile_shape(INPUT, 0) if -1 in shape else (shape,) * 3
        self.smallest, _, self.largest = map(tuple, profile)  # (B, 3, H, W)
        self.batch = self.largest[0] if self.smallest[0] == self.largest[0] else None
        self.size = self.largest[2:] if self.smallest[2:] == self.largest[2:] else None

        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise RuntimeError(f'{path}: TensorRT has not enough GPU memory to run it')
        self.kinds = {name: np.dtype(trt.nptype(self.engine.get_tensor_dtype(name))) for name in names}
        self._set_shape(self.largest)
        for name in names:
            shape = tuple(self.context.get_tensor_shape(name))
            if -1 in shape:
                raise ValueError(
                    f'{path} must have the export format raw, decoded or trt, got {self.info.form}: the shape of '
                    f'{name} depends on the image'
                )
            self.memory[name] = _call(cudart.cudaMalloc, int(np.prod(shape)) * self.kinds[name].itemsize)
            self.context.set_tensor_address(name, self.memory[name])

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalised images; see `Backend`."""
        bounds = zip(self.smallest, images.shape, self.largest, strict=True)
        if not all(low <= length <= high for low, length, high in bounds):
            raise ValueError(
                f'{self.path}: the shape of a batch must be from {self.smallest} to {self.largest}, the range of the '
                f'engine, got {images.shape}'
            )
        images = np.ascontiguousarray(images, self.kinds[INPUT])
        self._set_shape(images.shape)
        self._copy(self.memory[INPUT], images.ctypes.data, images.nbytes, 'cudaMemcpyHostToDevice')
        if not self.context.execute_async_v3(int(self.stream)):
            raise RuntimeError(f'{self.path}: TensorRT can not run it; the reason is in its log above')
        outputs = []
        for name in self.info.outputs:
            output = np.empty(tuple(self.context.get_tensor_shape(name)), self.kinds[name])
            self._copy(output.ctypes.data, self.memory[name], output.nbytes, 'cudaMemcpyDeviceToHost')
            outputs.append(output)
        _call(cudart.cudaStreamSynchronize, self.stream)
        return outputs

    def _set_shape(self, shape: tuple[int, ...]) -> None:
        if not self.context.set_input_shape(INPUT, shape):
            raise RuntimeError(
                f'{self.path}: TensorRT does not accept the shape {shape}; the reason is in its log above'
            )

    def _copy(self, target: int, source: int, size: int, direction: str) -> None:
        _call(cudart.cudaMemcpyAsync, target, source, size, getattr(cudart.cudaMemcpyKind, direction), self.stream)


def _call(function: Callable, *arguments) -> Any:
    """Call a CUDA function, and return its result without the error code.

    Raises:
        RuntimeError: if CUDA reports an error, with CUDA's message.
    """
    error, *results = function(*arguments)
    if error != cudart.cudaError_t.cudaSuccess:
        reason = cudart.cudaGetErrorString(error)[1].decode()
        raise RuntimeError(
            f'CUDA: {reason}; TensorRT needs an NVIDIA GPU, free GPU memory, and a driver as new as cuda-bindings'
        )
    return results[0] if results else None


def _release(memory: dict[str, int], stream: object) -> None:
    """Free the GPU memory and the stream."""
    for pointer in memory.values():
        cudart.cudaFree(pointer)
    cudart.cudaStreamDestroy(stream)
