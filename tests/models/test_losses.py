"""The losses compared with mmdet's: values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.losses import GIoULoss, QualityFocalLoss

from rtmdet_plugin.models import RTMGIoULoss, RTMQualityFocalLoss


def value_and_gradient(loss, prediction, *args, **kwargs):
    prediction = prediction.clone().requires_grad_()
    value = loss(prediction, *args, **kwargs)
    value.backward()
    return value.detach(), prediction.grad


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    scale=st.sampled_from([0.0, 0.1, 3.0, 40.0]),
    extreme=st.booleans(),
    num_classes=st.sampled_from([1, 3, 80]),
    positives=st.sampled_from([0.0, 0.1, 1.0]),
    beta=st.sampled_from([1.0, 2.0, 2.5]),
    seed=st.integers(0, 2**16),
)
def test_quality_focal_loss_is_mmdets(scale, extreme, num_classes, positives, beta, seed):
    """Logits that are equal, moderate and +-40."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, num_classes, generator=generator) * scale
    logits = logits.sign() * 40 if extreme else logits
    labels = torch.randint(0, num_classes, (50,), generator=generator)
    labels[torch.rand(50, generator=generator) >= positives] = num_classes
    quality = torch.rand(50, generator=generator) * (labels < num_classes)
    weight = (torch.rand(50, generator=generator) < 0.9).float()
    ours = RTMQualityFocalLoss(beta=beta, loss_weight=1.5)
    theirs = QualityFocalLoss(use_sigmoid=True, beta=beta, loss_weight=1.5)
    value, gradient = value_and_gradient(ours, logits, (labels, quality), weight=weight, avg_factor=2.0)
    expected, expected_gradient = value_and_gradient(theirs, logits, (labels, quality), weight=weight, avg_factor=2.0)
    torch.testing.assert_close(value, expected, rtol=2e-4, atol=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=2e-3, atol=1e-5)


def test_quality_focal_loss_hands_the_gradient_on():
    logits = torch.randn(6, 3, requires_grad=True)
    labels, quality = torch.tensor([0, 1, 2, 3, 3, 3]), torch.tensor([0.3, 0.9, 0.1, 0, 0, 0])
    loss = RTMQualityFocalLoss()
    (once,) = torch.autograd.grad(loss(logits, (labels, quality), torch.ones(6), 1.0), logits)
    (thrice,) = torch.autograd.grad(3 * loss(logits, (labels, quality), torch.ones(6), 1.0), logits)
    torch.testing.assert_close(thrice, 3 * once)


def test_nan_logits_arrive_as_nan():
    logits = torch.zeros(4, 3)
    logits[2, 1] = float('nan')
    background = torch.full((4,), 3)
    assert RTMQualityFocalLoss()(logits, (background, torch.zeros(4)), torch.ones(4), 1.0).isnan()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**16), size=st.sampled_from([0.0, 1.0, 300.0]))
def test_giou_loss_is_mmdets(seed, size):
    """Boxes that are disjoint, overlapping, equal, without area, or have their corners swapped."""
    generator = torch.Generator().manual_seed(seed)
    boxes, target = (
        torch.cat((corner, corner + torch.randn(40, 2, generator=generator) * size), dim=1)
        for corner in torch.rand(2, 40, 2, generator=generator) * 200
    )
    boxes[:3] = target[:3]
    weight = torch.rand(40, generator=generator)
    results = [
        value_and_gradient(loss, boxes, target, weight=weight, avg_factor=4.0)
        for loss in (RTMGIoULoss(loss_weight=2.0), GIoULoss(loss_weight=2.0))
    ]
    torch.testing.assert_close(results[0][0], results[1][0], rtol=2e-4, atol=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=2e-3, atol=1e-5)


def test_beta_must_be_positive():
    with pytest.raises(ValueError, match='beta must be positive, got 0'):
        RTMQualityFocalLoss(beta=0)
