"""MixUp: mmdet's pixels and boxes for the same draws, and each deliberate difference."""

import copy
import pickle
import random

import numpy as np
import pytest
from mmdet.datasets.transforms import CachedMixUp
from mmdet.registry import TRANSFORMS

from rtmdet_plugin.transforms.mixup import MixUpParams, RTMCachedMixUp, mixup, scaled_canvas
from rtmdet_plugin.transforms.sample import Sample

# (width, height) of the image and of its partner
SIZES = {
    'same': ((64, 48), (64, 48)),
    'odd': ((61, 47), (33, 59)),
    'tall': ((40, 90), (20, 150)),
    'wide': ((90, 40), (150, 20)),
    'larger': ((150, 130), (301, 299)),
    'smaller': ((30, 28), (16, 12)),
    'tall and wide': ((30, 90), (150, 20)),
}


def mmdet_mixup(monkeypatch, results, partner, params, **settings):
    """Return mmdet's MixUp of the same image, partner and draws."""
    transform = CachedMixUp(max_cached_images=10, flip_ratio=0.5, **settings)
    transform.results_cache = [copy.deepcopy(partner)]
    monkeypatch.setattr(transform, 'get_indexes', lambda cache: 0)
    draws = iter([0.0, params.ratio, 1.0 if params.flip else 0.0])
    offsets = {'y': params.offset[1], 'x': params.offset[0]}
    bounds = {}
    canvas = scaled_canvas(transform.dynamic_scale, params.ratio)

    def randint(low, high):
        # mmdet draws y first, and each only if the canvas is larger than the image
        axis = 'y' if 'y' not in bounds and canvas[1] > results['img'].shape[0] else 'x'
        bounds[axis] = (low, high)
        return offsets[axis]

    monkeypatch.setattr('numpy.random.uniform', lambda low, high: next(draws))
    monkeypatch.setattr('numpy.random.randint', randint)
    out = transform.transform(copy.deepcopy(results))
    monkeypatch.undo()
    assert next(draws, None) is None
    assert all(low <= offsets[axis] <= high for axis, (low, high) in bounds.items())
    assert all(offsets[axis] == 0 for axis in offsets if axis not in bounds)
    return out


def our_mixup(results, partner, params, img_scale, pad_val=114.0, bbox_clip_border=True):
    samples = [Sample.from_results(copy.deepcopy(r)) for r in (results, partner)]
    return mixup(*samples, params, img_scale, pad_val, bbox_clip_border).write_to(copy.deepcopy(results))


def params_for(results, img_scale, ratio, flip, where=0.6):
    """Return draws whose crop is at the fraction `where` (0..1) of the available range."""
    height, width = results['img'].shape[:2]
    canvas_width, canvas_height = scaled_canvas(img_scale, ratio)
    offset = (int(max(canvas_width - width, 0) * where), int(max(canvas_height - height, 0) * where))
    return MixUpParams(0, ratio, flip, offset)


def assert_same(ours, theirs):
    assert ours['img'].dtype == theirs['img'].dtype == np.uint8
    assert tuple(ours['img_shape']) == tuple(theirs['img_shape'])
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    np.testing.assert_array_equal(ours['gt_bboxes'].numpy(), theirs['gt_bboxes'].numpy())
    np.testing.assert_array_equal(ours['gt_bboxes_labels'], theirs['gt_bboxes_labels'])
    np.testing.assert_array_equal(ours['gt_ignore_flags'], theirs['gt_ignore_flags'])


RATIOS = [1.0, 0.5, 0.83, 1.27, 1.5]


# All sizes with and without a flip; each ratio is drawn at least twice.
@pytest.mark.parametrize(
    ('sizes', 'flip', 'ratio'),
    [(sizes, flip, RATIOS[(i + 2 * flip) % 5]) for i, sizes in enumerate(SIZES) for flip in (False, True)],
)
def test_equals_mmdet_for_the_same_draws(monkeypatch, random_results, sizes, ratio, flip):
    results, partner = (random_results(i, w, h, num_boxes=5) for i, (w, h) in enumerate(SIZES[sizes]))
    for img_scale in ((64, 48), (40, 80)):
        params = params_for(results, img_scale, ratio, flip)
        for clip in (True, False):
            settings = {'img_scale': img_scale, 'bbox_clip_border': clip}
            theirs = mmdet_mixup(monkeypatch, results, partner, params, **settings)
            assert_same(our_mixup(results, partner, params, **settings), theirs)


