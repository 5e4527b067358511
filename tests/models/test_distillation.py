"""The distillation loss, against values computed by hand."""

import math

import pytest
import torch
from mmdet.registry import MODELS
from torch import nn

from rtmdet_plugin.models.distillation import (
    FeatureRecorder,
    NeckDistillationLoss,
    channel_wise_divergence,
    output_convs,
)


@pytest.mark.parametrize('tau', [1.0, 2.0])
def test_divergence_of_two_positions(tau):
    # One channel of two images. The student's softmax over the two positions is (1/4, 3/4), the teacher's (1/2, 1/2).
    student = tau * torch.tensor([0, math.log(3)]).expand(2, 1, 1, 2)
    teacher = torch.full((2, 1, 1, 2), 5.0)
    expected = tau**2 * 0.5 * math.log(4 / 3)
    assert channel_wise_divergence(student, teacher, tau).item() == pytest.approx(expected, rel=1e-5)
    assert channel_wise_divergence(teacher, teacher, tau).item() == 0


def test_divergence_is_a_mean_over_images_and_channels():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 5, 4, 6)  # (2, B, C, H, W)
    p, q = (x.flatten(2).softmax(2) for x in (teacher, student))
    expected = (p * (p / q).log()).sum(2).mean()
    torch.testing.assert_close(channel_wise_divergence(student, teacher, 1.0), expected)


def test_loss_ignores_how_strong_the_channels_of_the_teacher_are():
    torch.manual_seed(0)
    loss = NeckDistillationLoss([4, 8], [6, 6], loss_weight=2.0)
    student = [torch.randn(2, channels, 8, 8) for channels in (4, 8)]
    teacher = [torch.randn(2, 6, 8, 8) for _ in range(2)]
    stronger = [7 * features + torch.arange(6).view(1, 6, 1, 1) for features in teacher]
    first = loss(student, teacher)
    assert all(value > 0 for value in first)
    torch.testing.assert_close(loss(student, stronger), first)
    loss.loss_weight = 1.0
    torch.testing.assert_close([2 * value for value in loss(student, teacher)], first)


@pytest.mark.parametrize('kind', ['RTMCSPNeXtPAFPN', 'CSPNeXtPAFPN'])
@pytest.mark.parametrize('use_depthwise', [False, True])
def test_features_are_those_before_the_last_batch_norms(kind, use_depthwise):
    neck = MODELS.build(dict(type=kind, in_channels=[4, 8, 16], out_channels=6, use_depthwise=use_depthwise)).eval()
    recorder = FeatureRecorder(output_convs(neck))
    inputs = [torch.randn(1, channels, size, size) for channels, size in ((4, 8), (8, 4), (16, 2))]
    outputs = neck(inputs)
    features = recorder.take()
    last = [conv.pointwise_conv if use_depthwise else conv for conv in neck.out_convs]
    for module, feature, output in zip(last, features, outputs, strict=True):
        torch.testing.assert_close(module.activate(module.norm(feature)), output)
    assert recorder.take() == []
    recorder.remove()
    neck(inputs)
    assert recorder.take() == []


def test_another_neck_is_refused_by_name():
    with pytest.raises(ValueError, match='model.neck must be a CSPNeXtPAFPN, which has out_convs, got Identity'):
        output_convs(nn.Identity())
