"""`class_cost='own'` and `dynamic_k='all'` reproduce the assignment of mmyolo's `BatchDynamicSoftLabelAssigner`."""

import pytest
import torch
from mmengine.registry import TASK_UTILS, init_default_scope

from rtmdet_plugin.assigners import RTMDynamicSoftLabelAssigner
from rtmdet_plugin.assigners.matching import inside_any

SIZE, CLASSES = 160, 5


def priors_of(size: int) -> torch.Tensor:
    levels = []
    for stride in (8, 16, 32):
        y, x = torch.meshgrid(*[torch.arange(0, size, stride, dtype=torch.float32)] * 2, indexing='ij')
        levels.append(torch.stack((x.flatten(), y.flatten(), *[torch.full((x.numel(),), float(stride))] * 2), dim=1))
    return torch.cat(levels)


def random_case(seed: int, side: float = 16, counts=(0, 1, 4, 30)):
    """Return the arguments of mmyolo's assigner: objects of `side` to three times `side` pixels, boxes near them."""
    generator = torch.Generator().manual_seed(seed)
    priors = priors_of(SIZE)
    batch, most = len(counts), max(counts)
    gt_boxes, gt_labels, flags = torch.zeros(batch, most, 4), torch.zeros(batch, most, 1), torch.zeros(batch, most, 1)
    boxes = torch.cat((priors[:, :2] - 2 * priors[:, 2:], priors[:, :2] + 2 * priors[:, 2:]), dim=1).repeat(batch, 1, 1)
    for i, count in enumerate(counts):
        corner = torch.rand(count, 2, generator=generator) * (SIZE - 40)
        gt_boxes[i, :count] = torch.cat(
            (corner, corner + side * (1 + 2 * torch.rand(count, 2, generator=generator))), dim=1
        )
        gt_labels[i, :count] = torch.randint(0, CLASSES, (count, 1), generator=generator).float()
        flags[i, :count] = 1
        if count:
            centers = (gt_boxes[i, :count, :2] + gt_boxes[i, :count, 2:]) / 2
            distance, nearest = ((priors[:, None, :2] - centers).norm(dim=2) / priors[:, 2:3]).min(dim=1)  # in strides
            boxes[i] = torch.where((distance < 2.5)[:, None], gt_boxes[i, nearest], boxes[i])
    boxes += torch.randn(boxes.shape, generator=generator) * side / 8
    logits = torch.randn(batch, len(priors), CLASSES, generator=generator) * 3
    return boxes, logits, priors, gt_labels, gt_boxes, flags


def mmyolos(**settings):
    init_default_scope('mmyolo')
    return TASK_UTILS.build(dict(type='BatchDynamicSoftLabelAssigner', num_classes=CLASSES, **settings))


def ours(**settings):
    return RTMDynamicSoftLabelAssigner(class_cost='own', dynamic_k='all', num_classes=CLASSES, **settings)


@pytest.mark.parametrize('settings', [{}, dict(topk=5, soft_center_radius=2.0, iou_weight=1.5)], ids=str)
@pytest.mark.parametrize('side', [16, 4])
@pytest.mark.parametrize('seed', range(3))
def test_each_prior_inside_an_object_has_the_object_of_mmyolo(mmyolo_model, seed, side, settings):
    """Small objects, of 4 to 12 pixels, want more priors than they contain."""
    case = random_case(seed, side)
    *_, priors, _, gt_boxes, flags = case
    found, expected = ours(**settings)(*case), mmyolos(**settings)(*case)
    inside = inside_any(priors, gt_boxes, flags[..., 0] > 0, 10**9)
    assert found.keys() == expected.keys()
    assert (expected['assign_metrics'][inside] > 0).sum() > 20
    for name in ('assigned_labels', 'assigned_bboxes'):
        assert torch.equal(found[name][inside], expected[name][inside]), name
    torch.testing.assert_close(found['assign_metrics'][inside], expected['assign_metrics'][inside])
    assert torch.equal(found['assigned_labels_weights'], expected['assigned_labels_weights'])
    # mmyolo adds priors outside of all objects then, in the order in which torch.sort leaves equal costs.
    assert (found['assigned_labels'][~inside] == CLASSES).all()
    assert side == 16 or (expected['assigned_labels'][~inside] != CLASSES).any()


@pytest.mark.parametrize('switches', [dict(class_cost='own'), dict(dynamic_k='all')], ids=str)
def test_both_switches_matter(mmyolo_model, switches):
    assigner = RTMDynamicSoftLabelAssigner(**switches)
    differ = [
        (assigner(*random_case(seed))['assigned_bboxes'] != mmyolos()(*random_case(seed))['assigned_bboxes']).any()
        for seed in range(5)
    ]
    assert any(differ)


@pytest.mark.parametrize('switches', [{}, dict(class_cost='own', dynamic_k='all')], ids=str)
def test_in_rounds_and_without_the_selection_of_candidates(monkeypatch, switches):
    """As on an accelerator, where all priors stay, and with few pairs in memory."""
    case = random_case(0)
    expected = RTMDynamicSoftLabelAssigner(**switches)(*case)
    in_rounds = RTMDynamicSoftLabelAssigner(max_pairs=2000, **switches)(*case)
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    at_once = RTMDynamicSoftLabelAssigner(**switches)(*case)
    for name, value in expected.items():
        torch.testing.assert_close(in_rounds[name], value)
        torch.testing.assert_close(at_once[name], value)


def test_without_objects():
    boxes, logits, priors, labels, gt_boxes, flags = random_case(0)
    found = ours()(boxes, logits, priors, labels[:, :0], gt_boxes[:, :0], flags[:, :0])
    assert (found['assigned_labels'] == CLASSES).all() and not found['assign_metrics'].any()
    assert found['assigned_bboxes'].shape == boxes.shape and not found['assigned_bboxes'].any()


def test_a_head_with_other_shapes_is_named():
    boxes, logits, *rest = random_case(0)
    with pytest.raises(
        ValueError, match=r'5 logits .* got boxes of \(4, 525, 4\) and logits of \(4, 525, 6\); .*use_sig'
    ):
        ours()(boxes, torch.cat((logits, logits[..., :1]), dim=2), *rest)
    with pytest.raises(ValueError, match=r'one box \(4\)'):
        ours()(torch.zeros(4, 525, 5), logits, *rest)
