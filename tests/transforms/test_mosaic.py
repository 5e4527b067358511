"""Mosaic: mmdet's pixels and boxes for the same draws, and each deliberate difference."""

import copy
import pickle
import random

import numpy as np
import pytest
from mmdet.datasets.transforms import CachedMosaic
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from rtmdet_plugin.transforms.mosaic import RTMCachedMosaic, mosaic
from rtmdet_plugin.transforms.sample import Sample

SIZES = {
    'same': [(64, 64)] * 4,
    'odd': [(61, 47), (33, 59), (127, 65), (9, 11)],
    'tall': [(20, 150), (31, 99), (17, 64), (64, 131)],
    'wide': [(150, 20), (99, 31), (64, 17), (131, 64)],
    'larger': [(200, 180), (301, 299), (129, 255), (640, 480)],
    'smaller': [(16, 12), (7, 7), (30, 8), (8, 30)],
    'mixed': [(64, 64), (300, 40), (13, 200), (31, 33)],
}
# the corners and edges of the range, the middle, and a point off it
CENTERS = [(32, 24), (96, 24), (32, 72), (96, 72), (64, 48), (51, 67)]


def mmdet_mosaic(monkeypatch, results, partners, center, **settings):
    """Return mmdet's mosaic of the same image, partners and centre."""
    transform = CachedMosaic(max_cached_images=10, **settings)
    transform.results_cache = [
        copy.deepcopy(partner) for partner in partners
    ] * 2  # more than four, so that mmdet mixes
    monkeypatch.setattr(transform, 'get_indexes', lambda cache: [0, 1, 2])
    width, height = transform.img_scale
    # + 0.5 pixel, because mmdet truncates the product to an integer
    draws = iter([0.0, (center[0] + 0.5) / width, (center[1] + 0.5) / height])
    monkeypatch.setattr('numpy.random.uniform', lambda low, high: next(draws))
    out = transform.transform(copy.deepcopy(results))
    monkeypatch.undo()
    assert next(draws, None) is None
    return out


def our_mosaic(results, partners, center, img_scale, pad_val=114.0, bbox_clip_border=True):
    samples = [Sample.from_results(copy.deepcopy(r)) for r in (results, *partners)]
    return mosaic(samples, center, img_scale, pad_val, bbox_clip_border).write_to(copy.deepcopy(results))


def assert_same(ours, theirs):
    assert ours['img'].dtype == theirs['img'].dtype
    assert ours['img_shape'] == theirs['img_shape']
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    np.testing.assert_array_equal(ours['gt_bboxes'].numpy(), theirs['gt_bboxes'].numpy())
    np.testing.assert_array_equal(ours['gt_bboxes_labels'], theirs['gt_bboxes_labels'])
    np.testing.assert_array_equal(ours['gt_ignore_flags'], theirs['gt_ignore_flags'])


# All sizes with and without clipping; each centre is drawn at least twice.
@pytest.mark.parametrize(
    ('sizes', 'clip', 'center'),
    [(sizes, clip, CENTERS[(i + 3 * clip) % 6]) for i, sizes in enumerate(SIZES) for clip in (True, False)],
)
def test_equals_mmdet_for_the_same_draws(monkeypatch, random_results, sizes, center, clip):
    results, *partners = [random_results(i, w, h, num_boxes=12) for i, (w, h) in enumerate(SIZES[sizes])]
    settings = {'img_scale': (64, 48), 'bbox_clip_border': clip}
    theirs = mmdet_mosaic(monkeypatch, results, partners, center, **settings)
    assert_same(our_mosaic(results, partners, center, **settings), theirs)
    if sizes == 'larger' and center != (64, 48):
        assert 0 < len(theirs['gt_bboxes']) < 48, 'nothing was cut off: the test would not see the filter'


@pytest.mark.parametrize(
    ('counts', 'pad_val'),
    [((0, 0, 0, 0), 0), ((0, 0, 0, 0), 255), ((0, 2, 0, 1), 114.0), ((3, 0, 0, 0), 0), ((0, 0, 0, 4), 255)],
)
def test_equals_mmdet_without_boxes_and_with_other_padding(monkeypatch, random_results, counts, pad_val):
    results, *partners = [random_results(i, 50, 70, num_boxes=n) for i, n in enumerate(counts)]
    settings = {'img_scale': (64, 64), 'pad_val': pad_val}
    theirs = mmdet_mosaic(monkeypatch, results, partners, (70, 40), **settings)
    ours = our_mosaic(results, partners, (70, 40), **settings)
    assert_same(ours, theirs)
    assert len(ours['gt_bboxes']) <= sum(counts)


