"""Resize with crop, HSV, flip and packing: mmdet's results for the same draws."""

import copy
import pickle
import random

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs, RandomFlip, YOLOXHSVRandomAug
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import BitmapMasks

from rtmdet_plugin.stride_masks import StrideMasks
from rtmdet_plugin.transforms.flip import RTMRandomFlip
from rtmdet_plugin.transforms.hsv import RTMYOLOXHSVRandomAug, shift_hsv
from rtmdet_plugin.transforms.outline_masks import OutlineMasks
from rtmdet_plugin.transforms.packing import RTMPackDetInputs
from rtmdet_plugin.transforms.resize_crop import RTMRandomResizeCrop


def colours(seed):
    """Random colours, and all the greys."""
    img = np.random.default_rng(seed).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    img[0] = np.arange(0, 256, 2, dtype=np.uint8)[:, None]
    return img


@pytest.mark.parametrize(
    ('hue', 'saturation', 'value'),
    [
        *((0, 0, 0), (-5, 0, 0), (4, 0, 7), (0, 0, -29), (0, -12, 0), (0, 29, 30)),
        *((-4, -30, 30), (-1, 29, -29), (1, -12, 0), (5, -30, -30), (5, 29, 30)),
    ],
)
def test_hsv_gives_mmdets_pixels_for_the_same_gains(monkeypatch, hue, saturation, value):
    img = colours(abs(100 * hue + saturation + value))
    mmdet = YOLOXHSVRandomAug()
    monkeypatch.setattr(mmdet, '_get_hsv_gains', lambda: np.array([hue, saturation, value], np.int16))
    before = img.copy()
    shifted, theirs = shift_hsv(img, hue, saturation, value), mmdet({'img': img.copy()})['img']
    np.testing.assert_array_equal(img, before)
    if (hue, saturation, value) == (0, 0, 0):
        assert shifted is img and 0 < np.abs(theirs.astype(int) - img).max() < 10
        return
    np.testing.assert_array_equal(shifted, theirs)
    assert (shifted != before).mean() > 0.3


def test_hsv_gains_have_mmdets_distribution():
    ours, mmdet = RTMYOLOXHSVRandomAug(5, 30, 20, rng=random.Random(0)), YOLOXHSVRandomAug(5, 30, 20)
    np.random.seed(0)
    gains = [np.array([draw() for _ in range(20000)]) for draw in (ours.draw, mmdet._get_hsv_gains)]
    for channel, delta in enumerate((5, 30, 20)):
        shares = [np.bincount(g[:, channel] + delta, minlength=2 * delta + 1) / len(g) for g in gains]
        np.testing.assert_allclose(*shares, atol=0.012)
        assert set(gains[0][:, channel]) == set(range(1 - delta, delta))


@pytest.mark.parametrize('img', [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)], ids=['grey', 'float'])
def test_hsv_of_other_images_is_refused_by_name(img):
    with pytest.raises(ValueError, match=r'a/b\.jpg must be loaded as uint8'):
        RTMYOLOXHSVRandomAug()({'img': img, 'img_path': 'a/b.jpg'})


@pytest.mark.parametrize(('masks', 'channels'), [(None, None), ('bitmap', 1), ('polygon', 3)])
def test_flip_is_mmdets_with_the_pixels_in_order(random_results, masks, channels):
    results = random_results(1, channels=channels, masks=masks)
    theirs = RandomFlip(prob=1.0)(copy.deepcopy(results))
    ours = RTMRandomFlip(prob=1.0)(copy.deepcopy(results))
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    assert ours['img'].flags.c_contiguous and not theirs['img'].flags.c_contiguous
    np.testing.assert_allclose(ours['gt_bboxes'].numpy(), theirs['gt_bboxes'].numpy(), atol=1e-5)
    if masks:
        np.testing.assert_array_equal(ours['gt_masks'].to_ndarray(), theirs['gt_masks'].to_ndarray())
    assert (ours['flip'], ours['flip_direction']) == (theirs['flip'], theirs['flip_direction']) == (True, 'horizontal')


