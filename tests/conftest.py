"""Prepare all tests: import the plugin first, run torch in one thread, provide images and weights as fixtures."""

import ctypes
import gc
import os
import sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')  # for the processes that tests start, whatever else the CPU does

import cv2
import mmengine.config.config
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from oracle import build_random
from samples import SHAPES_CONFIG, SHAPES_WEIGHTS, write_shapes
from torch import nn

import rtmdet_plugin  # noqa: F401  tests that import mmdet straight away find the gaps closed
from rtmdet_plugin.checkpoints.load_model import load_model

torch.set_num_threads(1)
# Several tests train in a fork of this process. If `torch.compile` runs before the first backward pass, PyTorch's CUDA
# build starts autograd's threads in that pass, even without a GPU, and a fork can't train any more.
torch.ones(1, requires_grad=True).backward()
cv2.setNumThreads(0)  # a forked worker would wait forever for threads that OpenCV started before the fork
# Each run formats the text of its config, which takes a third of a second; no test reads the format.
mmengine.config.config.FormatCode = lambda text, **_: (text, False)


class SignalStack(ctypes.Structure):
    """Argument of `sigaltstack`: address, flags, size."""

    _fields_ = [('address', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]


NO_SIGNAL_STACK = SignalStack(None, 2, 0)  # SS_DISABLE


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look names up in mmdet, as with a config's default_scope; an earlier test may have set another scope.

    Tests marked `gpu` are skipped if there is none.
    """
    if item.get_closest_marker('gpu') and not torch.cuda.is_available():
        pytest.skip('PyTorch sees no GPU')
    init_default_scope('mmdet')
    # faulthandler installs a small stack for signal handlers. OpenVINO enables the CPU's AMX, whose registers don't fit
    # on it: any later signal, for example at the end of a DataLoader's worker, would kill the process.
    if sys.platform == 'linux':
        ctypes.CDLL(None).sigaltstack(ctypes.byref(NO_SIGNAL_STACK), None)


@pytest.fixture(scope='module', autouse=True)
def frozen_heap() -> None:
    """Let the garbage collector skip the imported packages: each dataset of mmengine runs it, for 0.4 s otherwise."""
    gc.collect()
    gc.freeze()


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
    """Folder with real datasets (`coco_tiny`, `bccd`), from RTMDET_DATA."""
    return _folder('RTMDET_DATA', 'real data')


@pytest.fixture(scope='session')
def weights_root() -> Path:
    """Folder with published weights, from RTMDET_WEIGHTS."""
    return _folder('RTMDET_WEIGHTS', 'published weights')


NEED_OPENMMLAB = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)  # before the tests that are marked slow are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    names = {'data_root', 'weights_root'}
    config.stash[NEED_OPENMMLAB] = [item.nodeid for item in items if names & set(item.fixturenames)]


@pytest.fixture
def need_openmmlab(request) -> list[str]:
    """Collected tests that skip without RTMDET_DATA or RTMDET_WEIGHTS, including those marked slow."""
    return request.config.stash[NEED_OPENMMLAB]


@pytest.fixture(scope='session')
def shapes(tmp_path_factory) -> Path:
    """Folder with generated images: train/, val/, train.json, val.json."""
    folder = tmp_path_factory.mktemp('shapes') / 'data'
    write_shapes(folder)
    return folder


@pytest.fixture(scope='session')
def shape_images(shapes) -> list[Path]:
    """Images of `shapes` to test on."""
    return sorted((shapes / 'val').iterdir())


@pytest.fixture(scope='session')
def shapes_config(shapes):
    """Return a function that returns the demo's config on `shapes`, with changes."""

    def get(changes: dict | None = None) -> Config:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv('RTMDET_DEMO_DATA', str(shapes))
            config = Config.fromfile(SHAPES_CONFIG)
        config.merge_from_dict(changes or {})
        return config

    return get


@pytest.fixture(scope='session')
def shapes_model(shapes_config) -> nn.Module:
    """The demo's detector with its trained weights, in float32. All tests share it: change only a copy."""
    return load_model(shapes_config(), SHAPES_WEIGHTS)


@pytest.fixture(scope='session')
def shapes_checkpoint(shapes_model, tmp_path_factory) -> Path:
    """Weights and classes of `shapes_model` as a training saves them."""
    path = tmp_path_factory.mktemp('checkpoint') / 'shapes.pth'
    torch.save(dict(state_dict=shapes_model.state_dict(), meta=dict(dataset_meta=shapes_model.dataset_meta)), path)
    return path


@pytest.fixture(scope='session')
def random_model():
    """Return a function that builds a size of configs/, with random weights so that boxes differ between priors.

    Only the last model is kept, to save memory.
    """
    kept = {}

    def get(size: str) -> nn.Module:
        if size not in kept:
            kept.clear()
            kept[size] = build_random(size)
        return kept[size]

    return get
