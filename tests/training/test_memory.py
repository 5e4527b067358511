"""The memory of a training step, traced without running it."""

import pytest
import torch
from torch import nn

from rtmdet_plugin.checkpoints.load_model import load_config
from rtmdet_plugin.training import memory


class Network(nn.Module):
    """A network whose activations can be counted by hand."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Conv2d(3, 10, 1, bias=False)
        self.neck = nn.Sequential(nn.Sigmoid(), nn.Sigmoid())

    def bbox_head(self, features):
        return [features], [features.exp()]


def test_what_the_backward_pass_needs_is_counted_once(monkeypatch):
    """Saved: the image (3 channels), the results of both sigmoids, and that of exp (10 each)."""
    monkeypatch.setattr(memory, '_build', lambda model, device: Network().to(device))
    assert memory.traced({}, 32) == (4 * 30, 4 * 33 * 32 * 32)


def test_a_step_of_nano_takes_what_was_traced(monkeypatch):
    """PyTorch's profiler counts what a real step keeps allocated until the backward pass."""
    config = load_config('rtmdet_plugin::rtmdet_nano.py').model
    _, per_image = memory.traced(config, 64)
    network = memory._build(config, 'cpu')
    with torch.profiler.profile(profile_memory=True) as profile:
        outputs = memory._forward(network, torch.zeros(8, 3, 64, 64))
    allocated = sum(event.self_device_memory_usage or event.self_cpu_memory_usage for event in profile.key_averages())
    assert len(outputs) == 6 and allocated == pytest.approx(8 * per_image, rel=0.1)


def test_free_memory_amp_and_unknown_memory(monkeypatch):
    monkeypatch.setattr(memory, 'traced', lambda model, size: (10, 100))
    monkeypatch.setattr(memory, 'free_memory', lambda: 7)
    assert memory.step_memory({}, 320, 'cpu', amp=False) == (50, 100, 7)
    assert memory.step_memory({}, 320, 'cpu', amp=True) == (50, 60, 7)
    monkeypatch.setattr(memory, 'free_memory', lambda: None)
    assert memory.step_memory({}, 320, 'cpu', amp=False) is None


def test_the_line_through_two_measurements():
    assert memory.line((2, 4), [30, 50]) == (10, 10)
    assert memory.line((2, 4), [30, 70]) == (0, 20), 'never below 0'