def test_flip_happens_as_often_as_it_is_told(random_results):
    flip = RTMRandomFlip(prob=0.3, rng=random.Random(0))
    flipped = [flip({'img': None, **random_results(0)})['flip'] for _ in range(1000)]
    assert 250 < sum(flipped) < 350
    unflipped = RTMRandomFlip(prob=0.0)(random_results(0))
    assert (unflipped['flip'], unflipped['flip_direction']) == (False, None)
    with pytest.raises(ValueError, match='prob must be .* got 1.5'):
        RTMRandomFlip(prob=1.5)


@pytest.mark.parametrize('boxed', [True, False])
@pytest.mark.parametrize('channels', [None, 1, 3])
def test_packing_is_mmdets(random_results, channels, boxed):
    results = random_results(3, channels=channels, num_boxes=6)
    if not boxed:
        results['gt_bboxes'] = results['gt_bboxes'].numpy()
    keys = ('img_id', 'img_shape')
    theirs = PackDetInputs(keys)(copy.deepcopy(results))
    ours = RTMPackDetInputs(keys)(results)
    assert torch.equal(ours['inputs'], theirs['inputs']) and ours['inputs'].is_contiguous()
    assert ours['inputs'].dtype == torch.uint8
    for part in ('gt_instances', 'ignored_instances'):
        mine, reference = getattr(ours['data_samples'], part), getattr(theirs['data_samples'], part)
        assert torch.equal(torch.as_tensor(mine.labels), torch.as_tensor(reference.labels))
        assert torch.equal(mine.bboxes.tensor, reference.bboxes.tensor if boxed else reference.bboxes)
    assert ours['data_samples'].metainfo == theirs['data_samples'].metainfo
    results['img'][:] = 0
    assert ours['inputs'].any(), 'the packed image shares memory with the one that went in'


@pytest.mark.parametrize('masks', ['bitmap', 'polygon'])
def test_masks_are_packed_at_stride_4_with_their_centroids(random_results, masks):
    results = random_results(5, num_boxes=7, masks=masks)
    results['gt_ignore_flags'] = np.arange(7) == 2
    if masks == 'bitmap':
        results['gt_masks'].masks[4] = 0
    else:
        results['gt_masks'].masks[4] = [np.array([3.1, 3.1, 3.2, 3.1, 3.2, 3.3])]
    full = OutlineMasks.of(results['gt_masks']).to_ndarray()
    sample = RTMPackDetInputs(('img_id',))(results)['data_samples']
    kept = [0, 1, 3, 5, 6]
    assert sample.gt_instances.labels.tolist() == results['gt_bboxes_labels'][kept].tolist()
    assert torch.equal(sample.gt_instances.bboxes.tensor, results['gt_bboxes'].tensor[kept])
    expected = StrideMasks.from_full(full[kept])
    assert torch.equal(sample.gt_instances.masks.pixels, expected.pixels) and expected.pixels.any()
    torch.testing.assert_close(sample.gt_instances.masks.centers, expected.centers)
    assert len(sample.ignored_instances.labels) == 1 and 'masks' not in sample.ignored_instances
    del results['gt_ignore_flags']
    sample = RTMPackDetInputs(('img_id',))(results)['data_samples']
    assert sample.gt_instances.labels.tolist() == results['gt_bboxes_labels'][[0, 1, 2, 3, 5, 6]].tolist()


def test_masks_of_an_image_without_objects_are_packed(random_results):
    sample = RTMPackDetInputs(('img_id',))(random_results(5, num_boxes=0, masks='polygon'))['data_samples']
    assert sample.gt_instances.masks.pixels.shape == (0, 12, 15) and len(sample.gt_instances.bboxes) == 0


