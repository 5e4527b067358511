"""Groups per setting make the same steps as mmengine's groups per parameter."""

import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

init_default_scope('mmdet')
RECIPE = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.004, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    shared = nn.Conv2d(4, 4, 3, padding=1)
    norms = [nn.BatchNorm2d(4) for _ in range(3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 1), norms[0], shared, norms[1], shared, norms[2])
    # In training mode the gradient of a bias before a norm is only rounding error, which Adam scales to full steps.
    return model.eval()


def train(model: nn.Module, cfg: dict, steps: int = 5):
    optim_wrapper = build_optim_wrapper(model, copy.deepcopy(cfg))
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(2, 3, 8, 8, generator=generator)
        optim_wrapper.update_params((model(x) - 1).square().mean())
    return optim_wrapper


@pytest.mark.parametrize('extra', [{}, dict(custom_keys={'0': dict(lr_mult=0.1)})])
def test_the_same_steps(extra):
    cfg = copy.deepcopy(RECIPE)
    cfg['paramwise_cfg'].update(extra)
    ours, theirs = make_model(), make_model()
    mine = train(ours, dict(cfg, constructor='RTMOptimWrapperConstructor'))
    others = train(theirs, cfg)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=1e-4, atol=1e-5)
    assert len(others.optimizer.param_groups) == 10  # one per parameter
    assert len(mine.optimizer.param_groups) == (3 if extra else 2)


def test_weights_decay_and_norms_and_biases_do_not():
    groups = train(make_model(), dict(RECIPE, constructor='RTMOptimWrapperConstructor'), steps=0).optimizer.param_groups
    by_decay = {group['weight_decay']: [p.dim() for p in group['params']] for group in groups}
    assert by_decay == {0.05: [4, 4], 0.0: [1] * 8}


def test_another_optimizer_and_a_chosen_kernel_stay():
    cfg = dict(RECIPE, constructor='RTMOptimWrapperConstructor')
    plain = dict(cfg, optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.1, fused=False))
    assert train(make_model(), plain, 1).optimizer.defaults['fused'] is False
    assert (
        train(make_model(), dict(cfg, optimizer=dict(type='RMSprop', lr=0.1, weight_decay=0.1)), 1).optimizer.defaults[
            'lr'
        ]
        == 0.1
    )
