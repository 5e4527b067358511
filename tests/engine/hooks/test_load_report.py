"""What is logged about a checkpoint, and which checkpoints stop the run."""

import logging
import re
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import BaseLoop
from torch import nn

from rtmdet_plugin.checkpoints.comparison import compare
from rtmdet_plugin.checkpoints.mmyolo_keys import rename
from rtmdet_plugin.engine.hooks import RTMLoadReportHook


class Net(nn.Module):
    def __init__(self, width: int = 4, num_classes: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.cls = nn.Conv2d(width, num_classes, 1)


def load(model, checkpoint, caplog, built=('train', 'val'), **kwargs):
    """Run the hook as mmengine does, in a run that has built these loops; return the log."""
    loops = {f'_{name}_loop': Mock(BaseLoop) if name in built else {} for name in ('train', 'val', 'test')}
    settings = dict(logger=logging.getLogger('load_report'), _load_from='there.pth', _resume=False)
    runner = SimpleNamespace(model=model, **settings | loops | kwargs)
    with caplog.at_level(logging.INFO, logger='load_report'):
        RTMLoadReportHook().after_load_checkpoint(runner, checkpoint)
    return caplog.text


def test_all_of_it(caplog):
    text = load(Net(), dict(state_dict=Net().state_dict()), caplog)
    assert '7 of the 7 tensors' in text and 'not loaded' not in text and 'WARNING' not in text


def test_head_of_other_classes_is_named_with_both_shapes(caplog):
    text = load(Net(num_classes=3), dict(state_dict=Net(num_classes=1).state_dict()), caplog)
    assert '5 of the 7 tensors' in text and 'WARNING' in text
    assert re.search(r'cls.weight +\(1, 4, 1, 1\) +\(3, 4, 1, 1\)\n', text)
    assert re.search(r'cls.bias +\(1,\) +\(3,\)\n', text)


def test_missing_and_unexpected_are_named(caplog):
    state = Net().state_dict()
    state['old.weight'] = state.pop('conv.weight')
    text = load(Net(), dict(state_dict=state), caplog)
    assert re.search(r'conv.weight +not there +there\n', text) and re.search(r'old.weight +there +not there\n', text)


def test_backbone_alone_is_accepted(caplog):
    state = {name: value for name, value in Net().state_dict().items() if not name.startswith('cls')}
    assert '5 of the 7 tensors' in load(Net(), state, caplog)


def test_a_long_table_is_cut_and_aligned():
    many = {f'layer{k}.weight': torch.zeros(k + 1) for k in range(25)}
    header, *rows = compare(many, {name: torch.zeros(99) for name in many}).table()
    assert len(rows) == 11 and rows[-1].strip() == '... 15 more of this kind'
    assert {row.index('(99,)') for row in rows[:-1]} == {header.index('checkpoint')}
    assert rows[3].split() == ['layer3.weight', '(99,)', '(4,)']


def test_prefix_of_a_wrapped_model_does_not_count():
    state = {f'module.{name}': value for name, value in Net().state_dict().items()}
    assert compare(Net().state_dict(), state).complete


def test_checkpoint_of_another_size_stops_the_run(caplog):
    with pytest.raises(ValueError, match=r'there.pth.*0 of the 7(.|\n)*conv.weight +\(8, 3, 1, 1\) +\(4, 3, 1, 1\)\n'):
        load(Net(width=4), dict(state_dict=Net(width=8, num_classes=2).state_dict()), caplog)


def test_checkpoint_of_something_else_stops_the_run(caplog):
    with pytest.raises(ValueError, match=r"'there.pth'.*0 of the 0(.|\n)*conv.weight +not there(.|\n)*other +there"):
        load(Net(), dict(state_dict=dict(other=torch.zeros(1))), caplog)


@pytest.mark.parametrize('built', [['val'], ['test'], ['val', 'test']], ids=str)
def test_evaluation_needs_the_whole_model(caplog, built):
    complete = Net().state_dict()
    with_extra = dict(complete, **{'old.weight': torch.zeros(1)})
    without_counter = {name: value for name, value in with_extra.items() if not name.endswith('num_batches_tracked')}
    assert '7 of the 7' in load(Net(), without_counter, caplog, built)
    with pytest.raises(
        ValueError, match=r"'there.pth' does not hold all.*\n5 of the 7(.|\n)*cls.bias +\(1,\) +\(3,\)\n"
    ):
        load(Net(num_classes=3), Net(num_classes=1).state_dict(), caplog, built)
    del complete['bn.bias']
    with pytest.raises(ValueError, match='bn.bias +not there +there'):
        load(Net(), complete, caplog, built)


def test_only_the_loops_of_the_run_count(caplog):
    """A user's own `runner.load_checkpoint()`, before any loop is built, is checked as in training."""
    for built in ([], ['train'], ['train', 'val', 'test']):
        assert '5 of the 7' in load(Net(num_classes=3), Net(num_classes=1).state_dict(), caplog, built)


@pytest.mark.parametrize('latest', [True, False])
def test_a_resumed_file_is_named(caplog, tmp_path, latest):
    (tmp_path / 'last_checkpoint').write_text('epoch_7.pth')
    other = Net(width=8).state_dict()
    name = 'epoch_7.pth' if latest else 'mine.pth'
    with pytest.raises(ValueError, match=f"^resume from '{name}' does not fit"):
        load(Net(), other, caplog, _resume=True, _load_from=None if latest else name, work_dir=str(tmp_path))


def test_mmyolos_weights_are_renamed_for_the_report_and_the_ema(shapes_model, caplog):
    checkpoint = dict(state_dict=rename(shapes_model.state_dict(), 'mmyolo'), meta={})
    total = len(compare(shapes_model.state_dict(), {}).missing)
    text = load(shapes_model, checkpoint, caplog, ['test'])
    assert f'{total} of the {total} tensors' in text and "The checkpoint is mmyolo's" in text
    assert checkpoint['state_dict'].keys() == shapes_model.state_dict().keys()


def test_a_run_of_mmyolo_can_not_be_resumed(shapes_model, caplog):
    checkpoint = dict(state_dict=rename(shapes_model.state_dict(), 'mmyolo'), meta={})
    with pytest.raises(ValueError, match="^resume from 'there.pth' must be .* got mmyolo's, .* load_from=FILE"):
        load(shapes_model, checkpoint, caplog, _resume=True)


def test_weights_that_the_head_would_decode_wrongly(shapes_model, caplog):
    checkpoint = dict(state_dict=shapes_model.state_dict(), meta=dict(exp_on_reg=True))
    with pytest.raises(
        ValueError, match="^load_from='there.pth': model.bbox_head.exp_on_reg must be True, .* got False"
    ):
        load(shapes_model, checkpoint, caplog)


def test_a_checkpoint_with_masks_for_a_model_without_and_the_reverse(shapes_model, caplog):
    boxes = shapes_model.state_dict()
    masks = boxes | {'bbox_head.rtm_kernel.0.weight': torch.zeros(169, 4, 1, 1)}
    meta = dict(exp_on_reg=True)  # of no importance to a model with masks
    reason = r'the checkpoint is that of a model with masks \(RTMDet-Ins\), and this model predicts none'
    with pytest.raises(
        ValueError, match=f"^load_from='there.pth' does not fit: {reason}; use the config that it was .*$"
    ):
        load(shapes_model, dict(state_dict=masks, meta=meta), caplog, ['test'])
    assert re.search(reason, load(shapes_model, dict(state_dict=masks, meta=meta), caplog, ['train']))
    with pytest.raises(
        ValueError, match=f"^resume from 'there.pth' does not fit: {reason}; use the config .*, or .* load_from=FILE"
    ):
        load(shapes_model, dict(state_dict=masks, meta=meta), caplog, ['train'], _resume=True)

    model = Mock(spec=nn.Module, state_dict=lambda: masks)
    with pytest.raises(ValueError, match='without masks, and this model predicts masks'):
        load(model, dict(state_dict=boxes), caplog, ['test'])
    text = load(model, dict(state_dict=boxes), caplog, ['train'])
    assert 'without masks, and this model predicts masks (RTMDet-Ins); layers that it lacks are trained' in text
    assert 'mmyolo' not in text
    assert re.search(r'bbox_head.reg_convs.0.0.conv.weight +not there', text)


@pytest.mark.parametrize('kind', ['train', 'val', 'test'])
def test_real_runs(make_runner, coco, tmp_path, kind):
    """If one tensor is missing, training continues, but evaluation stops."""
    toy = make_runner().model
    state = toy.state_dict()
    del state['conv.bias']
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'part.pth')
    hooks = dict(load_report=dict(type='RTMLoadReportHook'))
    val = coco(test_mode=True)
    loader = dict(batch_size=5, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=val)
    testing = dict(test_dataloader=loader, test_cfg=dict(type='TestLoop'), test_evaluator=Evaluator(metrics=[]))
    runner = make_runner(
        max_epochs=1, model=toy, hooks=hooks, val_dataset=val, load_from=str(tmp_path / 'part.pth'), **testing
    )
    if kind == 'train':
        runner.train()
        assert '5 of the 6 tensors' in runner.log() and re.search('conv.bias +not there', runner.log())
    else:
        with pytest.raises(ValueError, match='conv.bias +not there +there'):
            getattr(runner, kind)()