@pytest.mark.parametrize(('seed', 'masks'), enumerate([None, 'bitmap', 'polygon'] * 3))
def test_resize_and_crop_keep_boxes_on_the_objects(flat_results, colour_box, masks, seed):
    transform = RTMRandomResizeCrop((96, 64), (0.5, 2.0), (70, 50), rng=random.Random(seed))
    results = flat_results(2, width=60, height=40, masks=masks)
    out = transform(results)
    if out is None:
        return
    assert out['img_shape'] == out['img'].shape[:2] <= (50, 70)
    box = out['gt_bboxes'].numpy()[0]
    np.testing.assert_allclose(box, colour_box(out['img'], (30, 30, 250), 100), atol=1)
    assert out['scale_factor'][0] == pytest.approx(out['scale_factor'][1], abs=0.02)
    if masks:
        assert (out['gt_masks'].height, out['gt_masks'].width) == out['img_shape']
        ys, xs = np.nonzero(out['gt_masks'].to_ndarray()[0])
        np.testing.assert_allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], box, atol=1.5)


def test_resize_and_crop_of_a_whole_picture_is_one_resize(random_results):
    transform = RTMRandomResizeCrop((96, 96), (1.0, 1.0), (96, 96))
    results = random_results(0, 48, 24, num_boxes=4)
    out = transform(copy.deepcopy(results))
    np.testing.assert_array_equal(out['img'], cv2.resize(results['img'], (96, 48)))
    np.testing.assert_allclose(out['gt_bboxes'].numpy(), results['gt_bboxes'].numpy() * 2, rtol=1e-6)


def test_resize_and_crop_covers_every_place(random_results):
    transform = RTMRandomResizeCrop((20, 20), (1.0, 1.0), (17, 18), rng=random.Random(0))
    offsets = {transform.draw((40, 40)).offset for _ in range(500)}
    assert offsets == {(x, y) for x in range(4) for y in range(3)}


@pytest.mark.parametrize(
    'setting', [{'scale': 640}, {'crop_size': (0, 9)}, {'crop_size': (9.5, 9)}, {'ratio_range': (0, 1)}], ids=str
)
def test_bad_setting_of_resize_and_crop_is_refused(setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f'{name} must be .* got ') as error:
        RTMRandomResizeCrop(**{'scale': (9, 9), 'ratio_range': (1, 1), 'crop_size': (9, 9), **setting})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ('config', 'shown'),
    [
        ({'type': 'RTMRandomFlip'}, 'RTMRandomFlip(prob=0.5)'),
        (
            {'type': 'RTMYOLOXHSVRandomAug', 'hue_delta': 3},
            'RTMYOLOXHSVRandomAug(hue_delta=3, saturation_delta=30, value_delta=30)',
        ),
        (
            {'type': 'RTMRandomResizeCrop', 'scale': [8, 6], 'ratio_range': (0.5, 2), 'crop_size': [4, 3]},
            'RTMRandomResizeCrop(scale=(8, 6), ratio_range=(0.5, 2), crop_size=(4, 3), bbox_clip_border=True, '
            'recompute_bbox=False, allow_negative_crop=False)',
        ),
        ({'type': 'RTMPackDetInputs', 'meta_keys': ('a',)}, "RTMPackDetInputs(meta_keys=('a',))"),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_steps_build_from_configs_pickle_and_show_their_settings(config, shown):
    transform = TRANSFORMS.build(config)
    assert repr(pickle.loads(pickle.dumps(transform))) == repr(transform) == shown


def test_mmdets_steps_accept_plain_boxes_between_ours(random_results):
    """Any transform of mmdet's can be inserted between the steps of the fast path."""
    results = random_results(0, num_boxes=5)
    results['gt_bboxes'] = results['gt_bboxes'].numpy()
    for config in ({'type': 'RandomFlip', 'prob': 1.0}, {'type': 'RandomAffine'}, {'type': 'MinIoURandomCrop'}):
        results = TRANSFORMS.build(config)(results)
        assert isinstance(results['gt_bboxes'], np.ndarray)
    out = RTMRandomFlip(prob=1.0)(results)
    assert isinstance(out['gt_bboxes'], np.ndarray) and not isinstance(out.get('gt_masks'), BitmapMasks)