def test_equals_mmdet_on_masks_of_a_square_mosaic(monkeypatch, random_results):
    """Square and without rounding: in this case mmdet's (width, height) is correct."""
    for masks in ('bitmap', 'polygon'):
        sizes = [(64, 32), (32, 64), (32, 32), (64, 64)]
        results, *partners = [random_results(i, w, h, masks=masks) for i, (w, h) in enumerate(sizes)]
        theirs = mmdet_mosaic(monkeypatch, results, partners, (70, 40), img_scale=(64, 64))
        ours = our_mosaic(results, partners, (70, 40), (64, 64))
        assert_same(ours, theirs)
        if masks == 'bitmap':
            np.testing.assert_array_equal(ours['gt_masks'].to_ndarray(), theirs['gt_masks'].masks)
        else:
            boxes = [[*(points := mask[0].reshape(-1, 2)).min(0), *points.max(0)] for mask in theirs['gt_masks'].masks]
            np.testing.assert_allclose(ours['gt_masks'].boxes(), boxes, rtol=1e-6)


@pytest.mark.parametrize(('center', 'masks'), [*zip(CENTERS, ['bitmap', 'polygon'] * 3, strict=True)])
def test_boxes_and_masks_lie_on_the_objects(flat_results, colours, colour_box, center, masks):
    """Known colours on a canvas that isn't square: mmdet's masks are (width, height) here."""
    samples = [flat_results(label, masks=masks) for label in range(4)]
    mixed = our_mosaic(samples[0], samples[1:], center, (64, 48))
    assert mixed['img'].shape == (96, 128, 3)
    assert (mixed['gt_masks'].height, mixed['gt_masks'].width) == (96, 128)
    found = {label: colour_box(mixed['img'], colour, 60) for label, colour in enumerate(colours)}
    present = [label for label, box in found.items() if box is not None]
    assert mixed['gt_bboxes_labels'].tolist() == present
    assert mixed['gt_ignore_flags'].tolist() == [label == 1 for label in present]
    bitmaps = mixed['gt_masks'].to_ndarray()
    for box, label, bitmap in zip(mixed['gt_bboxes'].numpy(), present, bitmaps, strict=True):
        np.testing.assert_allclose(box, found[label], atol=1)
        ys, xs = np.nonzero(bitmap)
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], found[label], atol=2)


def test_crowd_flags_stay_with_their_boxes(random_results):
    results = [random_results(i, num_boxes=6) for i in range(4)]
    for i, r in enumerate(results):  # the label identifies a box's image and its flag
        r['gt_bboxes_labels'][:] = 2 * i + r['gt_ignore_flags']
    mixed = our_mosaic(results[0], results[1:], (50, 50), (64, 64))
    assert 0 < mixed['gt_ignore_flags'].sum() < len(mixed['gt_ignore_flags'])
    np.testing.assert_array_equal(mixed['gt_bboxes_labels'] % 2, mixed['gt_ignore_flags'])


@pytest.mark.parametrize('channels', [None, 1])
def test_grayscale(flat_results, channels):
    """(H, W) and (H, W, 1) keep their shape; the pixels are those of a colour image with equal channels."""
    grey = [flat_results(label, channels=channels, width=50 + label) for label in range(4)]
    colour = copy.deepcopy(grey)
    for results in colour:
        results['img'] = np.repeat(results['img'].reshape(40, -1, 1), 3, axis=2)
    mixed, reference = (our_mosaic(r[0], r[1:], (70, 40), (64, 48)) for r in (grey, colour))
    assert mixed['img'].shape == ((96, 128) if channels is None else (96, 128, 1))
    np.testing.assert_array_equal(mixed['img'].reshape(96, 128), reference['img'][..., 0])
    np.testing.assert_array_equal(mixed['gt_bboxes'].numpy(), reference['gt_bboxes'].numpy())


def test_grayscale_among_colour_is_refused(random_results):
    with pytest.raises(ValueError, match='color_type'):
        our_mosaic(random_results(0), [random_results(i, channels=None) for i in (1, 2, 3)], (64, 64), (64, 64))


def test_masks_on_some_images_only_are_refused(random_results):
    partners = [random_results(1, masks='bitmap'), random_results(2), random_results(3, masks='bitmap')]
    with pytest.raises(ValueError, match='with_mask'):
        our_mosaic(random_results(0, masks='bitmap'), partners, (64, 64), (64, 64))


def test_image_of_one_pixel_height(random_results):
    """Its scaled height rounds to zero, which OpenCV refuses; here it gets one row."""
    thin = random_results(0, width=500, height=1, num_boxes=0)
    mixed = our_mosaic(thin, [random_results(i) for i in (1, 2, 3)], (64, 64), (64, 64), pad_val=0)
    row = mixed['img'][:64, :64]
    assert row[63].any() and not row[:63].any()


