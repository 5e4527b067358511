"""The stand-in for compiled mmcv's NMS against the sequential algorithm, written out box by box."""

import importlib
import sys
import time
import types

import numpy as np
import pytest
import torch
from compiled_mmcv import compiled_only, lite_only
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import batched_nms
from mmcv.ops import nms as mmcv_nms

from rtmdet_plugin.compat import nms as stand_in
from rtmdet_runtime.postprocess import class_wise_nms


@pytest.fixture(autouse=True)
def without_torchvision(monkeypatch):
    monkeypatch.setattr(stand_in, '_torchvision_nms', lambda: None)


def one_by_one(boxes, scores, threshold, offset=0):
    """Greedy NMS over float32 scalars: the order of operations of mmcv's C++ loop."""
    boxes, f32 = boxes.numpy().astype(np.float32), np.float32
    threshold, offset = f32(threshold), f32(offset)
    order = np.argsort(-scores.numpy().astype(np.float64), kind='stable')
    areas = (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)
    gone, kept = set(), []
    for position, i in enumerate(order):
        if i in gone:
            continue
        kept.append(int(i))
        for j in order[position + 1 :]:
            width = max(f32(0), min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]) + offset)
            height = max(f32(0), min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]) + offset)
            with np.errstate(all='ignore'):
                if width * height / (areas[i] + areas[j] - width * height) > threshold:
                    gone.add(j)
    return kept


def scene(seed: int, count: int, *, classes: int = 1, spread: float = 100.0):
    """Boxes with integer corners and few score levels, so that ties and IoUs equal to the threshold occur."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, int(spread), (count, 2), generator=generator).float()
    size = torch.randint(0, 30, (count, 2), generator=generator).float()
    scores = torch.randint(0, 10, (count,), generator=generator) / 10
    return torch.cat([corner, corner + size], 1), scores, torch.randint(classes, (count,), generator=generator)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 1200),
    spread=st.sampled_from([30, 100, 1000]),
    threshold=st.sampled_from([0.1, 0.5, 0.65, 0.9]),
)
def test_same_boxes_as_the_runtime_s(seed, count, spread, threshold):
    """Up to several blocks of either, with ties; the runtime leaves out boxes without area."""
    boxes, scores, labels = scene(seed, count, classes=3, spread=spread)
    wide = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).nonzero()[:, 0]
    kept = torch.cat([own[stand_in.nms(boxes[own], scores[own], threshold)] for own in by_class(wide, labels)])
    kept = kept.sort().values
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    found = class_wise_nms((boxes.numpy(), scores.numpy(), labels.numpy()), threshold, count, count)
    for part, expected in zip(found, (boxes, scores, labels), strict=True):
        np.testing.assert_array_equal(part, expected[kept].numpy())


def by_class(index, labels):
    return [index[labels[index] == label] for label in range(3)]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 70),
    threshold=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 0.65, 0.9, 1.0]),
    offset=st.sampled_from([0, 1]),
    shift=st.sampled_from([0.0, 51234.5]),
)
def test_same_boxes_as_one_by_one(seed, count, threshold, offset, shift):
    boxes, scores, _ = scene(seed, count)
    boxes = boxes + shift
    assert stand_in.nms(boxes, scores, threshold, offset).tolist() == one_by_one(boxes, scores, threshold, offset)


@pytest.mark.parametrize('offset', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_more_boxes_than_one_block(offset):
    boxes, scores, _ = scene(1, 1300, spread=300)
    scores = scores + torch.rand(1300, generator=torch.Generator().manual_seed(2)) * 0.05
    expected = one_by_one(boxes, scores, 0.5, offset)
    assert stand_in.BLOCK < len(expected) < 1300
    assert stand_in.nms(boxes, scores, 0.5, offset).tolist() == expected


def test_small_boxes_far_from_zero():
    """Class offsets move boxes to coordinates at which float32 has steps of 1/256; the window must not lose a pair."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(900, 2, generator=generator) * 2 + 51000
    boxes = torch.cat([corner, corner + 0.02 + torch.rand(900, 2, generator=generator) * 0.2], 1)
    scores = torch.rand(900, generator=generator)
    expected = one_by_one(boxes, scores, 0.4)
    assert len(expected) < 800
    assert stand_in.nms(boxes, scores, 0.4).tolist() == expected


