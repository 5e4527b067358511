"""Averaged weights equal mmdet's if no tensor is shared; a shared tensor is updated once per step."""

import copy
import math

import pytest
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from torch import nn

from rtmdet_plugin.models import RTMExpMomentumEMA

SETTINGS = dict(momentum=0.0002, gamma=2000, update_buffers=True)


class Levels(BaseModel):
    """A head like RTMDet's: one convolution for all levels, one BN per level, or one for all with `share_norm`."""

    def __init__(self, levels: int, share_norm: bool = False) -> None:
        super().__init__()
        self.register_buffer('constant', torch.tensor(0.1), persistent=False)
        convs = [nn.Conv2d(3, 4, 1)] * levels
        norms = [nn.BatchNorm2d(4)] * levels if share_norm else [nn.BatchNorm2d(4) for _ in range(levels)]
        self.branches = nn.ModuleList(nn.Sequential(*pair) for pair in zip(convs, norms, strict=True))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = torch.stack(inputs).float() / 255 if isinstance(inputs, list) else inputs
        out = sum(branch(images) for branch in self.branches)
        return dict(loss=(out - 1).square().mean()) if mode == 'loss' else [out.mean()]


def wander(model: nn.Module, seed: int) -> None:
    """Change every weight and buffer, each tensor once."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.dtype.is_floating_point:
                tensor.add_(torch.randn(tensor.shape, generator=generator))
            else:
                tensor.add_(1)


def momentum(step: int) -> float:
    return (1 - 0.0002) * math.exp(-(1 + step) / 2000) + 0.0002


def unshared() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 2))


@pytest.mark.parametrize('update_buffers', [True, False])
@pytest.mark.parametrize('interval', [1, 3])
def test_equals_mmdets_where_nothing_is_shared(update_buffers, interval):
    model = unshared()
    settings = dict(SETTINGS, update_buffers=update_buffers, interval=interval)
    ours, theirs = RTMExpMomentumEMA(model, **settings), ExpMomentumEMA(model, **settings)
    for step in range(200):
        wander(model, step)
        ours.update_parameters(model)
        theirs.update_parameters(model)
    for (key, tensor), (other, expected) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert key == other
        if not key.endswith('num_batches_tracked'):
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6, msg=key)


def test_counters_follow_the_model():
    model = unshared()
    ours = RTMExpMomentumEMA(model, **SETTINGS)
    for step in range(5):
        wander(model, step)
        ours.update_parameters(model)
    assert ours.module[1].num_batches_tracked == 5 == model[1].num_batches_tracked


@pytest.mark.parametrize('share_norm', [False, True])
@pytest.mark.parametrize('levels', [1, 2, 3, 4])
def test_trap_shared_tensors_are_updated_once(levels, share_norm):
    model = Levels(levels, share_norm)
    ours, theirs = RTMExpMomentumEMA(model, **SETTINGS), ExpMomentumEMA(model, **SETTINGS)
    expected = None
    for step in range(50):
        wander(model, step)
        now = {k: v.clone().double() for k, v in model.state_dict().items()}
        m = momentum(step)
        expected = now if step == 0 else {k: (1 - m) * v + m * now[k] for k, v in expected.items()}
        ours.update_parameters(model)
        theirs.update_parameters(model)
    for key, value in ours.module.state_dict().items():
        if value.dtype.is_floating_point:
            torch.testing.assert_close(value.double(), expected[key], rtol=1e-5, atol=1e-5)
    conv = 'branches.0.0.weight'
    mmdets_fits = torch.allclose(theirs.module.state_dict()[conv].double(), expected[conv], rtol=1e-3)
    assert mmdets_fits == (levels == 1), 'mmdet updates a shared tensor once for each of its names'


def test_sharing_survives_the_copy():
    ema = RTMExpMomentumEMA(Levels(3), **SETTINGS)
    branches = ema.module.branches
    assert branches[0][0].weight is branches[2][0].weight
    again = copy.deepcopy(ema)
    assert again.module.branches[0][0].weight is again.module.branches[2][0].weight


def test_state_dict_is_mmdets():
    model = Levels(3)
    ours, theirs = RTMExpMomentumEMA(model, **SETTINGS), ExpMomentumEMA(model, **SETTINGS)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for step in range(3):
        wander(model, step)
        theirs.update_parameters(model)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert ours.steps == 3
    # The averaged tensors still share their memory with the module.
    wander(model, 9)
    before = ours.module.branches[0][0].weight.clone()
    ours.update_parameters(model)
    assert not torch.equal(before, ours.module.branches[0][0].weight)


def test_constants_outside_the_state_dict_stay():
    model = Levels(2)
    ema = RTMExpMomentumEMA(model, **SETTINGS)
    for _ in range(500):
        ema.update_parameters(model)
    assert torch.equal(ema.module.constant, model.constant)


@pytest.mark.parametrize('share_norm', [False, True])
@pytest.mark.parametrize('levels', [1, 2, 3, 4])
def test_hook_swaps_shared_tensors_once(levels, share_norm):
    model = Levels(levels, share_norm)
    hook = EMAHook()
    hook.src_model = model
    hook.ema_model = RTMExpMomentumEMA(model, **SETTINGS)
    wander(model, 1)
    trained = copy.deepcopy(model.state_dict())
    averaged = copy.deepcopy(hook.ema_model.module.state_dict())
    assert not torch.equal(trained['branches.0.0.weight'], averaged['branches.0.0.weight'])

    hook._swap_ema_parameters()
    assert same(model.state_dict(), averaged) and same(hook.ema_model.module.state_dict(), trained)
    hook._swap_ema_parameters()
    assert same(model.state_dict(), trained) and same(hook.ema_model.module.state_dict(), averaged)

    checkpoint = dict(state_dict=copy.deepcopy(trained), ema_state_dict=hook.ema_model.state_dict())
    hook._swap_ema_state_dict(checkpoint)
    assert same(checkpoint['state_dict'], averaged)


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_real_run_and_resume_give_the_same_average(make_runner, tmp_path):
    ema = dict(type='EMAHook', ema_type='RTMExpMomentumEMA', priority=49, **SETTINGS)
    hooks = dict(ema=ema, checkpoint=dict(type='CheckpointHook', interval=1))

    def run(**kwargs) -> dict:
        torch.manual_seed(0)
        make_runner(max_epochs=3, model=Levels(3), hooks=hooks, **kwargs).train()
        return torch.load(tmp_path / 'work' / 'epoch_3.pth', weights_only=False)

    complete = run()
    resumed = run(resume=True, load_from=str(tmp_path / 'work' / 'epoch_2.pth'))
    assert resumed['ema_state_dict']['steps'] == 6
    for part in ('state_dict', 'ema_state_dict'):
        torch.testing.assert_close(resumed[part], complete[part])
    key = 'branches.0.0.weight'
    assert not torch.equal(complete['state_dict'][key], complete['ema_state_dict'][f'module.{key}'])
