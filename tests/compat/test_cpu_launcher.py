"""Which initialisation of the process group mmengine uses; tests/engine/runner/test_distributed.py runs processes."""

import pytest
import torch
from mmengine.dist import utils as dist_utils

from rtmdet_plugin.compat import cpu_launcher


@pytest.fixture
def untouched(monkeypatch):
    """Restore mmengine's function for the duration of a test."""

    def original(backend, init_backend='torch', **kwargs):
        pass

    monkeypatch.setattr(dist_utils, '_init_dist_pytorch', original)
    return original


def test_without_gpu_gloo_whatever_the_config_says(untouched, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    asked = {}
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda **kwargs: asked.update(kwargs))
    cpu_launcher.allow_cpu_launcher()
    dist_utils._init_dist_pytorch('nccl', timeout=5)
    assert asked == dict(backend='gloo', timeout=5)


def test_with_gpu_nothing_changes(untouched, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cpu_launcher.allow_cpu_launcher()
    assert dist_utils._init_dist_pytorch is untouched


@pytest.mark.parametrize('kind', ['mlu', 'npu', 'musa'])
def test_with_another_accelerator_nothing_changes(untouched, monkeypatch, kind):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setattr(dist_utils, f'is_{kind}_available', lambda: True)
    cpu_launcher.allow_cpu_launcher()
    assert dist_utils._init_dist_pytorch is untouched