@pytest.mark.parametrize(('unit', 'shift'), [(1.0, 0.0), (1 / 256, 51000.0)])
@pytest.mark.parametrize('side', ['left', 'right'])
def test_pairs_as_far_apart_as_they_can_be(unit, side, shift):
    """One box lies within the other and shares one side with it: the pair is at the edge of the search window."""
    begin = torch.arange(700.0) * 64 * unit
    boxes = torch.zeros(2, 700, 4)  # the kept boxes, then the others
    boxes[..., 0], boxes[..., 2], boxes[..., 3] = begin, begin + 25 * unit, 10
    boxes[0 if side == 'left' else 1, :, 0] += 12 * unit
    boxes = boxes.reshape(1400, 4) + torch.tensor([shift, 0, shift, 0])
    scores = torch.linspace(1, 0, 1400)
    assert stand_in.nms(boxes, scores, 0.5, 0).tolist() == list(range(700))


def test_threshold_itself_is_not_above():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 6]])  # IoU float32(0.6), more than the double 0.6
    scores = torch.tensor([0.9, 0.8])
    assert stand_in.nms(boxes, scores, 0.6, 0).tolist() == [0, 1]
    assert stand_in.nms(boxes, scores, 0.59, 0).tolist() == [0]


def test_offset_changes_the_result():
    boxes = torch.tensor([[0.0, 0, 1, 1], [1.0, 0, 2, 1]])  # no common area, but a common column of pixels
    scores = torch.tensor([0.5, 0.9])
    assert stand_in.nms(boxes, scores, 0.3, 0).tolist() == [1, 0]
    assert stand_in.nms(boxes, scores, 0.3, 1).tolist() == [1]


def test_ties_keep_the_input_order():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(3, 1) + torch.tensor([[0.0], [100.0], [0.0]])
    assert stand_in.nms(boxes, torch.full((3,), 0.5), 0.5, 0).tolist() == [0, 1]


@pytest.mark.parametrize('shape', [(0, 4), (0,)])
def test_no_boxes(shape):
    kept = stand_in.nms(torch.empty(shape), torch.empty(0), 0.5, 0)
    assert kept.shape == (0,) and kept.dtype == torch.long


