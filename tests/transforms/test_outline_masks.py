"""Masks as outlines: what is drawn against slow references, and the steps of mmdet that they pass through."""

import copy
import functools
import pickle
import random

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmdet.datasets.transforms import FilterAnnotations, Pad, RandomCrop, RandomFlip, Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from pycocotools import mask as coco_mask

from rtmdet_plugin import composable
from rtmdet_plugin.stride_masks import StrideMasks
from rtmdet_plugin.transforms.outline_masks import OutlineMasks
from rtmdet_plugin.transforms.outlines import bitmap_outline, outline_of, polygon_edges
from rtmdet_plugin.transforms.scanline import centroids_of, pixels_of

SHAPE = HEIGHT, WIDTH = 21, 30

coordinate = st.one_of(st.floats(-9, 39, width=32), st.integers(-9, 39).map(float))
polygon = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9).map(np.array)
outline = st.lists(polygon, min_size=1, max_size=3)


def masks_of(*objects, shape=SHAPE):
    return OutlineMasks.on_image([tuple(map(polygon_edges, parts)) for parts in objects], shape)


def star(seed, size=40, points=15):
    """Return a polygon (P, 2) around the centre of a square of `size` pixels."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(0.25, 0.48, points) * size
    return np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] + size / 2


def windings(points, shape=SHAPE):
    """Return how often a polygon winds around each pixel's centre, from angles, and its distance from the edges."""
    height, width = shape
    ys, xs = np.mgrid[:height, :width] + 0.5
    a = np.asarray(points, np.float32).astype(float) - np.stack([xs, ys], -1)[..., None, :]  # (H, W, P, 2)
    b = np.roll(a, -1, axis=2)
    step = b - a
    turned = np.arctan2(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0], (a * b).sum(-1)).sum(-1) / (2 * np.pi)
    along = np.clip(-(a * step).sum(-1) / np.maximum((step**2).sum(-1), 1e-12), 0, 1)
    distance = np.linalg.norm(a + along[..., None] * step, axis=-1).min(-1)
    return np.rint(turned).astype(int), distance


def iou(first, second):
    return np.logical_and(first, second).sum() / max(np.logical_or(first, second).sum(), 1)


# -- drawing ----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(outline, min_size=1, max_size=3))
def test_pixels_are_those_that_a_part_winds_around_an_odd_number_of_times(objects):
    drawn = masks_of(*objects).to_ndarray()
    for mask, parts in zip(drawn, objects, strict=True):
        expected, clear = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
        for part in parts:
            times, distance = windings(part)
            expected |= times % 2 == 1
            clear &= distance > 1e-4
        np.testing.assert_array_equal(mask[clear], expected[clear])


@settings(max_examples=25, deadline=None)
@given(st.lists(outline, min_size=0, max_size=3), st.integers(1, 40), st.integers(1, 40))
def test_stride_4_and_centroids_are_those_of_the_full_masks(objects, height, width):
    masks = masks_of(*objects, shape=(height, width))
    runs, count = masks.runs(), len(masks)
    expected = StrideMasks.from_full(masks.to_ndarray())
    np.testing.assert_array_equal(pixels_of(runs, count, (width, height), 4), expected.pixels)
    np.testing.assert_allclose(centroids_of(runs, count), expected.centers, rtol=1e-6)
    np.testing.assert_array_equal(masks.areas, masks.to_ndarray().sum((1, 2)))


@pytest.mark.parametrize('seed', range(6))
def test_nearly_pycocotools_pixels(seed):
    """It rounds points to a fifth of a pixel."""
    points = star(seed)
    theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], 40, 40)))
    ours = masks_of([points], shape=(40, 40)).to_ndarray()[0]
    assert theirs.sum() > 300 and iou(ours, theirs) > 0.98


