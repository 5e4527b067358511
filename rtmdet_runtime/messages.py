"""Format errors as one line for the user, and name the package to install if an import fails."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

PACKAGES = dict(
    av=('av', 'video'),
    click=('click', None),
    cuda=('cuda-bindings', 'tensorrt'),
    cv2=('opencv-python', 'runtime'),
    imagesize=('imagesize', None),
    jinja2=('jinja2', 'report'),
    matplotlib=('matplotlib', 'report'),
    mmdet=('mmdet', 'lite'),
    mmengine=('mmengine', 'lite'),
    ncnn=('ncnn', 'backends'),
    nncf=('nncf', 'nncf'),
    onnx=('onnx', 'deploy'),
    onnxruntime=('onnxruntime', 'runtime'),
    onnxscript=('onnxscript', 'deploy'),
    openvino=('openvino', 'backends'),
    pandas=('pandas', 'results'),
    pnnx=('pnnx', 'backends'),
    rich=('rich', 'deploy'),
    rtmdet_plugin=('rtmdet_plugin', 'lite'),
    safetensors=('safetensors', 'deploy'),
    supervision=('supervision', 'results'),
    tensorrt=('tensorrt', 'tensorrt'),
    torch=('torch', 'lite'),
    trackers=('trackers', 'track'),
)
"""Optional module: the package that pip installs, and the extra of this project that brings it."""


def missing_package(error: ModuleNotFoundError, what: str) -> ImportError:
    """Return an error that says which package to install and how; `error` itself if its module isn't in `PACKAGES`.

    Args:
        error: error of the import.
        what: file, option or command that needs the module.
    """
    package, extra = PACKAGES.get((error.name or '').partition('.')[0], (None, None))
    if package is None:
        return error
    checkout = f'pip install ".[{extra}]" in a checkout of rtmdet_plugin, or ' if extra else ''
    return ImportError(f'{what} needs {package}, which is not installed: {checkout}pip install {package}')


@contextlib.contextmanager
def needed_by(what: str) -> Iterator[None]:
    """Improve errors of optional imports in a `with` block; see `missing_package`.

    Raises:
        ImportError: if a module isn't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_package(error, what) from None


def without_worker_traceback(text: str) -> str:
    """Return the message of an error without the traceback that PyTorch adds to errors in a DataLoader's worker."""
    return re.split(r'^\S+(?:Error|Exception): ', text, flags=re.MULTILINE)[-1] if text.startswith('Caught ') else text


def one_line(error: Exception) -> str:
    """Return the message of an error as one line; see `without_worker_traceback`."""
    line = ' '.join(without_worker_traceback(str(error)).split()) or type(error).__name__
    return line.encode(errors='replace').decode()  # the name of a file may contain bytes that aren't valid text
