"""What the log says about a checkpoint, and which checkpoints stop the run."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rtmdet_plugin.hooks import RTMLoadReportHook
from rtmdet_plugin.hooks.load_report import compare


class Net(nn.Module):
    def __init__(self, width: int = 4, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.cls = nn.Conv2d(width, num_classes, 1)


def load(model, checkpoint, caplog):
    """Run the hook as mmengine does; returns the log."""
    logger = logging.getLogger('load_report')
    runner = SimpleNamespace(model=model, logger=logger, cfg=dict(load_from='there.pth'))
    with caplog.at_level(logging.INFO, logger='load_report'):
        RTMLoadReportHook().after_load_checkpoint(runner, checkpoint)
    return caplog.text


def test_all_of_it(caplog):
    text = load(Net(), dict(state_dict=Net().state_dict()), caplog)
    assert '7 of the 7 tensors' in text and 'not loaded' not in text and 'WARNING' not in text


def test_head_of_other_classes_is_named_with_both_shapes(caplog):
    text = load(Net(num_classes=3), dict(state_dict=Net(num_classes=1).state_dict()), caplog)
    assert '5 of the 7 tensors' in text and 'WARNING' in text
    assert 'cls.weight: checkpoint (1, 4, 1, 1), model (3, 4, 1, 1)' in text
    assert 'cls.bias: checkpoint (1,), model (3,)' in text


def test_missing_and_unexpected_are_named(caplog):
    state = Net().state_dict()
    state['old.weight'] = state.pop('conv.weight')
    text = load(Net(), dict(state_dict=state), caplog)
    assert 'not in the checkpoint: conv.weight' in text and 'not in the model: old.weight' in text


def test_backbone_alone_is_accepted(caplog):
    state = {name: value for name, value in Net().state_dict().items() if not name.startswith('cls')}
    assert '5 of the 7 tensors' in load(Net(), state, caplog)


def test_prefix_of_a_wrapped_model_does_not_count():
    state = {f'module.{name}': value for name, value in Net().state_dict().items()}
    assert compare(Net().state_dict(), state).complete


def test_checkpoint_of_another_size_stops_the_run(caplog):
    with pytest.raises(ValueError, match=r'there.pth.*0 of the 7.*\(8, 3, 1, 1\) there and \(4, 3, 1, 1\) in'):
        load(Net(width=4), dict(state_dict=Net(width=8, num_classes=2).state_dict()), caplog)


def test_checkpoint_of_something_else_stops_the_run(caplog):
    with pytest.raises(ValueError, match=r"'there.pth'.*0 of the 0.*it holds other; the model conv.weight"):
        load(Net(), dict(state_dict=dict(other=torch.zeros(1))), caplog)
