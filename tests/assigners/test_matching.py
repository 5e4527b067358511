"""The maths of matching, compared with values computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_overlaps

from rtmdet_plugin.assigners.dynamic_soft_label import soft_bce
from rtmdet_plugin.assigners.matching import Matches, box_centers, cheapest, inside_any, pairwise_iou, soft_center_cost


def test_inside_is_strict():
    box = torch.tensor([[[8.0, 8.0, 24.0, 24.0]]])
    points = torch.tensor([[8.0, 16.0], [8.1, 16.0], [24.0, 16.0], [23.9, 23.9], [30.0, 9.0]])
    yes = torch.tensor([[True]])
    assert inside_any(points, box, yes, 100).tolist() == [[False, True, False, True, False]]
    assert inside_any(points, box, ~yes, 100).tolist() == [[False] * 5]
    assert inside_any(points, box[:, :0], yes[:, :0], 100).tolist() == [[False] * 5]


def test_inside_any_in_rounds():
    boxes = torch.rand(2, 9, 4).cumsum(dim=-1) * 10
    points = torch.rand(50, 2) * 30
    mask = torch.rand(2, 9) < 0.7
    assert torch.equal(inside_any(points, boxes, mask, 1), inside_any(points, boxes, mask, 10**6))


def test_iou_is_mmdets():
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 2, 30, 2, generator=generator) * 50
    boxes = torch.cat(
        (corner, corner + torch.randn(2, 2, 30, 2, generator=generator) * 30), dim=-1
    )  # some with swapped corners
    boxes[0, 0, 0] = boxes[1, 0, 0]
    iou = pairwise_iou(boxes[0], boxes[1])
    for i in range(2):
        torch.testing.assert_close(iou[i], bbox_overlaps(boxes[0, i], boxes[1, i]), rtol=1e-6, atol=0)
    assert iou[0, 0, 0] == 1


def test_soft_bce_by_hand():
    """Scores 0.5 and 0.75 against an object of the second class with IoU 0.25."""
    logits = torch.tensor([0.0, math.log(3)])
    cost = soft_bce(logits, F.softplus(logits), logits.sigmoid(), torch.tensor([0.0, 0.25]))
    assert cost[0].item() == pytest.approx(-math.log(0.5) * 0.5**2, rel=1e-5)
    assert cost[1].item() == pytest.approx((-0.25 * math.log(0.75) - 0.75 * math.log(0.25)) * 0.5**2, rel=1e-5)


def test_soft_center_cost_by_hand_and_far_away():
    priors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [1000.0, 0.0, 8.0, 8.0]])
    centers = box_centers(torch.tensor([[[-24.0, -24.0, 24.0, 24.0], [24.0 - 1, -1.0, 24.0 + 1, 1.0]]]))
    cost = soft_center_cost(centers, priors, radius=3.0)[0]
    assert cost[0, 0].item() == pytest.approx(1e-3)
    assert cost[1, 0].item() == pytest.approx(1.0)  # three strides away
    assert cost[:, 1].isfinite().all(), '10^(125 - 3) must not overflow'
    assert (cost[:, 1] > 1e38).all()
    doubled = soft_center_cost(centers, priors, radius=3.0, weight=2.0)[0]
    torch.testing.assert_close(doubled[:, 0], 2 * cost[:, 0])
    assert doubled.isfinite().all()


def match(cost, ious, topk):
    matches = Matches(torch.ones(1, cost.size(1), dtype=torch.bool), topk)
    matches.add(cost[None].clone(), ious[None], torch.ones(1, len(cost), dtype=torch.bool))
    return [column[0].tolist() for column in matches.result()]


def test_dynamic_k_counts_the_iou_and_conflicts_go_to_the_cheaper():
    ious = torch.tensor([[0.9, 0.8, 0.7, 0.0], [0.0, 0.6, 0.0, 0.0]])
    cost = torch.tensor([[1.0, 2.0, 3.0, 4.0], [9.0, 1.5, 9.0, 9.0]])
    # object 0: 0.9 + 0.8 + 0.7 = 2.4 -> two priors, 0 and 1; object 1: 0.6 -> prior 1, which it gets because 1.5 < 2
    index, iou = match(cost, ious, topk=13)
    assert index == [0, 1, -1, -1]
    assert iou == pytest.approx([0.9, 0.6, 0, 0])
    # only the best IoU counts: 0.9 -> one prior each
    assert match(cost, ious, topk=1)[0] == [0, 1, -1, -1]
    cost[1, 1] = 2.5
    index, iou = match(cost, ious, topk=13)
    assert index == [0, 0, -1, -1], 'object 1 is left without a prior'
    assert iou == pytest.approx([0.9, 0.8, 0, 0])


def test_a_conflict_can_go_to_an_object_that_did_not_ask():
    """As in mmdet, a prior goes to the cheapest of all objects, not only of those that took the prior."""
    ious = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 0.9]])
    cost = torch.tensor([[2.0, 9.0], [3.0, 9.0], [1.0, 0.5]])  # object 2 takes only prior 1
    assert match(cost, ious, topk=13)[0] == [2, 2]


def test_cheapest_takes_the_lower_index_on_accelerators(monkeypatch):
    cost = torch.tensor([[[3.0, 1.0, 1.0, 1.0, 0.0, 1.0]]])
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    indices, counts = cheapest(cost, torch.tensor([[2]]), topk=6)
    assert indices[counts].tolist() == [4, 1]
