"""Differences between two sets of detections, computed by hand."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from rtmdet_plugin.mmdeploy_support.comparison import Comparison, compare


def found(*rows):
    """Rows of x1, y1, x2, y2, score, label."""
    rows = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return InstanceData(bboxes=rows[:, :4], scores=rows[:, 4], labels=rows[:, 5].long())


A = (0, 0, 10, 10, 0.9, 0)
B = (20, 20, 30, 30, 0.5, 1)


@pytest.mark.parametrize(
    ('expected', 'actual', 'result'),
    [
        ([], [], Comparison(0, 0, 0)),
        ([A, B], [B, A], Comparison(2, 0, 0)),
        ([A, B], [A, (20, 20, 30, 32, 0.75, 1)], Comparison(2, 2, 0.25)),
        ([A], [A, (20, 20, 30, 30, 0.26, 1)], Comparison(1, 0, 0)),  # within the margin above the floor
    ],
)
def test_differences(expected, actual, result):
    comparison = compare(found(*expected), found(*actual), sure_score=0.35)
    assert comparison.num_boxes == result.num_boxes
    assert (comparison.box, comparison.score) == pytest.approx((result.box, result.score))


def test_masks_of_partners_are_compared():
    """Two objects with the same box are told apart by their scores."""
    twin = (*A[:4], 0.5, 0)
    masks = torch.zeros(3, 10, 10, dtype=torch.bool)
    masks[0, :4], masks[1, 4:], masks[2] = True, True, True
    expected, actual = found(A, twin), found(twin, A, B)
    expected.masks, actual.masks = masks[:2], masks[[1, 0, 2]]
    assert compare(expected, actual, sure_score=0.1).masks == 1
    actual.masks = masks[[0, 1, 2]]
    assert compare(expected, actual, sure_score=0.1).masks == 0
    actual.masks = masks[[2, 0, 2]]
    assert compare(expected, actual, sure_score=0.1).masks == pytest.approx(100 / 140)
    assert compare(expected, found(A, twin), sure_score=0.1).masks is None


@pytest.mark.parametrize(
    ('expected', 'actual'),
    [([A], []), ([], [A]), ([A, B], [A]), ([A], [A, B]), ([A], [(0, 0, 10, 10, 0.9, 1)])],
    ids=['none', 'all too many', 'one less', 'one more', 'another class'],
)
def test_a_box_without_a_partner_is_infinitely_far(expected, actual):
    assert compare(found(*expected), found(*actual), sure_score=0.35).box == math.inf