def test_rendering_changes_no_input(random_results):
    results = [random_results(i, masks='bitmap') for i in range(4)]
    for r in results:
        r['img'].flags.writeable = False
    before = copy.deepcopy(results)
    samples = [Sample.from_results(r) for r in results]
    mosaic(samples, (70, 40), (64, 48))
    for r, b in zip(results, before, strict=True):
        np.testing.assert_array_equal(r['img'], b['img'])
        np.testing.assert_array_equal(r['gt_bboxes'].numpy(), b['gt_bboxes'].numpy())
        np.testing.assert_array_equal(r['gt_masks'].masks, b['gt_masks'].masks)


def test_first_sample_asks_the_dataset_for_another_and_the_second_is_mixed(flat_results, colours, colour_box):
    """mmdet leaves the first four samples unmixed; here none stays unmixed, and none is mixed with itself."""
    transform = RTMCachedMosaic(img_scale=(64, 48), center_ratio_range=(1, 1), max_cached_images=4)
    assert transform(flat_results(0)) is None
    for label in (1, 2, 3):
        mixed = transform(flat_results(label))
        assert mixed['img'].shape == (96, 128, 3)
        own = [box is not None for box in (colour_box(mixed['img'], colours[label], 60),)]
        assert own == [True]
        assert mixed['gt_bboxes_labels'].tolist()[0] == label
        assert mixed['gt_bboxes_labels'].tolist().count(label) == 1
        assert set(mixed['gt_bboxes_labels'][1:].tolist()) <= set(range(label))


@pytest.mark.parametrize('random_pop', [True, False])
def test_partners_are_three_different_others(random_results, random_pop):
    transform = RTMCachedMosaic(
        img_scale=(32, 32),
        center_ratio_range=(1, 1),
        max_cached_images=4,
        random_pop=random_pop,
        rng=random.Random(3),
    )
    drawn = set()
    for i in range(80):
        results = random_results(i, 32, 32, num_boxes=1)
        results['gt_bboxes_labels'][:] = i
        mixed = transform(results)
        if i < 3:
            continue
        labels = mixed['gt_bboxes_labels'].tolist()
        assert labels[0] == i
        assert len(set(labels)) == 4, 'an image is twice in one mosaic'
        drawn.update(i - label for label in labels[1:])
    assert {1, 2, 3} <= drawn


@pytest.mark.parametrize('random_pop', [True, False])
def test_the_picture_itself_is_no_partner_in_a_later_epoch(random_results, random_pop):
    """Four images and a cache of 40: the cache holds each image many times."""
    transform = RTMCachedMosaic(img_scale=(32, 32), center_ratio_range=(1, 1), random_pop=random_pop)
    drawn = set()
    for step in range(200):
        results = random_results(step % 4, 32, 32, num_boxes=1)
        results['gt_bboxes_labels'][:] = step % 4
        mixed = transform(results)
        if step:
            own, *partners = mixed['gt_bboxes_labels'].tolist()
            assert own == step % 4 and len(partners) == 3 and own not in partners
            drawn.update(partners)
    assert drawn == {0, 1, 2, 3}


def test_one_picture_alone_is_its_own_partner(random_results):
    transform = RTMCachedMosaic(img_scale=(32, 32), center_ratio_range=(1, 1))
    assert transform(random_results(0)) is None
    assert len(transform(random_results(0, num_boxes=1))['gt_bboxes']) > 1


def test_draws_cover_the_range(random_results):
    transform = RTMCachedMosaic(img_scale=(100, 50), center_ratio_range=(0.5, 1.5), rng=random.Random(0))
    draws = [transform.draw(range(12)) for _ in range(2000)]
    xs, ys = np.array([d.center for d in draws]).T
    assert (xs.min(), xs.max()) == (50, 149) and (ys.min(), ys.max()) == (25, 74)
    assert {p for d in draws for p in d.partners} == set(range(12))
    assert all(len(set(d.partners)) == 3 for d in draws)
    assert abs(np.corrcoef(xs, ys)[0, 1]) < 0.1
    assert {transform.draw(range(1)).partners for _ in range(9)} == {(0, 0, 0)}


