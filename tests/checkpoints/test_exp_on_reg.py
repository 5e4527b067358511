"""How a checkpoint says whether its regression predicts logarithms."""

import pytest
import torch

from rtmdet_plugin.checkpoints.exp_on_reg import mmdet_exp_on_reg, recorded_exp_on_reg

CONFIG = "model = dict(backbone=dict(exp_on_reg=0), bbox_head=dict(type='X', exp_on_reg={}), neck=None)\n"


@pytest.mark.parametrize(
    ('meta', 'expected'),
    [
        (None, None),
        ([1], None),
        ({}, None),
        (dict(exp_on_reg=False), False),
        (dict(exp_on_reg=True, cfg=CONFIG.format(False)), True),
        (dict(cfg=CONFIG.format(True)), True),
        (dict(cfg='lr = 1\n' + CONFIG.format(False)), False),
        (dict(cfg=CONFIG.format('open("x")')), None),
        (dict(cfg=CONFIG.format(1)), None),
        (dict(cfg='model = dict(detector=dict(bbox_head=dict(exp_on_reg=True)))'), None),
        (dict(cfg='model = ('), None),
        (dict(cfg='\0'), None),
        (dict(cfg=dict(model=1)), None),
    ],
)
def test_recorded(meta, expected):
    assert recorded_exp_on_reg(meta) is expected


def test_an_entry_that_is_no_bool():
    with pytest.raises(ValueError, match="must be true or false, got 'False'"):
        recorded_exp_on_reg(dict(exp_on_reg='False'))


@pytest.mark.parametrize(('width', 'expected'), [(64, False), (96, False), (128, False), (192, True), (320, True)])
def test_by_the_width_of_mmdets_sizes_unless_it_is_recorded(width, expected):
    state = {'module.bbox_head.rtm_reg.0.weight': torch.zeros(4, width, 1, 1)}
    assert mmdet_exp_on_reg(state, {}) is expected
    assert mmdet_exp_on_reg(state, dict(exp_on_reg=not expected)) is not expected


def test_a_width_that_mmdet_does_not_have():
    state = {'bbox_head.rtm_reg.0.weight': torch.zeros(4, 160, 1, 1)}
    with pytest.raises(
        ValueError, match='exp_on_reg must be known, .* with 160 channels in bbox_head.rtm_reg.0.weight'
    ):
        mmdet_exp_on_reg(state, {})
    assert mmdet_exp_on_reg(state, dict(exp_on_reg=False)) is False
