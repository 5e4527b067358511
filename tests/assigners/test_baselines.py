"""The adapters pass mmdet's assigners the inputs they expect, and the head the target score of each method."""

import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

init_default_scope('mmdet')
STRIDES = (8, 16, 32)
SIZE = 160


@pytest.fixture
def scene():
    """Priors, predicted boxes around them, logits, and two objects."""
    generator = torch.Generator().manual_seed(0)
    levels = []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(0, SIZE, stride), torch.arange(0, SIZE, stride), indexing='ij')
        levels.append(torch.stack((x.flatten(), y.flatten(), *[torch.full((x.numel(),), stride)] * 2), dim=1))
    priors = torch.cat(levels).float()
    boxes = torch.cat((priors[:, :2] - 20, priors[:, :2] + 20), dim=1)
    boxes += torch.randn(len(priors), 4, generator=generator) * 5
    logits = torch.randn(len(priors), 5, generator=generator) * 4
    objects = torch.tensor([[10.0, 10.0, 90.0, 90.0], [60.0, 20.0, 120.0, 90.0]])
    return InstanceData(priors=priors, bboxes=boxes, scores=logits), InstanceData(
        bboxes=objects, labels=torch.tensor([0, 4])
    )


def own_overlaps(result, pred, gt):
    """Return the IoU of each positive's predicted box with its object."""
    positive = result.gt_inds > 0
    return positive, bbox_overlaps(pred.bboxes[positive], gt.bboxes[result.gt_inds[positive] - 1], is_aligned=True)


def test_sim_ota_is_mmdets_on_probabilities(scene):
    pred, gt = scene
    ours = TASK_UTILS.build(dict(type='RTMSimOTAAssigner')).assign(pred, gt)
    probabilities = InstanceData(priors=pred.priors, bboxes=pred.bboxes, scores=pred.scores.sigmoid())
    theirs = TASK_UTILS.build(dict(type='SimOTAAssigner')).assign(probabilities, gt)
    assert ours.gt_inds.tolist() == theirs.gt_inds.tolist()
    assert (ours.gt_inds > 0).sum() > 4


def test_tal_scales_the_alignment_to_the_best_iou(scene):
    pred, gt = scene
    result = TASK_UTILS.build(dict(type='RTMTaskAlignedAssigner', topk=9)).assign(pred, gt)
    score = pred.scores.sigmoid()
    for j in (1, 2):
        mine = result.gt_inds == j
        assert 1 <= mine.sum() <= 9
        iou = bbox_overlaps(pred.bboxes[mine], gt.bboxes[j - 1 : j]).squeeze(1)
        alignment = score[mine, gt.labels[j - 1]] * iou**6
        torch.testing.assert_close(result.max_overlaps[mine], alignment / alignment.max() * iou.max())


def test_atss_takes_anchors_of_eight_strides_and_scores_the_prediction(scene):
    pred, gt = scene
    result = TASK_UTILS.build(dict(type='RTMATSSAssigner', topk=9)).assign(pred, gt)
    positive, overlaps = own_overlaps(result, pred, gt)
    assert positive.sum() > 4
    torch.testing.assert_close(result.max_overlaps[positive], overlaps)

    half = pred.priors[:, 2:] * 4
    anchors = InstanceData(priors=torch.cat((pred.priors[:, :2] - half, pred.priors[:, :2] + half), dim=1))
    theirs = TASK_UTILS.build(dict(type='ATSSAssigner', topk=9)).assign(anchors, [400, 100, 25], gt)
    assert result.gt_inds.tolist() == theirs.gt_inds.tolist()


@pytest.mark.parametrize('assigner', ['RTMSimOTAAssigner', 'RTMTaskAlignedAssigner', 'RTMATSSAssigner'])
def test_inputs_stay_as_they_are(scene, assigner):
    pred, gt = scene
    copies = pred.clone()
    topk = dict(topk=9) if assigner == 'RTMATSSAssigner' else {}
    TASK_UTILS.build(dict(type=assigner, **topk)).assign(pred, gt)
    assert all(torch.equal(pred[key], copies[key]) for key in ('priors', 'bboxes', 'scores'))
