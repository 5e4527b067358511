"""A non-finite step doesn't change the run's state, and the log describes it."""

import copy
import math

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.structures import InstanceData
from test_configs import ROOT
from torch import nn

from rtmdet_plugin.engine.hooks import RTMCheckInvalidLossHook
from rtmdet_plugin.engine.hooks.faults.check_invalid_loss import describe

HOOKS = dict(check_invalid_loss=dict(type='RTMCheckInvalidLossHook'))
EMA = dict(type='EMAHook', ema_type='RTMExpMomentumEMA', update_buffers=True, priority=49)
FUSED = dict(optimizer=dict(type='AdamW', lr=0.01), constructor='RTMOptimWrapperConstructor')
SGD = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1))


class Faulty(BaseModel):
    """A model with two loss terms, and a fault at each forward pass that is in `faults`, counted from 0."""

    def __init__(self, faults: dict[int, str] | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.bn = nn.BatchNorm2d(2)
        self.faults = faults or {}
        self.count = -1

    def forward(self, inputs, data_samples=None, mode='tensor'):
        self.count += 1
        fault = self.faults.get(self.count)
        inputs = torch.stack(inputs).float() / 255
        out = self.bn(self.conv(inputs * math.nan if fault == 'image' else inputs))
        loss_bbox = (out - 2).abs().mean()
        if fault == 'nan':
            loss_bbox = loss_bbox * math.nan
        if fault == 'constant':  # an infinite loss with a finite gradient
            loss_bbox = loss_bbox + math.inf
        if fault == 'gradient':  # a finite loss with an infinite gradient, that of a root at 0
            loss_bbox = loss_bbox + (out * 0).square().sum().sqrt()
        if fault == 'overflow':  # float32 overflows after the loss scaler has multiplied the loss by 2**16
            loss_bbox = loss_bbox + (out - out.detach()).sum() * 1e36
        return dict(loss_cls=(out - 1).square().mean(), loss_bbox=[loss_bbox])


class Watch(Hook):
    """Records the state of the run after each iteration."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.states: list[dict] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        optimizer = runner.optim_wrapper.optimizer
        assert not hasattr(optimizer, 'found_inf')
        state = {f'{k}/{name}': v for k, s in optimizer.state_dict()['state'].items() for name, v in s.items()}
        self.states.append(copy.deepcopy({**runner.model.state_dict(), **state}))


@pytest.fixture
def train(make_runner):
    """Run epochs of two steps; return the runner, whose `states` are those after each step."""

    def run(faults=None, hooks=HOOKS, **kwargs):
        torch.manual_seed(0)
        watch = Watch()
        kwargs = {'optim_wrapper': FUSED, **kwargs}
        runner = make_runner(model=Faulty(faults), hooks=hooks, **copy.deepcopy(kwargs))
        runner.register_hook(watch)
        runner.states = watch.states
        runner.train()
        return runner

    return run


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)


@pytest.mark.parametrize('optim_wrapper', [FUSED, SGD, dict(FUSED, type='RTMBFloat16OptimWrapper')])
@pytest.mark.parametrize('fault', ['nan', 'constant', 'gradient', 'image'])
def test_a_bad_step_leaves_nothing_behind(train, fault, optim_wrapper):
    runner = train({1: fault, 3: fault}, hooks=dict(HOOKS, ema=EMA), max_epochs=3, optim_wrapper=optim_wrapper)
    states = runner.states
    assert len(states) == 6
    assert [equal(a, b) for a, b in zip(states, states[1:], strict=False)] == [True, False, True, False, False]
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.state_dict()
    for values in (states[-1], averaged):
        assert all(torch.isfinite(torch.as_tensor(value)).all() for value in values.values())


@pytest.mark.parametrize('optim_wrapper', [FUSED, SGD])
def test_a_sound_run_is_the_same_bit_for_bit(train, optim_wrapper):
    with_hook = train(max_epochs=2, optim_wrapper=optim_wrapper)
    without = train(max_epochs=2, optim_wrapper=optim_wrapper, hooks={})
    assert len(with_hook.states) == 4
    assert all(equal(a, b) for a, b in zip(with_hook.states, without.states, strict=True))
    assert 'left out' not in with_hook.log()


def test_the_log_names_step_term_and_files(train):
    log = train({1: 'nan', 3: 'gradient'}, max_epochs=2).log()
    first, second = (text for text in log.split(' - ') if 'skipped: ' in text)
    assert 'Step 2 skipped: a loss is not finite.' in first and 'loss_bbox=nan' in first and 'loss_cls=1.' in first
    for i in range(10):
        assert (f'img/{i}.png' in first) == (i >= 5), 'the last five images'
    assert 'Step 4 skipped: the losses are finite, the gradient of conv.weight, conv.bias, bn.weight and of 1' in second
    assert 'Epoch 1: 1 steps skipped' in log and 'Epoch 2: 1 steps skipped' in log


def test_the_mean_of_the_log_stays_a_number(train):
    hooks = dict(HOOKS, runtime_info=dict(type='RTMRuntimeInfoHook'), logger=dict(type='LoggerHook', interval=1))
    lines = [line for line in train({1: 'nan'}, hooks=hooks, max_epochs=2).log().splitlines() if '  loss: ' in line]
    assert len(lines) == 4 and not any('loss: nan' in line for line in lines)
    hooks.pop('check_invalid_loss')
    assert 'loss: nan' in train({1: 'nan'}, hooks=hooks, max_epochs=2).log(), 'if no other hook reports it'


@pytest.mark.parametrize(('fault', 'optim_wrapper'), [('nan', FUSED), ('image', SGD), ('gradient', FUSED)])
def test_accumulated_batches_are_left_out_together(train, fault, optim_wrapper):
    # The second of three batches is bad; two steps of three batches each.
    runner = train(
        {1: fault}, hooks=dict(HOOKS, ema=EMA), max_epochs=3, optim_wrapper=dict(optim_wrapper, accumulative_counts=3)
    )
    weights = [state['conv.weight'] for state in runner.states]
    assert [torch.equal(weights[0], w) for w in weights] == [True] * 5 + [False]
    averaged = next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model.state_dict()
    assert all(torch.isfinite(value).all() for value in averaged.values())
    assert runner.log().count('skipped:') == 1
    (line,) = (text for text in runner.log().split(' - ') if 'skipped:' in text)
    count = 5 if fault != 'gradient' else 15  # of the faulty batch, or of all three if no loss shows it
    assert line.count('.png') == count


def test_too_many_in_a_row_stop_the_run_with_the_last_checkpoint(train, tmp_path):
    hooks = dict(HOOKS, checkpoint=dict(type='CheckpointHook', interval=1))
    hooks['check_invalid_loss'] = dict(type='RTMCheckInvalidLossHook', max_consecutive=3)
    faults = dict.fromkeys([0, 1, 3, 4, 5], 'nan')  # two faulty steps, a valid one, three faulty ones
    with pytest.raises(FloatingPointError, match='3 steps in a row') as error:
        train(faults, hooks=hooks, max_epochs=5)
    # The run stopped in the third epoch; the second checkpoint was written after the first bad step of the row.
    assert (tmp_path / 'work' / 'epoch_2.pth').exists() and not (tmp_path / 'work' / 'epoch_3.pth').exists()
    assert 'Last checkpoint before them: ' + str(tmp_path / 'work' / 'epoch_1.pth') in str(error.value)
    assert 'Step 6' in str(error.value) and 'img/9.png' in str(error.value)


def test_without_a_checkpoint_it_says_so(train):
    with pytest.raises(FloatingPointError, match='10 steps in a row.*\n.*\n.*before them: none was written'):
        train(dict.fromkeys(range(99), 'nan'), max_epochs=6)


@OPTIM_WRAPPERS.register_module()
class ScaledOnCPU(AmpOptimWrapper):
    """Makes the steps of mmengine's wrapper, which refuses CPUs, with a loss scaler that works there, in float32."""

    def __init__(self, **kwargs) -> None:
        OptimWrapper.__init__(self, **kwargs)
        self.loss_scaler = torch.amp.GradScaler('cpu', init_scale=2.0**16)
        self._scale_update_param = None

    def optim_context(self, model):
        return OptimWrapper.optim_context(self, model)


@pytest.mark.parametrize('optim_wrapper', [FUSED, SGD])
def test_a_loss_scalers_own_skip_is_told_apart(train, optim_wrapper):
    runner = train({1: 'overflow', 2: 'nan'}, max_epochs=3, optim_wrapper=dict(optim_wrapper, type='ScaledOnCPU'))
    states, log = runner.states, runner.log()
    assert [equal(a, b) for a, b in zip(states, states[1:], strict=False)] == [True, True, False, False, False]
    assert 'Epoch 1: 0 steps skipped because of a loss or gradient that is not finite; 1 by the loss scaler' in log
    assert 'Epoch 2: 1 steps skipped because of a loss or gradient that is not finite; 0 by the loss scaler' in log
    assert log.count('skipped: ') == 1 and 'Step 3 skipped: a loss is not finite' in log
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0**14


def test_a_gradient_that_no_scale_helps_stops_the_run(train):
    """With NaN in every gradient the scale first falls to 1; from then on the skips aren't the scaler's."""
    with pytest.raises(FloatingPointError, match='10 steps in a row'):
        faults = dict.fromkeys(range(99), 'gradient')
        train(faults, max_epochs=40, optim_wrapper=dict(FUSED, type='ScaledOnCPU'))


def test_pictures_without_objects_are_no_fault(make_runner):
    config = Config.fromfile(ROOT / 'configs' / 'rtmdet_nano.py')
    model = MODELS.build(config.model).train()
    hook = RTMCheckInvalidLossHook()
    runner = make_runner(model=model, optim_wrapper=FUSED)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_train(runner)
    sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), img_path='empty.png'))
    sample.gt_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    data = dict(inputs=[torch.zeros(3, 64, 64)] * 2, data_samples=[sample, sample.clone()])
    runner.train_loop  # noqa: B018  builds the loop that `runner.iter` reads
    before = model.bbox_head.rtm_cls[0].weight.clone()
    hook.before_train_iter(runner, 0, data)
    losses = model.train_step(data, runner.optim_wrapper)
    hook.after_train_iter(runner, 0, data, losses)
    assert losses['loss_bbox'] == 0 and not before.equal(model.bbox_head.rtm_cls[0].weight)
    assert hook._in_a_row == 0 and 'left out' not in runner.log()


