"""Backends that run the network: one class per file, chosen by the ending of the model's file."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..cpu_cores import available_cores, physical_cores
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
"""Name: module, class, and the endings that it reads. The first backend that reads an ending is its default."""
LOWER_PRECISIONS = dict(openvino=('bfloat16', 'float16'), ncnn=('bfloat16', 'float16'))
"""Precisions below float32 that a backend can be asked for. The others compute in the precision of the file."""
THREAD_COUNTS = (1, 1024)
"""Minimum and maximum. A backend starts as many threads as it is asked for, until no memory is left."""


MAX_STREAMS = 8
"""Maximum number of calls at a time. Each has its own activations and images in memory."""


class Backend(Protocol):
    """A loaded model.

    A backend for CPUs can also be `Streaming`.

    Attributes:
        info: metadata in the file.
        batch: fixed batch size; None if it is dynamic.
        size: fixed input size (height, width) in pixels; None if it is dynamic.
        precision: precision that the model runs in on this machine, such as 'bfloat16' or 'INT8 and float32'.
    """

    info: ModelInfo
    batch: int | None
    size: tuple[int, int] | None
    precision: str

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """Run the network on normalised images (B, 3, H, W), float32; return its outputs, see `ModelInfo.outputs`."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A backend that can run several calls at the same time, for more images per second.

    Two calls with one thread each, at the same time, take less time than one after the other with two threads, because
    the threads of a call wait for each other. Each image then takes longer, so a single one or a camera's isn't run so.

    Attributes:
        streams: number of calls that run at a time on the backend of `for_streams`, see `streams_of`.
    """

    streams: int

    def for_streams(self) -> Backend:
        """Open the same model for `streams` calls at a time, each with its share of the threads.

        Raises:
            OSError: if the model's files are not those that were opened before.
        """
        ...


class StreamingBackend:
    """Open a backend for several calls at a time, once, when it is first needed. Detectors with one model share it."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._opened, self._lock = backend, None, threading.Lock()

    @property
    def streams(self) -> int:
        """Number of calls at a time; 1 if the backend isn't `Streaming`."""
        return self._backend.streams if isinstance(self._backend, Streaming) else 1

    @property
    def is_open(self) -> bool:
        """Whether it was opened before."""
        return self._opened is not None

    def open(self) -> Backend:
        """Return the backend for several calls at a time; see `Streaming.for_streams`."""
        with self._lock:
            if self._opened is None:
                self._opened = self._backend.for_streams() if isinstance(self._backend, Streaming) else self._backend
            return self._opened


def streams_of(threads: int | None) -> tuple[int, int]:
    """Return the number of calls at a time, at most `MAX_STREAMS`, and the number of threads of each.

    Args:
        threads: number of threads; None for one per physical core.
    """
    threads = threads or min(available_cores(), physical_cores())
    share = -(-threads // MAX_STREAMS)
    return threads // share, share


class ModelFiles:
    """The files of a model, to open the same ones again.

    Args:
        paths: the files.
    """

    def __init__(self, *paths: Path) -> None:
        self._paths = [path.resolve() for path in paths]
        self._seen = self._state()

    def again(self) -> Path:
        """Return the absolute path of the first file.

        Raises:
            OSError: if a file has changed or doesn't exist any more.
        """
        if self._state() != self._seen:
            raise OSError(f'{self._paths[0]} has changed since it was opened')
        return self._paths[0]

    def _state(self) -> list[tuple[int, int, int]]:
        return [(info.st_ino, info.st_size, info.st_mtime_ns) for info in map(Path.stat, self._paths)]


def open_backend(path: str | Path, backend: str | None, threads: int | None, precision: str) -> Backend:
    """Load a model.

    Args:
        path: file of the model; for ncnn, the `.param` of the three files.
        backend: a name of `BACKENDS`; None chooses by the file's ending.
        threads: number of threads; None for the backend's default.
        precision: 'auto', 'float32' or one of the backend's `LOWER_PRECISIONS`; see `RTMDetector`.

    Raises:
        FileNotFoundError: if the file doesn't exist.
        ValueError: if the backend or the file's ending is unknown, the backend doesn't read this ending, the file
            wasn't written by this project, the backend or the CPU doesn't support the precision, or `threads` isn't
            within `THREAD_COUNTS`.
        ImportError: if the backend isn't installed.
    """
    check_threads(threads)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such model')
    readers = readers_of(path)
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f'backend must be one of {", ".join(BACKENDS)}, got {backend!r}')
    if not readers:
        endings = sorted({ending for _, _, endings in BACKENDS.values() for ending in endings})
        raise ValueError(f'model must end in one of {", ".join(endings)}, got {path}')
    if backend not in (None, *readers):
        raise ValueError(f'backend must be {" or ".join(readers)} for {path}, got {backend!r}')
    name = backend or readers[0]
    precisions = precisions_of(name)
    if precision not in precisions:
        raise ValueError(f'precision must be one of {", ".join(precisions)} for {name}, got {precision!r}')
    module, class_name, _ = BACKENDS[name]
    with needed_by(str(path)):
        factory = getattr(importlib.import_module(module, __package__), class_name)
    return factory(path, threads, precision)


def readers_of(path: Path) -> list[str]:
    """Return the names of the backends that read a file with this ending, the default first."""
    return [name for name, (_, _, endings) in BACKENDS.items() if path.suffix in endings]


def precisions_of(backend: str) -> tuple[str, ...]:
    """Return the precisions that a backend can be asked for."""
    return ('auto', 'float32', *LOWER_PRECISIONS.get(backend, ()))


def check_threads(threads: int | None) -> None:
    """Raise a `ValueError` unless `threads` is within `THREAD_COUNTS` or None, which leaves it to the backend."""
    fewest, most = THREAD_COUNTS
    if threads is not None and not fewest <= threads <= most:
        raise ValueError(f'threads must be from {fewest} to {most}, got {threads}')
