"""What every test relies on: the plugin is imported first, torch uses one thread, data comes from the environment."""

import ctypes
import os
import sys
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.registry import init_default_scope

import rtmdet_plugin  # noqa: F401  tests that import mmdet straight away find the gaps closed

torch.set_num_threads(1)
cv2.setNumThreads(0)  # a forked worker would wait for ever for threads that OpenCV had started before the fork


class SignalStack(ctypes.Structure):
    """What `sigaltstack` takes: address, flags, size."""

    _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


NO_SIGNAL_STACK = SignalStack(None, 2, 0)  # SS_DISABLE


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Names are looked up in mmdet, as under a config's default_scope; the test before may have left another."""
    init_default_scope('mmdet')
    # faulthandler gives signals a small stack of their own. OpenVINO switches on the CPU's AMX, whose registers don't
    # fit on it: from then on any signal, such as the end of a DataLoader's worker, would end the process.
    if sys.platform == 'linux':
        ctypes.CDLL(None).sigaltstack(ctypes.byref(NO_SIGNAL_STACK), None)


def _folder(variable: str, what: str) -> Path:
    value = os.environ.get(variable, '')
    if not value:
        pytest.skip(f'{variable} is not set: no {what}')
    path = Path(value).resolve()
    if not path.is_dir():
        pytest.skip(f'{variable}={value} is not a folder: no {what}')
    return path


@pytest.fixture(scope='session')
def data_root() -> Path:
    """Folder with real data sets (`coco_tiny`, `bccd`), from RTMDET_DATA."""
    return _folder('RTMDET_DATA', 'real data')


@pytest.fixture(scope='session')
def weights_root() -> Path:
    """Folder with published weights, from RTMDET_WEIGHTS."""
    return _folder('RTMDET_WEIGHTS', 'published weights')
