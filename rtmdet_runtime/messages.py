"""Errors as one line for the user, and the line for a package that isn't installed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

PACKAGES = dict(
    click=('click', None),
    cuda=('cuda-bindings', 'tensorrt'),
    cv2=('opencv-python', 'runtime'),
    imagesize=('imagesize', None),
    matplotlib=('matplotlib', 'demo'),
    mmdet=('mmdet', 'lite'),
    mmengine=('mmengine', 'lite'),
    ncnn=('ncnn', 'backends'),
    nncf=('nncf', 'nncf'),
    onnx=('onnx', 'deploy'),
    onnxruntime=('onnxruntime', 'runtime'),
    onnxscript=('onnxscript', 'deploy'),
    openvino=('openvino', 'backends'),
    pnnx=('pnnx', 'backends'),
    rich=('rich', 'deploy'),
    safetensors=('safetensors', 'deploy'),
    tensorrt=('tensorrt', 'tensorrt'),
    torch=('torch', 'lite'),
)
"""Optional module: the package that pip installs, and the extra of this project that brings it."""


def missing_package(error: ModuleNotFoundError, what: str) -> ImportError:
    """Return the error that says which package to install and how; `error` itself if its module isn't ours to name.

    Args:
        error: of an import.
        what: the file, option or command that needs the module.
    """
    package, extra = PACKAGES.get((error.name or '').partition('.')[0], (None, None))
    if package is None:
        return error
    checkout = f'pip install ".[{extra}]" in a checkout of rtmdet_plugin, or ' if extra else ''
    return ImportError(f'{what} needs {package}, which is not installed: {checkout}pip install {package}')


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Import optional modules within it; see `missing_package`.

    Raises:
        ImportError: if one isn't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package(error, what) from None


def without_worker_traceback(text: str) -> str:
    """Return the message of an error; of one in a DataLoader's worker without the traceback that PyTorch adds."""
    return re.split(r'^\S+(?:Error|Exception): ', text, flags=re.MULTILINE)[-1] if text.startswith('Caught ') else text


def one_line(error: Exception) -> str:
    """Return the message of an error as one line; see `without_worker_traceback`."""
    line = ' '.join(without_worker_traceback(str(error)).split()) or type(error).__name__
    return line.encode(errors='replace').decode()  # the name of a file may hold bytes that aren't text