@pytest.mark.parametrize('seed', range(4))
def test_a_bitmap_is_drawn_as_its_nearest_pixels(seed):
    bitmap = (np.random.default_rng(seed).random(SHAPE) < (0.05, 0.5, 0.95, 1)[seed]).astype(np.uint8)
    masks = OutlineMasks.of(BitmapMasks(bitmap[None], *SHAPE))
    np.testing.assert_array_equal(masks.to_ndarray()[0], bitmap)
    np.testing.assert_array_equal(masks.resize((63, 90)).to_ndarray()[0], bitmap.repeat(3, 0).repeat(3, 1))
    np.testing.assert_array_equal(masks.flip('diagonal').to_ndarray()[0], bitmap[::-1, ::-1])
    rows, columns = (np.floor((np.arange(n) + 0.5) * side / n).astype(int) for n, side in ((14, HEIGHT), (20, WIDTH)))
    np.testing.assert_array_equal(masks.resize((14, 20)).to_ndarray()[0], bitmap[np.ix_(rows, columns)])


def test_an_empty_bitmap_has_no_outline():
    assert bitmap_outline(np.zeros((4, 5))) is None
    masks = OutlineMasks.of(BitmapMasks(np.zeros((2, 4, 5), np.uint8), 4, 5))
    assert not masks.to_ndarray().any() and not masks.boxes().any()


# -- moving and clipping ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(outline, st.integers(0, 25), st.integers(0, 15), st.integers(0, 9), st.integers(0, 9))
def test_a_crop_shows_what_the_image_shows_there(parts, x, y, width, height):
    whole = masks_of(parts)
    x2, y2 = min(x + width, WIDTH), min(y + height, HEIGHT)
    crop = whole.crop((x, y, x2, y2))
    np.testing.assert_array_equal(crop.to_ndarray(), whole.to_ndarray()[:, y:y2, x:x2])
    # what was cut off doesn't come back
    again = crop.place((1, 1), (x, y), SHAPE).to_ndarray()
    expected = np.zeros_like(again)
    expected[:, y:y2, x:x2] = whole.to_ndarray()[:, y:y2, x:x2]
    np.testing.assert_array_equal(again, expected)


@settings(max_examples=40, deadline=None)
@given(outline)
def test_boxes_are_around_what_is_visible(parts):
    """Between the box of the visible area and that of all lines, which may also touch the border."""
    image = shapely.box(0, 0, WIDTH, HEIGHT)
    areas = [shapely.make_valid(shapely.Polygon(part)).intersection(image) for part in parts]
    surfaces = [each for area in areas for each in shapely.get_parts(area).tolist() if each.area > 1e-6]
    lines = shapely.union_all([*areas, *(shapely.LinearRing(part).intersection(image) for part in parts)])
    box = masks_of(parts).boxes()[0]
    if lines.is_empty:
        assert not box.any()
    elif box.any():
        (x1, y1, x2, y2), (a1, b1, a2, b2) = box, lines.bounds
        assert a1 - 1e-3 <= x1 <= x2 <= a2 + 1e-3 and b1 - 1e-3 <= y1 <= y2 <= b2 + 1e-3
    if surfaces:
        (x1, y1, x2, y2), (a1, b1, a2, b2) = box, shapely.union_all(surfaces).bounds
        assert x1 <= a1 + 1e-3 and y1 <= b1 + 1e-3 and x2 >= a2 - 1e-3 and y2 >= b2 - 1e-3