def test_default_draws_follow_pythons_seed(random_results):
    """mmengine seeds `random` in each worker, so runs repeat and workers differ."""

    def run(seed):
        random.seed(seed)
        transform = RTMCachedMosaic(img_scale=(32, 32), max_cached_images=4)
        return [out['img'] for i in range(8) if (out := transform(random_results(i))) is not None]

    first, again, other = run(1), run(1), run(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_own_source_leaves_pythons_alone(random_results):
    random.seed(0)
    state = random.getstate()
    transform = RTMCachedMosaic(img_scale=(32, 32), max_cached_images=4, rng=random.Random(5))
    for i in range(8):
        transform(random_results(i))
    assert random.getstate() == state


def test_probability(random_results):
    never = RTMCachedMosaic(img_scale=(64, 64), prob=0.0)
    for i in range(6):
        img = never(random_results(i))['img']
        assert img.shape == (47, 61, 3)
        img[:] = 0  # the next step may change it, and doesn't change the cache
    np.testing.assert_array_equal(never.cache[5].img, random_results(5)['img'])
    assert len(never.cache) == 6
    half = RTMCachedMosaic(img_scale=(32, 32), prob=0.5, rng=random.Random(0))
    outs = [half(random_results(i)) for i in range(200)]
    mixed = sum(out is None or out['img'].shape == (64, 64, 3) for out in outs)
    assert 70 < mixed < 130


def test_output_is_the_callers_own(random_results):
    transform = RTMCachedMosaic(img_scale=(64, 64), rng=random.Random(0))
    transform(random_results(0))
    mixed = transform(random_results(1))
    mixed['img'][:] = 0
    mixed['gt_bboxes'].tensor.zero_()
    mixed['gt_bboxes_labels'][:] = 0
    for place in (0, 1):
        np.testing.assert_array_equal(transform.cache[place].img, random_results(place)['img'])
        np.testing.assert_array_equal(transform.cache[place].labels, random_results(place)['gt_bboxes_labels'])


def test_numpy_boxes_come_back_as_numpy(random_results):
    transform = RTMCachedMosaic(img_scale=(64, 64))
    for i in range(3):
        results = random_results(i)
        results['gt_bboxes'] = results['gt_bboxes'].numpy()
        mixed = transform(results)
    assert isinstance(mixed['gt_bboxes'], np.ndarray) and len(mixed['gt_bboxes'])


@pytest.mark.parametrize(
    ('setting', 'accepted'),
    [
        ({'img_scale': 640}, 'two positive integers'),
        ({'img_scale': (640,)}, 'two positive integers'),
        ({'img_scale': (640, 0)}, 'two positive integers'),
        ({'img_scale': (640, -1)}, 'two positive integers'),
        ({'img_scale': (640.5, 640)}, 'two positive integers'),
        ({'img_scale': 'ab'}, 'two positive integers'),
        ({'center_ratio_range': (1.5, 0.5)}, '0 < a <= b <= 2'),
        ({'center_ratio_range': (0.5, 2.5)}, '0 < a <= b <= 2'),
        ({'center_ratio_range': (0.5, float('nan'))}, '0 < a <= b <= 2'),
        ({'prob': 1.2}, 'from 0 to 1'),
        ({'prob': -0.1}, 'from 0 to 1'),
        ({'pad_val': 300}, 'from 0 to 255'),
        ({'pad_val': (1, 2)}, 'from 0 to 255'),
        ({'max_cached_images': 3}, 'at least 4'),
        ({'max_cached_images': -40}, 'at least 4'),
        ({'max_cached_images': 4.5}, 'at least 4'),
    ],
    ids=str,
)
def test_bad_setting_is_refused_with_its_value(setting, accepted):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f'{name} must be .*{accepted}.* got ') as error:
        RTMCachedMosaic(**setting)
    assert repr(value) in str(error.value)


def test_builds_from_a_config_pickles_and_shows_its_settings(random_results):
    transform = TRANSFORMS.build(
        {'type': 'RTMCachedMosaic', 'img_scale': [320, 160], 'max_cached_images': 20, 'random_pop': False}
    )
    transform(random_results(0))
    again = pickle.loads(pickle.dumps(transform))
    assert repr(again) == repr(transform) == repr(copy.deepcopy(transform))
    assert repr(transform) == (
        'RTMCachedMosaic(img_scale=(320, 160), center_ratio_range=(0.5, 1.5), bbox_clip_border=True, '
        'pad_val=114.0, prob=1.0, max_cached_images=20, random_pop=False)'
    )
    assert again(random_results(1))['img'].shape == (320, 640, 3)


def test_mmdets_masks_are_width_by_height(monkeypatch, random_results):
    """The reason for the difference that this module's header names; drop the note when mmdet fixes it."""
    results = [random_results(i, 64, 48, masks='bitmap') for i in range(4)]
    theirs = mmdet_mosaic(monkeypatch, results[0], results[1:], (70, 40), img_scale=(64, 48))
    assert isinstance(theirs['gt_masks'], BitmapMasks)
    assert theirs['gt_masks'].masks.shape[1:] == (128, 96)
    assert theirs['img_shape'] == (96, 128)
