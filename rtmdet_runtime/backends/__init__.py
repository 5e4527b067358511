"""What computes the network: one class a file, chosen by the name of the model's file."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..info import ModelInfo
from ..messages import needed_by

if TYPE_CHECKING:
    import numpy as np

BACKENDS = {
    'onnxruntime': ('.onnxruntime', 'ONNXRuntimeBackend', ('.onnx',)),
    'openvino': ('.openvino', 'OpenVINOBackend', ('.xml', '.onnx')),
    'ncnn': ('.ncnn', 'NcnnBackend', ('.param',)),
    'tensorrt': ('.tensorrt', 'TensorRTBackend', ('.engine',)),
}
"""Name: module, class, the endings that it reads. The first backend that reads an ending is its default."""
THREAD_COUNTS = (1, 1024)
"""Fewest and most: a backend starts as many threads as it is told to, up to the last byte of memory."""


class Backend(Protocol):
    """A loaded model.

    Attributes:
        info: what the file says about itself.
        batch: images that it takes at once; None for any number.
        size: (height, width) that it takes; None for any.
    """

    info: ModelInfo
    batch: int | None
    size: tuple[int, int] | None

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Normalised pictures (B, 3, H, W), float32 -> the outputs of the model's form, in their order."""
        ...


def open_backend(path: str | Path, backend: str | None, threads: int | None, reduced_precision: bool) -> Backend:
    """Load a model.

    Args:
        path: the model's file; of ncnn's three files the `.param`.
        backend: a name of `BACKENDS`; None chooses by the file's ending.
        threads: of the computation; None leaves it to the backend.
        reduced_precision: let the backend compute in less than float32 where that is faster.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for an unknown backend or ending, one that don't go together, a file that isn't ours, or another
            number of threads than `THREAD_COUNTS`.
        ImportError: where the backend isn't installed.
    """
    check_threads(threads)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such model')
    readers = [name for name, (_, _, endings) in BACKENDS.items() if path.suffix in endings]
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f'backend={backend!r}; accepted: {", ".join(BACKENDS)}')
    if not readers or backend not in (None, *readers):
        endings = sorted({ending for _, _, endings in BACKENDS.values() for ending in endings})
        accepted = (
            f'{" or ".join(readers)} for {path.suffix}' if readers else f'a file that ends in {", ".join(endings)}'
        )
        raise ValueError(f'{path}: no backend {backend or ""} for it; accepted: {accepted}'.replace('  ', ' '))
    name = backend or readers[0]
    module, class_name, _ = BACKENDS[name]
    with needed_by(str(path)):
        factory = getattr(importlib.import_module(module, __package__), class_name)
    return factory(path, threads, reduced_precision)


def check_threads(threads: int | None) -> None:
    """Raise a `ValueError` for a number of threads that isn't within `THREAD_COUNTS`; None leaves it to the backend."""
    fewest, most = THREAD_COUNTS
    if threads is not None and not fewest <= threads <= most:
        raise ValueError(f'threads must be {fewest} to {most}, got {threads}')