def test_degenerate_and_nan_boxes_stay():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5], [float('nan')] * 4, [9.0, 9, 1, 1], [0.0, 0, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    assert stand_in.nms(boxes, scores, 0.0, 0).tolist() == [0, 1, 2, 3, 4]


@compiled_only
@pytest.mark.parametrize('offset', [0, 1])
def test_same_boxes_as_the_compiled_op(offset):
    """Scores are distinct, because the compiled op leaves the order of equal ones open."""
    ext = importlib.import_module('mmcv._ext')
    for seed in range(100):
        boxes, scores, _ = scene(seed, 4 * seed + 1, spread=(30, 100, 1000)[seed % 3])
        boxes, scores = boxes + 51234.5 * (seed % 2), scores.argsort(stable=True).argsort() / 400
        for threshold in (0.1, 0.5, 0.6, 0.65, 0.9):
            expected = ext.nms(boxes, scores, iou_threshold=threshold, offset=offset)
            assert torch.equal(stand_in.nms(boxes, scores, threshold, offset), expected), (seed, threshold)


def test_public_nms_filters_and_cuts():
    boxes, scores, _ = scene(3, 60)
    scores = scores + torch.rand(60, generator=torch.Generator().manual_seed(5)) * 0.05
    dets, kept = mmcv_nms(boxes, scores, 0.5, score_threshold=0.3, max_num=5)
    expected = [i for i in one_by_one(boxes, scores, 0.5) if scores[i] > 0.3][:5]
    assert kept.tolist() == expected
    torch.testing.assert_close(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


@pytest.mark.parametrize('split', [10_000, 50])
def test_public_batched_nms_goes_class_by_class(split):
    boxes, scores, labels = scene(4, 120, classes=4)
    scores = scores + torch.rand(120, generator=torch.Generator().manual_seed(5)) * 0.05
    _, kept = batched_nms(boxes, scores, labels, dict(type='nms', iou_threshold=0.5, split_thr=split))
    expected = []
    for label in range(4):
        members = (labels == label).nonzero()[:, 0]
        expected += members[one_by_one(boxes[members], scores[members], 0.5)].tolist()
    assert kept.tolist() == sorted(expected, key=lambda i: -scores[i])


def test_public_batched_nms_without_boxes():
    """Class-agnostic only: otherwise mmcv's wrapper takes the maximum of no coordinates (mmdet never calls it so)."""
    config = dict(type='nms', iou_threshold=0.5, class_agnostic=True)
    dets, kept = batched_nms(torch.empty(0, 4), torch.empty(0), torch.empty(0).long(), config)
    assert dets.shape == (0, 5) and kept.shape == (0,)


def test_torchvision_does_the_work_where_it_can(monkeypatch):
    calls = []

    def compiled(boxes, scores, threshold):
        calls.append((boxes.dtype, threshold))
        return torch.tensor([0])

    monkeypatch.setattr(stand_in, '_torchvision_nms', lambda: compiled)
    boxes, scores, _ = scene(7, 20)
    assert stand_in.nms(boxes.half(), scores, 0.6, 0).tolist() == [0]
    assert calls == [(torch.float32, float(np.float32(0.6)))]
    assert stand_in.nms(boxes, scores, 0.6, 1).tolist() == one_by_one(boxes, scores, 0.6, 1)
    assert len(calls) == 1, 'torchvision has no offset'


def test_a_broken_torchvision_counts_as_none(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, 'torchvision', types.ModuleType('torchvision'))
    monkeypatch.setitem(sys.modules, 'torchvision.ops', types.ModuleType('torchvision.ops'))
    assert stand_in._torchvision_nms.__wrapped__() is None


@lite_only  # the compiled op refuses other types than float32
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_and_gradients(dtype):
    boxes, scores, _ = scene(6, 50)
    boxes, scores = boxes.to(dtype).requires_grad_(), scores.to(dtype).requires_grad_()
    dets, kept = mmcv_nms(boxes, scores, 0.5)
    assert kept.tolist() == one_by_one(boxes.detach().float(), scores.detach().float(), 0.5)
    dets.sum().backward()
    assert boxes.grad.abs().sum(1).nonzero()[:, 0].tolist() == sorted(kept.tolist())


def test_thirty_thousand_candidates():
    """Typical case: many candidates around few objects, far below a second; the bound allows for a busy machine."""
    generator = torch.Generator().manual_seed(0)
    centre, size = torch.rand(40, 2, generator=generator) * 640, torch.rand(40, 2, generator=generator) * 150 + 20
    which = torch.randint(40, (30_000,), generator=generator)
    near = centre[which] + torch.randn(30_000, 2, generator=generator) * 0.08 * size[which]
    boxes = torch.cat([near - size[which] / 2, near + size[which] / 2], 1)
    started = time.process_time()
    kept = stand_in.nms(boxes, torch.rand(30_000, generator=generator), 0.65, 0)
    assert time.process_time() - started < 1
    assert 40 < len(kept) < 1000


def test_thirty_thousand_boxes_apart():
    """Worst case: no box is suppressed."""
    index = torch.arange(30_000)
    corner = torch.stack([index % 174, index // 174], 1) * 10.0
    started = time.process_time()
    kept = stand_in.nms(torch.cat([corner, corner + 8], 1), torch.rand(30_000), 0.65, 0)
    assert time.process_time() - started < 2
    assert len(kept) == 30_000
