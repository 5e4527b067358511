"""Mosaic, resize and crop in one step: the chain's boxes, its pixels to half a pixel, and its distributions."""

import copy
import pickle
import random

import cv2
import numpy as np
import pytest
from mmdet.datasets.transforms import CachedMosaic
from mmdet.registry import TRANSFORMS
from mmengine.registry import init_default_scope
from scipy.stats import ks_2samp

from rtmdet_plugin import composable
from rtmdet_plugin.transforms.mosaic import mosaic, mosaic_parts
from rtmdet_plugin.transforms.mosaic_resize_crop import RTMCachedMosaicResizeCrop
from rtmdet_plugin.transforms.render import Crop, Part, render
from rtmdet_plugin.transforms.resize_crop import RTMRandomResizeCrop
from rtmdet_plugin.transforms.sample import Sample

IMG_SCALE = (64, 48)
SIZES = [(61, 47), (33, 59), (127, 65), (90, 11)]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')  # RandomResize looks its Resize up by name: mmdet's, not mmcv's


class Draws:
    """A random source that always returns the same fraction of a range."""

    def __init__(self, ratio, x, y):
        self.ratio, self.shares = ratio, iter((x, y))

    def uniform(self, low, high):
        return self.ratio

    def randint(self, low, high):
        return low + round(next(self.shares) * (high - low))


def drawn_crop(ratio, x, y, canvas=(128, 96), crop_size=(64, 48)):
    return RTMRandomResizeCrop(canvas, (0.1, 2.0), crop_size, rng=Draws(ratio, x, y)).draw(canvas)


def chain(monkeypatch, results, canvas, ratio, crop, clip=True):
    """Run mmdet's RandomResize and RandomCrop with given draws."""
    resize = {'type': 'RandomResize', 'scale': canvas, 'ratio_range': (1, 1), 'keep_ratio': True}
    resize = TRANSFORMS.build({**resize, 'clip_object_border': clip})
    cut = TRANSFORMS.build({'type': 'RandomCrop', 'crop_size': (64, 48), 'bbox_clip_border': clip})
    monkeypatch.setattr(resize, '_random_scale', lambda: (int(canvas[0] * ratio), int(canvas[1] * ratio)))
    monkeypatch.setattr(cut, '_rand_offset', lambda margin: crop.offset[::-1])
    return cut(resize(copy.deepcopy(results)))


def smooth(results, seed):
    """Return an image without sharp edges, on which a shift of half a pixel changes little."""
    height, width = results['img'].shape[:2]
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    results['img'] = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return results


CENTERS = [(32, 24), (96, 72), (64, 48), (51, 67)]
PLACES = [(0, 0), (1, 1), (0.5, 0.3)]


# Each ratio with and without clipping; the centres and places alternate.
@pytest.mark.parametrize(
    ('ratio', 'clip', 'center', 'place'),
    [
        (ratio, clip, CENTERS[(i + 2 * clip) % 4], PLACES[(i + clip) % 3])
        for i, ratio in enumerate([0.1, 0.37, 0.5, 1.0, 1.31, 2.0])
        for clip in (True, False)
    ],
)
def test_boxes_and_pixels_are_the_chains(monkeypatch, random_results, center, place, ratio, clip):
    results = [smooth(random_results(i, w, h, num_boxes=12), i) for i, (w, h) in enumerate(SIZES)]
    samples = [Sample.from_results(r) for r in results]
    crop = drawn_crop(ratio, *place)
    unfused = mosaic(samples, center, IMG_SCALE, 114, clip).write_to(copy.deepcopy(results[0]))
    theirs = chain(monkeypatch, unfused, (128, 96), ratio, crop, clip)
    ours = render(mosaic_parts(samples, center, IMG_SCALE), crop, 114, clip)
    if theirs is None:
        assert ours is None
        return
    assert ours.img.shape == theirs['img'].shape and ours.img.dtype == np.uint8
    np.testing.assert_allclose(ours.boxes, theirs['gt_bboxes'].numpy(), atol=2e-4)
    np.testing.assert_array_equal(ours.labels, theirs['gt_bboxes_labels'])
    np.testing.assert_array_equal(ours.ignore_flags, theirs['gt_ignore_flags'])
    # half a pixel off: between the darkest and the brightest value of a pixel and its neighbours
    darkest, brightest = (extreme(ours.img, np.ones((3, 3))).astype(int) for extreme in (cv2.erode, cv2.dilate))
    near = (darkest - 4 <= theirs['img']) & (theirs['img'] <= brightest + 4)
    assert near.mean() > 0.94


