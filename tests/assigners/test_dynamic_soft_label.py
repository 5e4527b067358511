"""Assignment: hand-computed cases, then random cases with mmdet as the reference."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from rtmdet_plugin.assigners import RTMDynamicSoftLabelAssigner
from rtmdet_plugin.assigners.dynamic_soft_label import GroundTruth
from rtmdet_plugin.assigners.matching import box_centers, inside_any

init_default_scope('mmdet')


def grid(size: int, strides=(8, 16, 32)) -> torch.Tensor:
    """Return the priors of a square image: x, y, stride, stride."""
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


# -- one image ------------------------------------------------------------------------------------------------


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


def test_an_object_without_a_prior_inside_next_to_one_with():
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
    # predictions: some near an object, so that the IoUs cover the range
    target = gt_boxes[torch.randint(0, len(gt_boxes), (len(priors),), generator=generator)]
    noise = torch.randn(len(priors), 4, generator=generator) * 6
    around = torch.cat((priors[:, :2] - 2 * priors[:, 2:], priors[:, :2] + 2 * priors[:, 2:]), dim=1)
    everything = torch.ones(1, len(gt_boxes), dtype=torch.bool)
    inside = inside_any(priors, gt_boxes[None], everything, max_pairs=10**6)[0]
    near = (torch.rand(len(priors), 1, generator=generator) < 0.5) & inside[:, None]
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


def test_each_term_can_be_left_out():
    """A disabled term removes the influence of its input; an enabled term keeps it."""
    priors = grid(160)
    generator = torch.Generator().manual_seed(3)
    boxes = (
        torch.cat((priors[:, :2] - 20, priors[:, :2] + 20), 1) + torch.randn(len(priors), 4, generator=generator) * 9
    )
    logits = torch.randn(len(priors), 5, generator=generator) * 3
    gt = InstanceData(
        bboxes=torch.tensor([[10.0, 10.0, 90.0, 90.0], [60.0, 20.0, 120.0, 90.0]]), labels=torch.tensor([0, 4])
    )

    def assigned(logits=logits, **settings):
        return RTMDynamicSoftLabelAssigner(**settings).assign(instances(priors, boxes, logits), gt).gt_inds.tolist()

    everything = assigned()
    assert assigned(-logits) != everything
    assert assigned(-logits, cls_weight=0.0) == assigned(cls_weight=0.0)
    assert assigned(soft_center_radius=0.5) != everything
    assert assigned(soft_center_radius=0.5, center_weight=0.0) == assigned(center_weight=0.0)
    # If the costs differ only by -log(IoU), the best predictions are taken.
    taken = torch.tensor(assigned(cls_weight=0.0, center_weight=0.0))
    ious = bbox_overlaps(boxes, gt.bboxes)
    inside = inside_any(priors, gt.bboxes[None], torch.ones(1, 2, dtype=torch.bool), 10**6)[0]
    for j in (0, 1):
        left = inside & (taken == 0)
        assert ious[taken == j + 1, j].min() >= ious[left, j].max()
    assert assigned(cls_weight=0.0, iou_weight=0.0) != assigned(cls_weight=0.0)


def test_arguments_are_not_changed():
    priors = grid(64)
    pred = instances(priors, torch.rand(len(priors), 4) * 64, torch.randn(len(priors), 3))
    gt = InstanceData(bboxes=torch.tensor([[4.0, 4.0, 50.0, 50.0]]), labels=torch.tensor([1]))
    before = [{key: value.clone() for key, value in data.items()} for data in (pred, gt)]
    RTMDynamicSoftLabelAssigner().assign(pred, gt)
    for data, copies in zip((pred, gt), before, strict=True):
        assert all(torch.equal(value, copies[key]) for key, value in data.items())


@pytest.mark.parametrize(
    'bad', [dict(topk=0), dict(max_pairs=0), dict(cls_weight=-1.0), dict(iou_weight=-0.1), dict(center_weight=-3.0)]
)
def test_bad_settings(bad):
    (name, value), *_ = bad.items()
    with pytest.raises(ValueError, match=rf'{name} must .*got {value}'):
        RTMDynamicSoftLabelAssigner(**bad)


# -- batches --------------------------------------------------------------------------------------------------


def random_batch(batch=3, most=12, num_classes=5, size=160):
    """Make images with 0, 1 and `most` objects; in one image some priors lie outside the padded image."""
    generator = torch.Generator().manual_seed(0)
    priors = grid(size)
    corner = torch.rand(batch, most, 2, generator=generator) * size * 0.8
    boxes = torch.cat((corner, corner + 5 + torch.rand(batch, most, 2, generator=generator) * size / 2), dim=2)
    labels = torch.randint(0, num_classes, (batch, most), generator=generator)
    mask = torch.arange(most) < torch.tensor([0, 1, most])[:, None]
    around = torch.cat((priors[:, :2] - 2 * priors[:, 2:], priors[:, :2] + 2 * priors[:, 2:]), dim=1)
    predictions = around + torch.randn(batch, len(priors), 4, generator=generator) * 6
    logits = torch.randn(batch, num_classes, len(priors), generator=generator) * 2
    valid = torch.ones(batch, len(priors), dtype=torch.bool)
    valid[2] = priors[:, 1] < 120
    return logits, predictions, priors, valid, GroundTruth(boxes, box_centers(boxes), labels, mask)


def test_a_batch_is_its_images_one_by_one():
    logits, boxes, priors, valid, truth = random_batch()
    found = RTMDynamicSoftLabelAssigner().assign_batch(logits, boxes, priors, valid, truth)
    assert (found.gt_index[0] == -1).all()
    assert (found.gt_index[2] >= 0).sum() > 12
    assert (found.gt_index[~valid] == -1).all()
    for i in (1, 2):
        pred = instances(priors[valid[i]], boxes[i, valid[i]], logits[i, :, valid[i]].T)
        gt = InstanceData(bboxes=truth.boxes[i][truth.mask[i]], labels=truth.labels[i][truth.mask[i]])
        assert (found.gt_index[i, valid[i]] + 1).tolist() == compare(pred, gt).tolist()


def test_the_path_of_accelerators_gives_the_same(monkeypatch):
    """The path for CUDA and torch.compile, padded and without selections, is forced on the CPU."""
    arguments = random_batch()
    expected = RTMDynamicSoftLabelAssigner().assign_batch(*arguments)
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    found = RTMDynamicSoftLabelAssigner().assign_batch(*arguments)
    assert found.gt_index.tolist() == expected.gt_index.tolist()
    torch.testing.assert_close(found.iou, expected.iou)


@pytest.mark.parametrize('dense', [False, True])
def test_rounds_of_few_pairs_give_the_same(monkeypatch, dense):
    if dense:
        monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    arguments = random_batch()
    expected = RTMDynamicSoftLabelAssigner().assign_batch(*arguments)
    for max_pairs in (1, 1000, 3000):
        found = RTMDynamicSoftLabelAssigner(max_pairs=max_pairs).assign_batch(*arguments)
        assert found.gt_index.tolist() == expected.gt_index.tolist()
        torch.testing.assert_close(found.iou, expected.iou)


def test_compiles_without_graph_breaks():
    arguments = random_batch()
    expected = RTMDynamicSoftLabelAssigner().assign_batch(*arguments)
    compiled = torch.compile(RTMDynamicSoftLabelAssigner().assign_batch, fullgraph=True, backend='aot_eager')
    assert compiled(*arguments).gt_index.tolist() == expected.gt_index.tolist()


@pytest.mark.parametrize('num_objects', [300, 2000])
def test_crowds(num_objects):
    """More objects than any image of COCO has; most share priors."""
    generator = torch.Generator().manual_seed(0)
    priors = grid(160)
    corner = torch.rand(num_objects, 2, generator=generator) * 150
    gt = InstanceData(
        bboxes=torch.cat((corner, corner + 4 + torch.rand(num_objects, 2, generator=generator) * 20), dim=1),
        labels=torch.randint(0, 3, (num_objects,), generator=generator),
    )
    boxes = torch.cat((priors[:, :2] - 12, priors[:, :2] + 12), 1) + torch.randn(len(priors), 4, generator=generator)
    pred = instances(priors, boxes, torch.randn(len(priors), 3, generator=generator))
    found = compare(pred, gt)
    assert len(found.unique()) > 100
