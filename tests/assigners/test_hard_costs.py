"""Hard cost terms: by hand, against SimOTA of mmdet with which they agree, and soft ones against our own assigner."""

import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from rtmdet_plugin.assigners.hard_costs import cls_cost, in_center

init_default_scope('mmdet')
SIZE = 160


@pytest.fixture
def scene():
    """Priors of three levels, boxes around them, logits, and three objects."""
    generator = torch.Generator().manual_seed(0)
    levels = []
    for stride in (8, 16, 32):
        y, x = torch.meshgrid(torch.arange(0, SIZE, stride), torch.arange(0, SIZE, stride), indexing='ij')
        levels.append(torch.stack((x.flatten(), y.flatten(), *[torch.full((x.numel(),), stride)] * 2), dim=1))
    priors = torch.cat(levels).float()
    sides = torch.rand(len(priors), 4, generator=generator) * 60
    boxes = torch.cat((priors[:, :2] - sides[:, :2], priors[:, :2] + sides[:, 2:]), dim=1)
    objects = torch.tensor([[10.0, 10.0, 140.0, 150.0], [50.0, 10.0, 150.0, 115.0], [2.0, 50.0, 110.0, 150.0]])
    logits = torch.randn(len(priors), 5, generator=generator) * 4
    return InstanceData(priors=priors, bboxes=boxes, scores=logits), InstanceData(
        bboxes=objects, labels=torch.tensor([0, 4, 4])
    )


def assign(scene, **config):
    return TASK_UTILS.build(config).assign(*scene)


def test_hard_class_and_centre_are_those_of_sim_ota(scene):
    """The objects are so large that each centre region lies inside its object, where candidates are the same."""
    pred, gt = scene
    probabilities = pred.clone()
    probabilities.scores = pred.scores.sigmoid()
    expected = assign((probabilities, gt), type='SimOTAAssigner', center_radius=1.0, candidate_topk=10)
    found = assign(scene, type='RTMHardCostAssigner', center_radius=1.0, topk=10, log_iou=True)
    assert found.gt_inds.tolist() == expected.gt_inds.tolist() and (found.gt_inds > 0).sum() > 10
    soft = assign(scene, type='RTMHardCostAssigner', soft_center=True, topk=10, log_iou=True)
    assert soft.gt_inds.tolist() != expected.gt_inds.tolist()


def test_three_soft_costs_are_the_dynamic_soft_labels(scene):
    soft = dict(soft_cls=True, soft_center=True, log_iou=True)
    expected = assign(scene, type='RTMDynamicSoftLabelAssigner')
    found = assign(scene, type='RTMHardCostAssigner', **soft)
    assert found.gt_inds.tolist() == expected.gt_inds.tolist() and (found.gt_inds > 0).sum() > 10
    torch.testing.assert_close(found.max_overlaps, expected.max_overlaps)
    for name in soft:
        hard = assign(scene, type='RTMHardCostAssigner', **{**soft, name: False})
        assert hard.gt_inds.tolist() != expected.gt_inds.tolist(), name


def test_a_weight_of_zero_disables_the_centre_region(scene):
    soft = assign(scene, type='RTMHardCostAssigner', soft_center=True, center_weight=0)
    hard = assign(scene, type='RTMHardCostAssigner', center_weight=0)
    assert hard.gt_inds.tolist() == soft.gt_inds.tolist()
    assert hard.gt_inds.tolist() != assign(scene, type='RTMHardCostAssigner').gt_inds.tolist()


@pytest.mark.parametrize('count', [0, 1])
def test_without_objects_and_with_one_outside_all_centres(scene, count):
    """A narrow object contains priors, but none near its centre: it gets the one with the lowest cost."""
    pred, gt = scene[0], InstanceData(bboxes=torch.tensor([[0.5, 4.0, 154.5, 12.0]]), labels=torch.tensor([1]))
    result = assign((pred, gt[:count]), type='RTMHardCostAssigner', center_radius=0.1)
    assert (result.gt_inds > 0).sum() >= count and (result.gt_inds > 0).any() == bool(count)


def test_class_cost_by_hand():
    logits = torch.tensor([[[0.0], [2.0]]])  # one prior, two classes
    label, score = torch.tensor([[1]]), torch.tensor(2.0).sigmoid()
    hard = cls_cost(logits, label, torch.ones(1, 1, 1), focal=False)
    torch.testing.assert_close(hard.squeeze(), -torch.tensor(0.5).log() - score.log())
    target = torch.tensor(0.25)
    soft = cls_cost(logits, label, target.expand(1, 1, 1), focal=True)
    entropy = -(target * score.log() + (1 - target) * (1 - score).log())
    torch.testing.assert_close(soft.squeeze(), -torch.tensor(0.5).log() * 0.25 + entropy * (target - score) ** 2)


def test_centre_region_by_hand():
    priors = torch.tensor([[8.0, 8.0, 8.0], [24.0, 8.0, 8.0], [24.0, 8.0, 16.0], [8.0, 0.0, 32.0], [8.0, 8.0, 32.0]])
    box = torch.tensor([[[0.0, 0.0, 32.0, 16.0]]])  # its centre is (16, 8)
    assert in_center(box, priors, 1.5).squeeze().tolist() == [True, True, True, False, True]
    assert in_center(box, priors, 1.0).squeeze().tolist() == [False, False, True, False, True]