@pytest.mark.parametrize(
    ('points', 'expected'),
    [
        ([(2, 3), (9, 3), (9, 8), (2, 8)], (2, 3, 9, 8)),
        ([(-5, -5), (99, -5), (99, 99), (-5, 99)], (0, 0, 30, 21)),  # only corners of the image are inside
        ([(-5, 4), (99, 4), (99, 9), (-5, 9)], (0, 4, 30, 9)),  # a bar across the image: no point is visible
        ([(-5, 10), (10, -5), (10, 10)], (0, 0, 10, 10)),  # an edge cuts the corner
        ([(-9, 8), (8, -9), (-9, -9)], (0, 0, 0, 0)),  # the box overlaps the image, the triangle doesn't
        ([(-9, -9), (40, -9), (40, 30), (35, 30), (35, -4), (-4, -4), (-4, 30), (-9, 30)], (0, 0, 0, 0)),  # around it
        ([(31, 2), (40, 2), (40, 8)], (0, 0, 0, 0)),
        ([(0, -5), (40, -5), (40, 30), (0, 30)], (0, 0, 30, 21)),  # an edge on the border
    ],
)
def test_box_of_a_clipped_polygon(points, expected):
    masks = masks_of([np.array(points)])
    np.testing.assert_allclose(masks.boxes()[0], expected, atol=1e-5)
    moved = masks.place((1, 1), (7, 3), (40, 50))
    np.testing.assert_allclose(moved.boxes()[0], np.add(expected, (7, 3, 7, 3)) if any(expected) else 0, atol=1e-5)


def test_boxes_of_an_image_without_objects():
    assert masks_of().boxes().shape == (0, 4) and masks_of().to_ndarray().shape == (0, *SHAPE)
    assert len(OutlineMasks.cat([masks_of(), masks_of()])) == 0 and len(masks_of().flip()) == 0


# -- annotations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('compressed', [True, False])
def test_a_run_length_code_is_what_pycocotools_decodes(compressed):
    bitmap = np.asfortranarray(masks_of([star(3, 20)]).to_ndarray()[0])
    if compressed:
        code = coco_mask.encode(bitmap)
        code['counts'] = code['counts'].decode()
    else:
        changes = np.flatnonzero(np.diff(bitmap.ravel('F'), prepend=0, append=2))
        code = {'size': list(SHAPE), 'counts': np.diff(changes, prepend=0).tolist()}
    masks = OutlineMasks.on_image([outline_of(code, SHAPE)], SHAPE)
    np.testing.assert_array_equal(masks.to_ndarray()[0], bitmap)


SQUARE = [2.0, 2.0, 8.0, 2.0, 8.0, 8.0, 2.0, 8.0]