def test_a_checkpoint_of_another_optimiser_brings_its_setting(train, make_runner, tmp_path):
    """An optimiser that is resumed from one that isn't fused isn't fused either, and takes no flag on the device."""
    checkpoint = dict(type='CheckpointHook', interval=1)
    train(hooks=dict(HOOKS, checkpoint=checkpoint), max_epochs=1, optim_wrapper=dict(optimizer=dict(type='AdamW')))
    path = str(tmp_path / 'work' / 'epoch_1.pth')
    states = train({0: 'nan'}, max_epochs=2, resume=True, load_from=path).states
    assert len(states) == 2 and not equal(*states)
    assert equal(states[0], train({0: 'nan', 1: 'nan'}, max_epochs=2, resume=True, load_from=path).states[1])


def test_processes_at_fault_are_told():
    sound = dict(finite=True, losses=[dict(loss_cls=0.5)], files=['a.jpg'], gradients=['w'])
    broken = dict(finite=False, losses=[dict(loss_cls=math.inf)], files=['b.jpg', 'c.jpg'], gradients=['w'])
    assert describe(7, [sound, broken]) == (
        'Step 7 skipped: a loss is not finite.\n  process 1: loss_cls=inf. Files: b.jpg, c.jpg'
    )


def test_settings_are_checked():
    with pytest.raises(ValueError, match='max_consecutive must be at least 1, got 0'):
        RTMCheckInvalidLossHook(max_consecutive=0)