@pytest.mark.parametrize('where', [0.0, 0.5, 1.0])
def test_equals_mmdet_for_crops_that_lose_boxes(monkeypatch, random_results, where):
    results, partner = random_results(0, 30, 30, num_boxes=4), random_results(1, 90, 90, num_boxes=12)
    params = params_for(results, (80, 80), 1.5, True, where)
    theirs = mmdet_mixup(monkeypatch, results, partner, params, img_scale=(80, 80))
    ours = our_mixup(results, partner, params, (80, 80))
    assert_same(ours, theirs)
    assert 4 <= len(ours['gt_bboxes']) < 16, 'no box was lost: the test would not see the filter'


def test_equals_mmdet_for_an_image_without_boxes_and_other_padding(monkeypatch, random_results):
    results, partner = random_results(0, num_boxes=0), random_results(1)
    for pad_val in (0.0, 30.0, 255.0):
        params = params_for(results, (64, 64), 1.2, False)
        theirs = mmdet_mixup(monkeypatch, results, partner, params, img_scale=(64, 64), pad_val=pad_val)
        assert_same(our_mixup(results, partner, params, (64, 64), pad_val), theirs)


def test_one_padding_value_a_channel(random_results):
    """As in mmdet's RTMDet configs, which write (114, 114, 114); 114 is the same."""
    results, partner = random_results(0, 60, 60), random_results(1, 60, 20)
    params = MixUpParams(0, 1.0, False, (0, 0))
    a, b, c = (our_mixup(results, partner, params, (60, 60), v)['img'] for v in (114, (114,) * 3, (0, 114, 255)))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(c[..., 1], a[..., 1])
    assert (c[30:, :, 0] == results['img'][30:, :, 0] // 2).all()
    grey = random_results(2, channels=None), random_results(3, channels=None)
    with pytest.raises(ValueError, match=r'pad_val must be one number.* got \(0, 114, 255\)'):
        our_mixup(*grey, params, (60, 60), (0, 114, 255))


@pytest.mark.parametrize(
    ('masks', 'ratio', 'flip'),
    [
        *(('bitmap', 1.0, True), ('bitmap', 0.5, False), ('bitmap', 1.5, True)),
        *(('polygon', 1.0, False), ('polygon', 0.5, True), ('polygon', 1.5, False)),
    ],
)
def test_boxes_and_masks_lie_on_the_objects(flat_results, colours, colour_box, masks, ratio, flip):
    """The partner is wide and the canvas square: mmdet then flips masks on another axis than boxes."""
    results = flat_results(0, 80, 80, box=(4, 50, 30, 76), masks=masks)
    partner = flat_results(1, 64, 32, box=(8, 6, 28, 26), masks=masks)
    params = params_for(results, (80, 80), ratio, flip, where=0.2)
    mixed = our_mixup(results, partner, params, (80, 80))
    assert mixed['img'].shape == (80, 80, 3) and mixed['img'].dtype == np.uint8
    assert mixed['gt_bboxes_labels'].tolist() == [0, 1]
    assert mixed['gt_ignore_flags'].tolist() == [False, True]
    assert (mixed['gt_masks'].height, mixed['gt_masks'].width) == (80, 80)
    # the partner's object lies on the image's background (10), or at its upper edge: half of each colour
    found = colour_box(mixed['img'], [(c + 10) // 2 for c in colours[1]], 25)
    np.testing.assert_allclose(mixed['gt_bboxes'].numpy()[1], found, atol=1.5)
    np.testing.assert_array_equal(mixed['gt_bboxes'].numpy()[0], [4, 50, 30, 76])
    for bitmap, box in zip(mixed['gt_masks'].to_ndarray(), mixed['gt_bboxes'].numpy(), strict=True):
        ys, xs = np.nonzero(bitmap)
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], box, atol=2)


def test_mmdet_moves_flipped_masks_off_their_boxes(monkeypatch, flat_results):
    """The reason for a difference that the module's header names; drop the note when mmdet fixes it."""
    results = flat_results(0, 80, 80, masks='bitmap')
    partner = flat_results(1, 32, 64, box=(2, 6, 12, 26), masks='bitmap')
    params = MixUpParams(0, 1.0, True, (0, 0))
    for out, right in (
        (mmdet_mixup(monkeypatch, results, partner, params, img_scale=(80, 80)), False),
        (our_mixup(results, partner, params, (80, 80)), True),
    ):
        xs = np.nonzero(out['gt_masks'].to_ndarray()[1])[1]
        on_box = abs(xs.min() - out['gt_bboxes'].numpy()[1][0]) <= 2
        assert on_box == right


@pytest.mark.parametrize(('channels', 'ratio', 'flip'), [(None, 1.0, True), (None, 0.7, False), (1, 0.7, True)])
def test_grayscale(random_results, channels, ratio, flip):
    """mmdet fails on both shapes. The pixels are those of a colour image with equal channels."""
    grey = [random_results(i, channels=channels) for i in range(2)]
    colour = copy.deepcopy(grey)
    for results in colour:
        results['img'] = np.repeat(results['img'].reshape(47, 61, 1), 3, axis=2)
    params = params_for(grey[0], (64, 64), ratio, flip)
    mixed, reference = (our_mixup(*r, params, (64, 64)) for r in (grey, colour))
    assert mixed['img'].shape == grey[0]['img'].shape
    np.testing.assert_array_equal(mixed['img'].reshape(47, 61), reference['img'][..., 0])
    np.testing.assert_array_equal(mixed['gt_bboxes'].numpy(), reference['gt_bboxes'].numpy())


@pytest.mark.parametrize('dtype', [np.float32, np.uint16])
def test_the_dtype_stays(random_results, dtype):
    results, partner = random_results(0), random_results(1)
    for r in (results, partner):
        r['img'] = r['img'].astype(dtype) * (257 if dtype == np.uint16 else 1)
    mixed = our_mixup(results, partner, MixUpParams(0, 1.0, False, (0, 0)), (61, 47))
    assert mixed['img'].dtype == dtype
    expected = (results['img'].astype(np.float64) + partner['img']) / 2
    np.testing.assert_allclose(mixed['img'], expected, atol=0 if dtype == np.float32 else 0.5)


def test_the_mean_of_every_pair_of_bytes():
    """The 8-bit arithmetic is exact for all 65,536 pairs."""
    from rtmdet_plugin.transforms.mixup import _average

    first, second = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    expected = (first.astype(int) + second) // 2
    np.testing.assert_array_equal(_average(first, second), expected)


def test_rendering_changes_no_input(random_results):
    results = [random_results(i, masks='polygon') for i in range(2)]
    for r in results:
        r['img'].flags.writeable = False
    before = copy.deepcopy(results)
    mixup(*(Sample.from_results(r) for r in results), MixUpParams(0, 1.2, True, (1, 2)), (64, 48))
    for r, b in zip(results, before, strict=True):
        np.testing.assert_array_equal(r['img'], b['img'])
        np.testing.assert_array_equal(r['gt_bboxes'].numpy(), b['gt_bboxes'].numpy())
        np.testing.assert_array_equal(r['gt_masks'].masks[0][0], b['gt_masks'].masks[0][0])


def test_first_sample_asks_the_dataset_for_another_and_the_second_is_mixed(random_results):
    transform = RTMCachedMixUp(img_scale=(64, 64), max_cached_images=2)
    assert transform(random_results(0)) is None
    results = random_results(1)
    assert len(transform(results)['gt_bboxes']) > 3


@pytest.mark.parametrize('random_pop', [True, False])
def test_the_partner_is_another_image(random_results, random_pop):
    transform = RTMCachedMixUp(
        img_scale=(61, 47),
        ratio_range=(1, 1),
        max_cached_images=4,
        random_pop=random_pop,
        rng=random.Random(3),
    )
    drawn = set()
    for i in range(80):
        results = random_results(i, num_boxes=1)
        results['gt_bboxes_labels'][:] = i
        mixed = transform(results)
        if i:
            own, partner = mixed['gt_bboxes_labels'].tolist()
            assert own == i != partner
            drawn.add(i - partner)
    assert {1, 2, 3} <= drawn


def test_the_picture_itself_is_no_partner_in_a_later_epoch(random_results):
    transform = RTMCachedMixUp(img_scale=(61, 47), ratio_range=(1, 1))
    for step in range(100):
        results = random_results(step % 3, num_boxes=1)
        results['gt_bboxes_labels'][:] = step % 3
        mixed = transform(results)
        if step:
            own, partner = mixed['gt_bboxes_labels'].tolist()
            assert own == step % 3 != partner


def test_partner_with_boxes_is_looked_for_at_most_max_iters_times(random_results):
    """As in mmdet: images without objects are no partners, and without a partner a sample stays unmixed."""
    transform = RTMCachedMixUp(img_scale=(64, 64), max_cached_images=30, max_iters=4, rng=random.Random(0))
    transform(random_results(0, num_boxes=0))
    plain = transform(random_results(1))
    np.testing.assert_array_equal(plain['img'], random_results(1)['img'])
    assert len(plain['gt_bboxes']) == 3

    patient = RTMCachedMixUp(img_scale=(64, 64), max_cached_images=30, max_iters=500, rng=random.Random(0))
    for i in range(20):
        patient.prob = 0.0
        patient(random_results(i, num_boxes=3 if i == 7 else 0))
    patient.prob = 1.0
    assert patient.draw(range(20), (47, 61)).partner == 7


def test_draws_cover_the_range(random_results):
    transform = RTMCachedMixUp(img_scale=(100, 80), ratio_range=(0.5, 1.5), flip_ratio=0.25, rng=random.Random(0))
    for i in range(3):
        transform.cache.add(Sample.from_results(random_results(i)), transform.rng)
    draws = [transform.draw(range(3), (60, 90)) for _ in range(3000)]
    ratios = np.array([d.ratio for d in draws])
    assert 0.5 <= ratios.min() < 0.51 and 1.49 < ratios.max() <= 1.5
    assert 0.2 < np.mean([d.flip for d in draws]) < 0.3, 'flip_ratio is the probability of a flip'
    assert {d.partner for d in draws} == {0, 1, 2}
    for d in draws:
        width, height = scaled_canvas((100, 80), d.ratio)
        assert 0 <= d.offset[0] <= max(width - 90, 0) and 0 <= d.offset[1] <= max(height - 60, 0)
    at_the_end = [d.offset[0] == int(100 * d.ratio) - 90 > 0 for d in draws]
    assert any(at_the_end), 'the last possible crop is never drawn'


def test_flip_ratio_of_mmdet_is_the_probability_of_no_flip(random_results):
    """The reason for a difference that the module's header names."""
    random.seed(0)
    theirs = CachedMixUp(img_scale=(64, 64), ratio_range=(1.0, 1.0), flip_ratio=0.0)
    ours = RTMCachedMixUp(img_scale=(64, 64), ratio_range=(1.0, 1.0), flip_ratio=0.0)
    partner = random_results(0, 64, 64)
    never, always = (
        our_mixup(random_results(1, 64, 64), partner, MixUpParams(0, 1.0, flip, (0, 0)), (64, 64))['img']
        for flip in (False, True)
    )
    theirs.results_cache = [copy.deepcopy(partner)] * 1
    theirs.get_indexes = lambda cache: 0
    np.testing.assert_array_equal(theirs.transform(random_results(1, 64, 64))['img'], always)
    ours(copy.deepcopy(partner))
    np.testing.assert_array_equal(ours(random_results(1, 64, 64))['img'], never)


def test_probability(random_results):
    never = RTMCachedMixUp(img_scale=(64, 64), prob=0.0)
    for i in range(5):
        img = never(random_results(i))['img']
        np.testing.assert_array_equal(img, random_results(i)['img'])
        img[:] = 0  # the next step may change it, and doesn't change the cache
    np.testing.assert_array_equal(never.cache[4].img, random_results(4)['img'])
    assert len(never.cache) == 5
    half = RTMCachedMixUp(img_scale=(64, 64), prob=0.5, rng=random.Random(0))
    outs = [half(random_results(i)) for i in range(200)]
    mixed = sum(out is None or not np.array_equal(out['img'], random_results(i)['img']) for i, out in enumerate(outs))
    assert 70 < mixed < 130


@pytest.mark.parametrize(
    ('setting', 'accepted'),
    [
        ({'img_scale': (0, 640)}, 'two positive integers'),
        ({'img_scale': None}, 'two positive integers'),
        ({'ratio_range': (1.5, 0.5)}, '0 < a <= b'),
        ({'ratio_range': (0, 1)}, '0 < a <= b'),
        ({'ratio_range': (1, float('inf'))}, '0 < a <= b'),
        ({'ratio_range': 1.0}, '0 < a <= b'),
        ({'flip_ratio': 2}, 'from 0 to 1'),
        ({'pad_val': -1}, 'from 0 to 255'),
        ({'pad_val': 'grey'}, 'from 0 to 255'),
        ({'max_iters': 0}, 'at least 1'),
        ({'max_cached_images': 1}, 'at least 2'),
        ({'max_cached_images': -20}, 'at least 2'),
        ({'prob': float('nan')}, 'from 0 to 1'),
    ],
    ids=str,
)
def test_bad_setting_is_refused_with_its_value(setting, accepted):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f'{name} must be .*{accepted}.* got ') as error:
        RTMCachedMixUp(**setting)
    assert repr(value) in str(error.value)


def test_builds_from_a_config_pickles_and_shows_its_settings(random_results):
    transform = TRANSFORMS.build(
        {'type': 'RTMCachedMixUp', 'img_scale': [64, 32], 'ratio_range': (1.0, 1.0), 'max_cached_images': 10}
    )
    transform(random_results(0))
    again = pickle.loads(pickle.dumps(transform))
    assert repr(again) == repr(transform) == repr(copy.deepcopy(transform))
    assert repr(transform) == (
        'RTMCachedMixUp(img_scale=(64, 32), ratio_range=(1.0, 1.0), flip_ratio=0.5, pad_val=114.0, '
        'max_iters=15, bbox_clip_border=True, max_cached_images=10, random_pop=True, prob=1.0)'
    )
    assert again(random_results(1))['img'].shape == (47, 61, 3)
