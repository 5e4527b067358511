"""The cache: its size and order, and read-only contents."""

import pickle
import random

import numpy as np
import pytest
from mmdet.datasets.transforms import CachedMixUp

from rtmdet_plugin.transforms.outline_masks import OutlineMasks
from rtmdet_plugin.transforms.sample import Sample
from rtmdet_plugin.transforms.sample_cache import SampleCache


def sample_of(results, label):
    results['gt_bboxes_labels'][:] = label
    return Sample.from_results(results)


def labels_of(cache):
    return [int(cache[place].labels[0]) for place in range(len(cache))]


class CountingRandom(random.Random):
    calls = 0

    def randrange(self, *args):
        self.calls += 1
        return super().randrange(*args)


@pytest.mark.parametrize('size', [0, -3, 2.5, '4', True, None])
def test_size_that_is_no_positive_integer_is_refused(size):
    with pytest.raises(ValueError, match='max_size must be an integer of at least 1') as error:
        SampleCache(size)
    assert repr(size) in str(error.value)


def test_fifo_drops_the_oldest(random_results):
    cache, rng = SampleCache(3, random_pop=False), CountingRandom(0)
    others = [cache.add(sample_of(random_results(i), i), rng) for i in range(5)]
    assert others == [0, 1, 2, 2, 2]
    assert labels_of(cache) == [2, 3, 4]
    assert rng.calls == 0


@pytest.mark.parametrize('random_pop', [True, False])
def test_order_is_mmdets_for_the_same_draws(monkeypatch, random_results, random_pop):
    cache, rng, mmdet_rng = SampleCache(4, random_pop), random.Random(7), random.Random(7)
    mmdet = CachedMixUp(max_cached_images=4, random_pop=random_pop, prob=0.0)
    monkeypatch.setattr('numpy.random.uniform', lambda low, high: 1.0)
    monkeypatch.setattr('numpy.random.randint', lambda low, high: low + mmdet_rng.randrange(high - low))
    for i in range(60):
        others = cache.add(sample_of(random_results(i), i), rng)
        mmdet.transform(random_results(i))
        assert labels_of(cache) == [results['img_id'] for results in mmdet.results_cache]
        assert labels_of(cache).index(i) == others == len(cache) - 1


def test_random_pop_drops_each_of_the_others(random_results):
    cache, rng, seen = SampleCache(3), random.Random(0), set()
    for i in range(40):
        before = labels_of(cache)
        cache.add(sample_of(random_results(i), i), rng)
        seen.update(place for place, label in enumerate(before) if label not in labels_of(cache))
    assert seen == {0, 1, 2}


@pytest.mark.parametrize('masks', [None, 'bitmap', 'polygon'])
def test_is_bounded_in_bytes(random_results, masks):
    one = Sample.from_results(random_results(0, masks=masks)).nbytes
    assert masks is None or one > Sample.from_results(random_results(0)).nbytes
    cache = SampleCache(100, random_pop=False, max_bytes=int(3.5 * one))
    others = [cache.add(sample_of(random_results(0, masks=masks), i), random.Random(0)) for i in range(6)]
    assert others == [0, 1, 2, 2, 2, 2] and labels_of(cache) == [3, 4, 5]
    assert cache.nbytes == 3 * one

    large = random_results(7, width=610, height=470, masks=masks)
    assert cache.add(sample_of(large, 7), random.Random(0)) == 0, 'the newest is kept, even if it is then the only one'
    assert labels_of(cache) == [7] and cache.nbytes > cache.max_bytes


def test_partners_show_other_pictures_where_there_are_some(random_results):
    cache, rng = SampleCache(5), random.Random(0)

    def partners_of(*ids):
        for img_id in ids:
            sample = Sample.from_results(random_results(0) | {'img_id': img_id})
            others = cache.add(sample, rng)
        return cache.partners(sample, others)

    assert partners_of(7) == []
    assert partners_of(7) == [0]
    assert partners_of(8, 7) == [2]
    assert partners_of('7') == [0, 1, 2, 3]
    assert SampleCache(5).partners(Sample.from_results(random_results(0)), 0) == []
    assert partners_of(None) == [0, 1, 2, 3]


@pytest.mark.parametrize('masks', ['bitmap', 'polygon'])
def test_the_caller_can_not_change_a_cached_sample(random_results, masks):
    results, untouched = random_results(1, masks=masks), random_results(1, masks=masks)
    cache = SampleCache(2)
    cache.add(Sample.from_results(results), random.Random(0))
    with pytest.raises(ValueError, match='read-only'):
        results['img'][:] = 0
    results['gt_bboxes'].tensor.zero_()
    results['gt_bboxes_labels'][:] = -1
    results['gt_ignore_flags'][:] = True
    if masks == 'bitmap':
        results['gt_masks'].masks[:] = 0
    else:
        results['gt_masks'].masks[0][0][:] = 0
    kept = cache[0]
    np.testing.assert_array_equal(kept.img, untouched['img'])
    np.testing.assert_array_equal(kept.boxes, untouched['gt_bboxes'].numpy())
    np.testing.assert_array_equal(kept.labels, untouched['gt_bboxes_labels'])
    np.testing.assert_array_equal(kept.ignore_flags, untouched['gt_ignore_flags'])
    np.testing.assert_array_equal(kept.masks.to_ndarray(), OutlineMasks.of(untouched['gt_masks']).to_ndarray())


@pytest.mark.parametrize('masks', ['bitmap', 'polygon'])
def test_a_user_can_not_change_a_cached_sample(random_results, masks):
    cache = SampleCache(2)
    cache.add(Sample.from_results(random_results(1, masks=masks)), random.Random(0))
    used = cache[0]
    for array in (used.img, used.boxes, used.labels, used.ignore_flags, used.masks.outlines[0][0]):
        with pytest.raises(ValueError, match='read-only'):
            array[...] = 0


def test_an_image_is_copied_only_if_it_would_keep_more_memory_than_its_own():
    cache, boxes = SampleCache(9), np.zeros((1, 4), np.float32)
    large = np.arange(30, dtype=np.uint8).reshape(2, 5, 3)
    views = [large, large.copy().reshape(5, 2, 3), large[:, 1:], large[:, ::-1], np.frombuffer(bytearray(6), np.uint8)]
    for img in views:
        cache.add(Sample(img, boxes, np.zeros(1), np.zeros(1)), random.Random(0))
    for place, img in enumerate(views):
        assert np.shares_memory(cache[place].img, img) == (place < 2)
        np.testing.assert_array_equal(cache[place].img, img)
        assert not cache[place].img.flags.writeable and cache[place].img.flags.c_contiguous
    assert not views[1].base.flags.writeable


def test_survives_pickling(random_results):
    cache = SampleCache(2)
    cache.add(Sample.from_results(random_results(1)), random.Random(0))
    copy = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copy[0].img, cache[0].img)
    assert repr(copy) == repr(cache) == 'SampleCache(max_size=2, random_pop=True, max_bytes=268435456)'


@pytest.mark.parametrize('key', ['img', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags'])
def test_missing_key_is_named(random_results, key):
    results = random_results(0)
    del results[key]
    with pytest.raises(ValueError, match=rf"no \['{key}'\].*LoadAnnotations"):
        Sample.from_results(results)


@pytest.mark.parametrize('key', ['gt_seg_map', 'gt_keypoints', 'proposals'])
def test_annotation_that_would_be_left_behind_is_refused(random_results, key):
    results = random_results(0) | {key: np.zeros((4, 4))}
    with pytest.raises(ValueError, match=key):
        Sample.from_results(results)