@pytest.mark.parametrize(
    'mask',
    [
        None, [], {}, 'text', 7, [[]], [None], [[1.0, 2.0, 3.0, 4.0]], [[1.0, 2.0, 3.0, 4.0, 5.0]], SQUARE,
        [[2.0, 2.0, float('nan'), 2.0, 8.0, 8.0]], [[2.0, 2.0, float('inf'), 2.0, 8.0, 8.0]],
        {'size': [30, 21], 'counts': [630]}, {'size': list(SHAPE), 'counts': [HEIGHT * WIDTH]}, {'counts': [1]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_mask_has_no_outline(mask):
    assert outline_of(mask, SHAPE) is None


def test_only_the_bad_polygons_of_an_object_are_dropped():
    assert len(outline_of([[1.0, 2.0], SQUARE, [float('nan')] * 6], SHAPE)) == 1


@pytest.mark.parametrize('points', [[2.0, 2.0, 8.0, 8.0, 5.0, 5.0], [5.0] * 8, [x + 30 for x in SQUARE]], ids=str)
def test_polygons_without_area_or_outside_have_no_pixel(points):
    assert masks_of([np.array(points).reshape(-1, 2)]).areas.tolist() == [0]


def test_points_may_be_far_outside():
    masks = masks_of([np.array([(-1e37, 4), (1e37, 4), (1e37, 1e37), (-1e37, 1e37)])])
    assert masks.to_ndarray()[0].any(axis=1).tolist() == [row >= 4 for row in range(HEIGHT)]
    np.testing.assert_allclose(masks.boxes()[0], (0, 4, WIDTH, HEIGHT))


def test_a_polygon_that_crosses_itself_is_drawn():
    bow = masks_of([np.array([(2, 2), (20, 12), (20, 2), (2, 12)])])
    assert outline_of([[2.0, 2.0, 20.0, 12.0, 20.0, 2.0, 2.0, 12.0]], SHAPE) is not None
    assert bow.areas[0] == pytest.approx(2 * 18 * 10 / 4, rel=0.1)


@pytest.mark.parametrize(
    'counts',
    ['\x7f\x7f', 'zzz', '0', '', 'é', [5, -3, 628], [1, 2], ['a'], [630.0], None, 5, [10**30], [[1], [2, 3]]],
    ids=str,
)
def test_a_damaged_run_length_code_is_refused(counts):
    with pytest.raises(ValueError, match='counts must be a run-length code of COCO for 21 x 30 pixels, got'):
        outline_of({'size': list(SHAPE), 'counts': counts}, SHAPE)


# -- through the pipelines --------------------------------------------------------------------------------------------


def sample_of(seed, size=64):
    """Return a pipeline's dict with one object, labelled `seed`, of two parts."""
    parts = [star(seed, size), star(seed + 100, size, 9) * 0.3]
    masks = PolygonMasks([[part.ravel() for part in parts]], size, size)
    points = np.concatenate(parts)
    return {
        'img': np.full((size, size, 3), seed, np.uint8),
        'img_shape': (size, size),
        'img_id': seed,
        'gt_bboxes': np.array([[*points.min(0), *points.max(0)]], np.float32),
        'gt_bboxes_labels': np.array([seed]),
        'gt_ignore_flags': np.array([False]),
        'gt_masks': masks,
    }


@functools.cache
def drawn_finely(seed):
    """Return the mask of `sample_of(seed)` with 16 pixels per pixel."""
    parts = sample_of(seed)['gt_masks'].masks[0]
    return masks_of([points.reshape(-1, 2) * 16 for points in parts], shape=(1024, 1024)).to_ndarray()[0]


FUSED = [
    dict(
        type='RTMCachedMosaicResizeCrop',
        img_scale=(64, 64),
        ratio_range=(0.8, 2.0),
        crop_size=(72, 72),
        bbox_clip_border=False,
    ),
    dict(type='RTMRandomFlip', prob=0.5),
    dict(type='RTMCachedMixUp', img_scale=(72, 72), ratio_range=(1.0, 1.0), bbox_clip_border=False),
]


@pytest.mark.parametrize('steps', [FUSED, composable(FUSED)], ids=['fused', 'composable'])
def test_masks_follow_their_boxes_through_both_mixing_steps(steps):
    """The map of each object is read from its unclipped box, and its source drawn in steps of 1/16 of a pixel."""
    random.seed(0)
    np.random.seed(0)
    pipeline = [TRANSFORMS.build(step) for step in steps]
    compared = 0
    for seed in range(16):
        results = sample_of(seed)
        for step in pipeline:
            results = None if results is None else step(results)
        if results is None:
            continue
        masks = results['gt_masks']
        drawn, runs = masks.to_ndarray(), masks.runs()
        for place, label in enumerate(results['gt_bboxes_labels']):
            source = sample_of(int(label))
            box, full = source['gt_bboxes'][0], results['gt_bboxes'][place]
            fine = drawn_finely(int(label))
            scale = (full[2:] - full[:2]) / (box[2:] - box[:2])
            best, center = 0, None
            for mirrored in (False, True):
                x, y = ((np.arange(72) + 0.5 - full[k]) / scale[k] + box[k] for k in (0, 1))
                if mirrored:
                    x = box[0] + box[2] - x
                picked = [np.clip((values * 16).astype(int), 0, 1023) for values in (y, x)]
                inside = np.logical_and.outer((y > 0) & (y < 64), (x > 0) & (x < 64))
                reference = fine[np.ix_(*picked)] * inside
                if iou(reference, drawn[place]) > best:
                    best, center = iou(reference, drawn[place]), StrideMasks.from_full(reference[None]).centers[0]
            if drawn[place].sum() > 100:
                assert best > 0.98
                np.testing.assert_allclose(centroids_of(runs, len(masks))[place], center, atol=1)
                compared += 1
    assert compared > 20


@pytest.mark.parametrize('recompute', [True, False])
def test_recomputed_boxes_are_around_what_the_crop_shows(recompute):
    step = FUSED[0] | dict(recompute_bbox=recompute, bbox_clip_border=True, rng=random.Random(0))
    mosaic = TRANSFORMS.build(step)
    tighter = 0
    for seed in range(12):
        results = mosaic(sample_of(seed))
        if results is not None:
            gap = np.abs(results['gt_bboxes'] - results['gt_masks'].boxes()).max(axis=1)
            tighter += (gap > 1).sum()
            assert not recompute or gap.max() == 0
    assert recompute or tighter > 3


def test_a_crop_without_objects_is_refused_unless_it_is_allowed():
    results = sample_of(0, 64)
    results['gt_masks'] = PolygonMasks([[np.array([1.0, 1, 3, 1, 3, 3])]], 64, 64)
    results['gt_bboxes'] = np.array([[1, 1, 63, 63]], np.float32)  # only by its mask is it invisible
    setting = dict(type='RTMRandomResizeCrop', scale=(640, 640), ratio_range=(1, 1), crop_size=(50, 50))
    for allowed in (False, True):
        step = TRANSFORMS.build({**setting, 'recompute_bbox': True, 'allow_negative_crop': allowed})
        cropped = step(copy.deepcopy(results))
        assert (cropped is not None) == allowed
    assert cropped['gt_bboxes'].shape == (0, 4) and len(cropped['gt_masks']) == 0
    assert TRANSFORMS.build(setting)(copy.deepcopy(results)) is not None


def test_steps_of_mmdet_treat_them_as_bitmaps():
    """Whole factors and pixels, at which both draw the same."""
    bitmap = masks_of([star(1, 20)], [star(2, 18)]).to_ndarray()
    theirs = BitmapMasks(bitmap, *SHAPE)
    steps = [
        Resize(scale_factor=2.0),
        RandomFlip(prob=1.0, direction='diagonal'),
        RandomCrop((40, 30), recompute_bbox=True),
        Pad(size=(64, 48)),
        FilterAnnotations(by_mask=True),
    ]
    out = []
    for masks in (theirs, OutlineMasks.of(theirs)):
        np.random.seed(3)
        results = {
            'img': np.zeros((*SHAPE, 3), np.uint8),
            'gt_bboxes': masks.get_bboxes('hbox').tensor.numpy(),
            'gt_bboxes_labels': np.arange(2),
            'gt_masks': masks,
        }
        out.append(Compose(steps)(results))
    first, second = out
    np.testing.assert_array_equal(first['gt_masks'].to_ndarray(), second['gt_masks'].to_ndarray())
    np.testing.assert_array_equal(first['gt_bboxes'], second['gt_bboxes'])
    assert second['gt_masks'].to_ndarray().shape == (2, 48, 64) and isinstance(second['gt_masks'], OutlineMasks)
    results = {'img': np.zeros((*SHAPE, 3), np.uint8), 'gt_masks': OutlineMasks.of(theirs)}
    masks = Resize(scale=(60, 60), keep_ratio=True)(results)['gt_masks']
    np.testing.assert_array_equal(masks.to_ndarray(), bitmap.repeat(2, 1).repeat(2, 2))


def test_they_are_pickled_and_show_their_size():
    masks = pickle.loads(pickle.dumps(masks_of([star(0, 20)])))
    assert repr(masks) == 'OutlineMasks(1 objects, height=21, width=30)'
    np.testing.assert_array_equal(masks.to_ndarray(), masks_of([star(0, 20)]).to_ndarray())
