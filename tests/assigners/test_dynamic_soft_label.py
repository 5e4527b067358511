"""Assignment: hand-computed cases, then mmdet as the reference over random ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TASK_UTILS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from rtmdet_plugin.assigners import RTMDynamicSoftLabelAssigner
from rtmdet_plugin.assigners.dynamic_soft_label import (
    dynamic_k_match,
    inside_any,
    soft_center_cost,
    soft_label_cost,
)

init_default_scope('mmdet')


def grid(size: int, strides=(8, 16, 32)) -> torch.Tensor:
    """Priors of a square picture, x, y, stride, stride."""
    levels = []
    for stride in strides:
        y, x = torch.meshgrid(torch.arange(0, size, stride), torch.arange(0, size, stride), indexing='ij')
        levels.append(torch.stack((x.flatten(), y.flatten(), *[torch.full((x.numel(),), stride)] * 2), dim=1))
    return torch.cat(levels).float()


def instances(priors, boxes, logits):
    return InstanceData(priors=priors, bboxes=boxes, scores=logits)


def compare(pred: InstanceData, gt: InstanceData) -> torch.Tensor:
    """Assert that mmdet assigns the same; return the assignment."""
    ours = RTMDynamicSoftLabelAssigner().assign(pred.clone(), gt.clone())
    theirs = TASK_UTILS.build(dict(type='DynamicSoftLabelAssigner', topk=13)).assign(pred.clone(), gt.clone())
    assert ours.gt_inds.tolist() == theirs.gt_inds.tolist()
    assert ours.labels.tolist() == theirs.labels.tolist()
    torch.testing.assert_close(ours.max_overlaps, theirs.max_overlaps)
    assert ours.num_gts == theirs.num_gts
    return ours.gt_inds


# -- the parts ------------------------------------------------------------------------------------------------


def test_inside_is_strict():
    box = torch.tensor([[8.0, 8.0, 24.0, 24.0]])
    points = torch.tensor([[8.0, 16.0], [8.1, 16.0], [24.0, 16.0], [23.9, 23.9], [30.0, 9.0]])
    assert inside_any(points, box).tolist() == [False, True, False, True, False]
    assert inside_any(points, box[:0]).tolist() == [False] * 5


def test_soft_label_cost_by_hand():
    logits = torch.tensor([[0.0, math.log(3)]])  # scores 0.5 and 0.75
    cost = soft_label_cost(logits, torch.tensor([1]), torch.tensor([[0.25]]))
    other_class = -math.log(0.5) * 0.5**2
    own_class = (-0.25 * math.log(0.75) - 0.75 * math.log(0.25)) * (0.25 - 0.75) ** 2
    assert cost.item() == pytest.approx(other_class + own_class, rel=1e-5)


def test_soft_center_cost_by_hand_and_far_away():
    priors = torch.tensor([[0.0, 0.0, 8.0, 8.0], [1000.0, 0.0, 8.0, 8.0]])
    boxes = torch.tensor([[-24.0, -24.0, 24.0, 24.0], [24.0 - 1, -1.0, 24.0 + 1, 1.0]])
    cost = soft_center_cost(priors, boxes, radius=3.0)
    assert cost[0, 0].item() == pytest.approx(1e-3)
    assert cost[0, 1].item() == pytest.approx(1.0)  # three strides away
    assert cost[1].isfinite().all(), '10^(125 - 3) must not overflow'
    assert (cost[1] > 1e38).all()


def test_dynamic_k_counts_the_iou_and_conflicts_go_to_the_cheaper():
    ious = torch.tensor([[0.9, 0.0], [0.8, 0.6], [0.7, 0.0], [0.0, 0.0]])
    cost = torch.tensor([[1.0, 9.0], [2.0, 1.5], [3.0, 9.0], [4.0, 9.0]])
    # object 0: 0.9 + 0.8 + 0.7 = 2.4 -> two priors, 0 and 1; object 1: 0.6 -> one, prior 1, which it gets for 1.5 < 2
    assert dynamic_k_match(cost, ious, topk=13).tolist() == [0, 1, -1, -1]
    # only the best IoU counts: 0.9 -> one prior each
    assert dynamic_k_match(cost, ious, topk=1).tolist() == [0, 1, -1, -1]
    cost[1] = torch.tensor([1.4, 1.5])
    assert dynamic_k_match(cost, ious, topk=13).tolist() == [0, 0, -1, -1], 'object 1 is left without a prior'


# -- the whole ------------------------------------------------------------------------------------------------


def test_no_ground_truth():
    priors = grid(64)
    pred = instances(priors, torch.rand(len(priors), 4) * 64, torch.randn(len(priors), 3))
    gt = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assert compare(pred, gt).tolist() == [0] * len(priors)


def test_no_prior():
    empty = instances(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, 3))
    gt = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]]), labels=torch.tensor([1]))
    assert len(compare(empty, gt)) == 0


def test_an_object_without_a_prior_inside_gets_none():
    priors = grid(64)
    pred = instances(priors, torch.tensor([[1.0, 1.0, 7.0, 7.0]]).repeat(len(priors), 1), torch.zeros(len(priors), 3))
    gt = InstanceData(bboxes=torch.tensor([[1.0, 1.0, 7.0, 7.0]]), labels=torch.tensor([2]))
    assert compare(pred, gt).tolist() == [0] * len(priors)


def test_an_object_without_a_prior_inside_beside_one_with():
    priors = grid(64)
    pred = instances(priors, torch.cat((priors[:, :2] - 12, priors[:, :2] + 12), 1), torch.zeros(len(priors), 3))
    gt = InstanceData(
        bboxes=torch.tensor([[1.0, 1.0, 7.0, 7.0], [10.0, 10.0, 40.0, 40.0]]), labels=torch.tensor([2, 0])
    )
    assert set(compare(pred, gt).tolist()) >= {0, 2}


def test_priors_beyond_41_strides_from_the_centre():
    priors = grid(1280, strides=(8,))
    generator = torch.Generator().manual_seed(0)
    boxes = torch.cat((priors[:, :2] - 200, priors[:, :2] + 200), 1) + torch.rand(len(priors), 4, generator=generator)
    pred = instances(priors, boxes, torch.randn(len(priors), 3, generator=generator))
    gt = InstanceData(
        bboxes=torch.tensor([[0.0, 0.0, 1280.0, 1280.0], [0.0, 0.0, 1280.0, 20.0]]), labels=torch.tensor([0, 1])
    )
    assert set(compare(pred, gt).tolist()) == {0, 1, 2}


BOX = st.tuples(*[st.floats(-40, 200, width=32)] * 2, *[st.sampled_from([0.5, 3.0, 8.0, 20.0, 70.0, 400.0])] * 2)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    boxes=st.lists(BOX, min_size=1, max_size=30),
    duplicates=st.booleans(),
    scale=st.sampled_from([0.1, 1.0, 8.0, 40.0]),
    num_classes=st.sampled_from([1, 3, 80]),
    seed=st.integers(0, 2**16),
)
def test_equals_mmdet(boxes, duplicates, scale, num_classes, seed):
    """Tiny, huge, outside and duplicate boxes; logits up to +-40 and beyond; few and many classes."""
    generator = torch.Generator().manual_seed(seed)
    priors = grid(160)
    gt_boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in boxes])
    gt_boxes = gt_boxes.repeat(2, 1) if duplicates else gt_boxes
    labels = torch.randint(0, num_classes, (len(gt_boxes),), generator=generator)
    # predictions: some near an object, so that IoUs are all over the range
    target = gt_boxes[torch.randint(0, len(gt_boxes), (len(priors),), generator=generator)]
    noise = torch.randn(len(priors), 4, generator=generator) * 6
    around = torch.cat((priors[:, :2] - 2 * priors[:, 2:], priors[:, :2] + 2 * priors[:, 2:]), dim=1)
    near = (torch.rand(len(priors), 1, generator=generator) < 0.5) & inside_any(priors[:, :2], gt_boxes)[:, None]
    pred_boxes = torch.where(near, target, around) + noise
    logits = torch.randn(len(priors), num_classes, generator=generator) * scale
    compare(instances(priors, pred_boxes, logits), InstanceData(bboxes=gt_boxes, labels=labels))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_input_is_assigned_in_float32(dtype):
    priors = grid(160)
    generator = torch.Generator().manual_seed(0)
    boxes = torch.cat((priors[:, :2] - 20, priors[:, :2] + 20), 1) + torch.randn(len(priors), 4, generator=generator)
    logits = torch.randn(len(priors), 5, generator=generator)
    gt = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 50.0, 50.0], [60.0, 20.0, 120.0, 90.0]]), labels=torch.tensor([0, 4])
    )
    assigner = RTMDynamicSoftLabelAssigner()
    half = assigner.assign(instances(priors, boxes.to(dtype), logits.to(dtype)), gt)
    full = assigner.assign(instances(priors, boxes.to(dtype).float(), logits.to(dtype).float()), gt)
    assert half.gt_inds.tolist() == full.gt_inds.tolist()
    assert (half.gt_inds > 0).sum() > 2
    assert half.max_overlaps.dtype == torch.float32


@pytest.mark.parametrize('off', ['cls_weight', 'iou_weight', 'center_weight'])
def test_each_term_can_be_left_out(off):
    """With one term off the assignment is what the two others say."""
    priors = grid(160)
    generator = torch.Generator().manual_seed(3)
    boxes = (
        torch.cat((priors[:, :2] - 20, priors[:, :2] + 20), 1) + torch.randn(len(priors), 4, generator=generator) * 9
    )
    logits = torch.randn(len(priors), 5, generator=generator) * 3
    gt = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 90.0, 90.0], [60.0, 20.0, 120.0, 90.0]]), labels=torch.tensor([0, 4])
    )
    full = RTMDynamicSoftLabelAssigner().assign(instances(priors, boxes, logits), gt)
    without = RTMDynamicSoftLabelAssigner(**{off: 0.0}).assign(instances(priors, boxes, logits), gt)
    assert full.gt_inds.tolist() != without.gt_inds.tolist()
    # inputs of the term that is off no longer matter
    if off == 'cls_weight':
        again = RTMDynamicSoftLabelAssigner(cls_weight=0.0).assign(instances(priors, boxes, -logits), gt)
        assert again.gt_inds.tolist() == without.gt_inds.tolist()


def test_arguments_are_not_changed():
    priors = grid(64)
    pred = instances(priors, torch.rand(len(priors), 4) * 64, torch.randn(len(priors), 3))
    gt = InstanceData(bboxes=torch.tensor([[4.0, 4.0, 50.0, 50.0]]), labels=torch.tensor([1]))
    copies = {k: v.clone() for k, v in (*pred.items(), *gt.items())}
    RTMDynamicSoftLabelAssigner().assign(pred, gt)
    assert all(torch.equal(v, copies[k]) for k, v in (*pred.items(), *gt.items()) if k != 'bboxes')
    assert torch.equal(gt.bboxes, copies['bboxes'])


@pytest.mark.parametrize('bad', [dict(topk=0), dict(cls_weight=-1.0), dict(iou_weight=-0.1), dict(center_weight=-3.0)])
def test_bad_settings(bad):
    (name, value), *_ = bad.items()
    with pytest.raises(ValueError, match=rf'{name} must .*got {value}'):
        RTMDynamicSoftLabelAssigner(**bad)


# -- the baseline ---------------------------------------------------------------------------------------------


def test_sim_ota_takes_logits():
    """RTMSimOTAAssigner on logits gives what mmdet's SimOTA gives on probabilities."""
    priors = grid(160)
    generator = torch.Generator().manual_seed(0)
    boxes = (
        torch.cat((priors[:, :2] - 20, priors[:, :2] + 20), 1) + torch.randn(len(priors), 4, generator=generator) * 5
    )
    logits = torch.randn(len(priors), 5, generator=generator) * 4
    gt = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 90.0, 90.0], [60.0, 20.0, 120.0, 90.0]]), labels=torch.tensor([0, 4])
    )
    ours = TASK_UTILS.build(dict(type='RTMSimOTAAssigner')).assign(instances(priors, boxes, logits), gt)
    theirs = TASK_UTILS.build(dict(type='SimOTAAssigner')).assign(instances(priors, boxes, logits.sigmoid()), gt)
    assert ours.gt_inds.tolist() == theirs.gt_inds.tolist()
    assert (ours.gt_inds > 0).sum() > 4