@pytest.mark.parametrize(('seed', 'masks'), enumerate(['bitmap', 'polygon'] * 3))
def test_boxes_and_masks_lie_on_the_objects(flat_results, colours, colour_box, masks, seed):
    rng = np.random.default_rng(seed)
    samples = [Sample.from_results(flat_results(label, masks=masks)) for label in range(4)]
    center = int(rng.integers(32, 96)), int(rng.integers(24, 72))
    crop = drawn_crop(rng.uniform(0.5, 2), *rng.random(2))
    out = render(mosaic_parts(samples, center, IMG_SCALE), crop, 114)
    found = {label: colour_box(out.img, colour, 100) for label, colour in enumerate(colours)}
    seen = 0
    for box, label, flag, mask in zip(out.boxes, out.labels, out.ignore_flags, out.masks.to_ndarray(), strict=True):
        assert flag == (label == 1)
        if (box[2:] - box[:2]).min() < 3:  # a sliver at the border shows little of its colour
            continue
        np.testing.assert_allclose(box, found.pop(label), atol=1.5)
        ys, xs = np.nonzero(mask)
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], box, atol=2)
        seen += 1
    assert seen or crop.zoom[0] > 1.5
    assert all(found[label] is None for label in set(found) - set(out.labels.tolist()))


def test_pictures_meet_without_gap_or_overlap():
    """Flat images that fill the mosaic: each of the four colours fills one rectangle."""
    empty = np.zeros(0, np.int64), np.zeros(0, bool)
    box = np.array([[1, 1, 60, 60]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool)
    flats = [
        Sample(np.full((64, 64, 3), 50 * i, np.uint8), *(box if i == 0 else (box[0][:0], *empty))) for i in range(4)
    ]
    for zoom in np.linspace(0.5, 2, 31):
        crop = Crop((zoom, zoom), (int(40 * zoom), int(41 * zoom)), (int(45 * zoom), int(44 * zoom)))
        img = render(mosaic_parts(flats, (64, 64), (64, 64)), crop, 255).img[..., 0]
        x, y = (int(np.floor(64 * zoom - start + 0.5)) for start in crop.offset)
        expected = np.zeros_like(img)
        expected[:y, x:], expected[y:, :x], expected[y:, x:] = 50, 100, 150
        np.testing.assert_array_equal(img, expected)


def test_a_picture_that_does_not_show_is_not_touched(monkeypatch, random_results):
    sizes = []
    resize = cv2.resize

    def watched(img, size, **settings):
        sizes.append((img.shape[:2], size))
        return resize(img, size, **settings)

    monkeypatch.setattr('rtmdet_plugin.transforms.render.cv2.resize', watched)
    samples = [Sample.from_results(random_results(i, 64, 48, num_boxes=30)) for i in range(4)]
    assert render(mosaic_parts(samples, (64, 48), IMG_SCALE), drawn_crop(2.0, 0, 0), 114) is not None
    ((source, target),) = sizes  # the crop lies in the image at the top left: a quarter of its pixels, and a margin
    assert source[0] <= 26 and source[1] <= 34 and target[0] <= 68 and target[1] <= 52


def test_a_crop_that_misses_all_objects_is_rejected_before_a_pixel_is_drawn(monkeypatch, random_results):
    samples = [Sample.from_results(random_results(i, num_boxes=i)) for i in range(4)]
    monkeypatch.setattr('rtmdet_plugin.transforms.render.cv2.resize', None)
    parts = [part._replace(position=(500, 500)) for part in mosaic_parts(samples, (64, 48), IMG_SCALE)]
    assert render(parts, drawn_crop(1.0, 0, 0), 114) is None


def test_pictures_without_objects_give_a_crop_of_background(random_results):
    samples = [Sample.from_results(random_results(i, num_boxes=0)) for i in range(4)]
    out = render(mosaic_parts(samples, (64, 48), IMG_SCALE), drawn_crop(1.0, 0, 0), 114)
    assert out.boxes.shape == (0, 4) and out.labels.shape == out.ignore_flags.shape == (0,)
    assert out.img.std() > 30


def test_grayscale_and_one_pixel_height(random_results):
    for channels in (None, 1, 3):
        results = [random_results(i, 50, 1 if i == 2 else 40, num_boxes=4, channels=channels) for i in (0, 1, 3)]
        thin = random_results(9, 500, 1, num_boxes=0, channels=channels)
        samples = [Sample.from_results(r) for r in (*results, thin)]
        out = render(mosaic_parts(samples, (60, 40), IMG_SCALE), drawn_crop(1.5, 0.5, 0.5), 114)
        assert out.img.shape == (48, 64, *results[0]['img'].shape[2:]) and out.img.std() > 30
    with pytest.raises(ValueError, match='color_type'):
        parts = [Part(Sample.from_results(random_results(0, channels=c)), (0, 0), (9, 9)) for c in (1, 3)]
        render(parts, drawn_crop(1, 0, 0), 114)


def test_the_cache_holds_pictures_at_mosaic_scale_and_no_sample_changes_another(random_results):
    transform = RTMCachedMosaicResizeCrop(IMG_SCALE, crop_size=(64, 48), rng=random.Random(0))
    assert transform(random_results(0, 640, 480, num_boxes=20)) is None
    kept = transform.mosaic.cache[0]
    assert kept.img.shape == (48, 64, 3) and kept.boxes.max() <= 64
    before = kept.img.copy(), kept.boxes.copy()
    for i in range(1, 20):
        out = transform(random_results(i, 640, 480, num_boxes=20))
        if out is not None:
            out['img'][:] = 0
            out['gt_bboxes'].tensor.zero_()
            out['gt_bboxes_labels'][:] = 0
    np.testing.assert_array_equal(kept.img, before[0])
    np.testing.assert_array_equal(kept.boxes, before[1])
    with pytest.raises(ValueError, match='read-only'):
        kept.boxes[:] = 0


def test_probability_of_mixing(random_results):
    never = RTMCachedMosaicResizeCrop(IMG_SCALE, (1.0, 1.0), (64, 48), prob=0.0, rng=random.Random(0))
    out = never(random_results(0, 32, 24, num_boxes=9))
    # a sample that isn't mixed is resized to the size of the mosaic, four times its own
    assert out['img'].shape == (48, 64, 3) and out['scale_factor'] == (4.0, 4.0)
    assert len(never.mosaic.cache) == 1


@pytest.mark.parametrize(
    'setting',
    [
        {'img_scale': (640, 0)},
        {'img_scale': 640},
        {'crop_size': (640.0, 640)},
        {'ratio_range': (2.0, 0.1)},
        {'center_ratio_range': (0.5, 3)},
        {'prob': 2},
        {'pad_val': -1},
        {'max_cached_images': 3},
    ],
    ids=str,
)
def test_bad_setting_is_refused_with_its_value(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f'{name} must be .* got ') as error:
        RTMCachedMosaicResizeCrop(**setting)
    assert repr(value) in str(error.value)


def test_builds_pickles_and_shows_its_settings(random_results):
    transform = TRANSFORMS.build({'type': 'RTMCachedMosaicResizeCrop', 'img_scale': [64, 48], 'crop_size': [64, 48]})
    transform(random_results(0))
    again = pickle.loads(pickle.dumps(transform))
    assert (
        repr(again)
        == repr(transform)
        == (
            'RTMCachedMosaicResizeCrop(img_scale=(64, 48), ratio_range=(0.1, 2.0), crop_size=(64, 48), '
            'center_ratio_range=(0.5, 1.5), bbox_clip_border=True, pad_val=114.0, prob=1.0, max_cached_images=40, '
            'random_pop=True, recompute_bbox=False, allow_negative_crop=False)'
        )
    )
    assert any(again(random_results(i)) is not None for i in (1, 2, 3))


# -- distributions ----------------------------------------------------------------------------------------------------

PAD = {'type': 'Pad', 'size': (64, 64), 'pad_val': {'img': (114, 114, 114)}}
STAGE_1 = [
    {'type': 'RTMCachedMosaicResizeCrop', 'img_scale': (64, 64), 'ratio_range': (0.2, 2.0), 'crop_size': (64, 64)},
    {'type': 'RTMYOLOXHSVRandomAug'},
    {'type': 'RTMRandomFlip'},
    PAD,
    {'type': 'RTMCachedMixUp', 'img_scale': (64, 64), 'ratio_range': (1.0, 1.0)},
]
STAGE_2 = [
    {'type': 'RTMRandomResizeCrop', 'scale': (64, 64), 'ratio_range': (0.5, 2.0), 'crop_size': (64, 64)},
    *STAGE_1[1:4],
]


def mmdets(pipeline):
    return [{**step, 'type': step['type'].removeprefix('RTM')} for step in composable(pipeline)]


def statistics(pipeline, pictures, seed):
    """Return one row per sample: number, size and position of boxes, share of padding, mean grey, mean label."""
    random.seed(seed)
    np.random.seed(seed)
    steps = [TRANSFORMS.build(step) for step in pipeline]
    if isinstance(steps[0], CachedMosaic):
        # three different partners, a deliberate difference: see mosaic.py
        steps[0].get_indexes = lambda cache: random.sample(range(len(cache) - 1), 3)
    # consecutive samples share cached images, and mmdet doesn't mix until its cache is warm
    every, draws = (4, 400) if 'Mosaic' in pipeline[0]['type'] else (1, 1000)
    rows = []
    while len(rows) < (draws + 10) * every:
        results = copy.deepcopy(pictures[random.randrange(len(pictures))])
        for step in steps:
            if (results := step(results)) is None:
                break
        else:
            boxes, img = results['gt_bboxes'].numpy(), results['img'].astype(int)
            x, y, width, height = (boxes[:, 0], boxes[:, 1], *(boxes[:, 2:] - boxes[:, :2]).T)
            size, grey = np.sqrt(width * height), np.ptp(img, axis=2) == 0
            place = (x + width / 2).mean(), (y + height / 2).mean(), boxes[0, 0], boxes[-1, 3]
            labels = results['gt_bboxes_labels'].mean()
            rows.append(
                (len(boxes), size.mean(), size.max(), size[0], *place, grey.mean(), img.mean(), img.std(), labels)
            )
    return np.array(rows[10 * every :: every])


def p_values(ours, theirs):
    return [ks_2samp(a, b).pvalue for a, b in zip(ours.T, theirs.T, strict=True)]


@pytest.fixture(scope='module')
def pictures(random_results):
    """Return coloured noise of many sizes, dark to light; no pixel is grey, unlike the padding.

    Objects are on the left, so that a flip shows.
    """
    rng = np.random.default_rng(0)
    made = [random_results(i, *rng.integers(30, 140, 2), num_boxes=1 + i % 7) for i in range(80)]
    for i, results in enumerate(made):
        results['img'] = (results['img'] // 3 + 2 * i).astype(np.uint8)
        results['img'][..., 0] = 250 - i // 4
        results['gt_bboxes'].tensor[:, 0::2] *= 0.5
    return made


@pytest.fixture(scope='module')
def ours(pictures):
    """Statistics of `STAGE_1` and `STAGE_2`, computed once: each takes seconds."""
    init_default_scope('mmdet')
    return [statistics(pipeline, pictures, seed=1) for pipeline in (STAGE_1, STAGE_2)]


@pytest.mark.parametrize('stage', [pytest.param(1, marks=pytest.mark.slow), 2])
def test_distributions_are_mmdets(pictures, ours, stage):
    theirs = statistics(mmdets((STAGE_1, STAGE_2)[stage - 1]), pictures, seed=2)
    assert min(p_values(ours[stage - 1], theirs)) > 1e-4, p_values(ours[stage - 1], theirs)


@pytest.mark.parametrize(
    ('stage', 'step', 'setting'),
    [
        (1, 0, {'center_ratio_range': (0.8, 1.2)}),
        (2, 0, {'ratio_range': (0.5, 1.6)}),
        (2, 1, {'value_delta': 200}),
        (2, 2, {'prob': 0.0}),
    ],
    ids=['center', 'ratio', 'value', 'flip'],
)
def test_the_comparison_sees_a_changed_setting(pictures, ours, stage, step, setting):
    pipeline = (STAGE_1, STAGE_2)[stage - 1]
    changed = [dict(config, **setting) if i == step else config for i, config in enumerate(pipeline)]
    assert min(p_values(statistics(changed, pictures, seed=2), ours[stage - 1])) < 1e-4
