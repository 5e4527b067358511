"""Neck: shapes and bad settings; parity is in test_parity_mmdet.py."""

import pytest
import torch

from rtmdet_plugin.models import RTMCSPNeXtPAFPN


def feature_maps(channels, size=64):
    return [torch.rand(2, c, size // s, size // s) for c, s in zip(channels, (8, 16, 32, 64), strict=False)]


@pytest.mark.parametrize('channels', [(16, 32, 64), (16, 32, 48, 64)])
def test_shapes(channels):
    neck = RTMCSPNeXtPAFPN(channels, 24, num_csp_blocks=1)
    outs = neck(feature_maps(channels, size=128))
    assert [tuple(o.shape) for o in outs] == [(2, 24, 128 // s, 128 // s) for s in (8, 16, 32, 64)[: len(channels)]]


def test_every_level_reaches_every_output():
    neck = RTMCSPNeXtPAFPN((16, 32, 64), 24, num_csp_blocks=1).eval()
    for i in range(3):
        inputs = [x.requires_grad_() for x in feature_maps((16, 32, 64))]
        neck(inputs)[i].sum().backward()
        assert all(x.grad.abs().sum() > 0 for x in inputs), f'output {i}'


def test_a_backbone_of_another_width_is_named():
    neck = RTMCSPNeXtPAFPN((128, 256, 512), 128, num_csp_blocks=1)
    with pytest.raises(ValueError, match=r'in_channels must be .* \(96, 192, 384\), got \(128, 256, 512\)'):
        neck(feature_maps((96, 192, 384)))


def test_an_even_kernel_is_named():
    with pytest.raises(ValueError, match='kernel_size must be odd.*got 6'):
        RTMCSPNeXtPAFPN((16, 32, 64), 24, num_csp_blocks=1, kernel_size=6)
