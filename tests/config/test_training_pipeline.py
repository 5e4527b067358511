"""Pieces of mmdet's training pipelines and what becomes of them."""

import pytest

from rtmdet_plugin.config.training_pipeline import fixed_size, move_pipeline

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
MOSAIC = dict(type='CachedMosaic', img_scale=(320, 320), prob=0.7)
RESIZE = dict(type='RandomResize', scale=(640, 640), ratio_range=(0.5, 2.0), keep_ratio=True)
CROP = dict(type='RandomCrop', crop_size=(320, 320))
PAD = dict(type='Pad', size=(320, 320))
FUSED = dict(
    type='RTMCachedMosaicResizeCrop', img_scale=(320, 320), prob=0.7, ratio_range=(0.5, 2.0), crop_size=(320, 320)
)
FUSED_RESIZE = dict(type='RTMRandomResizeCrop', scale=(640, 640), ratio_range=(0.5, 2.0), crop_size=(320, 320))
OURS = dict(MOSAIC, type='RTMCachedMosaic')
PACK = dict(type='PackDetInputs')


@pytest.mark.parametrize(
    ('steps', 'expected'),
    [
        ([MOSAIC, RESIZE, CROP], [FUSED]),
        ([MOSAIC, PAD, RESIZE, CROP], [OURS, PAD, FUSED_RESIZE]),
        ([MOSAIC, dict(RESIZE, scale=(800, 800)), CROP], [OURS, dict(FUSED_RESIZE, scale=(800, 800))]),
        ([MOSAIC, RESIZE, PAD], [OURS, RESIZE, PAD]),
        ([MOSAIC, dict(RESIZE, keep_ratio=False), CROP], [OURS, dict(RESIZE, keep_ratio=False), CROP]),
        (
            [MOSAIC, RESIZE, dict(CROP, crop_type='relative', crop_size=(0.5, 0.5))],
            [OURS, RESIZE, dict(CROP, crop_type='relative', crop_size=(0.5, 0.5))],
        ),
        ([*LOAD, MOSAIC], [dict(type='RTMLoadImageAndAnnotations', img_scale=(320, 320)), OURS]),
        ([*LOAD, RESIZE, CROP], [dict(type='RTMLoadImageAndAnnotations', img_scale=(1280, 1280)), FUSED_RESIZE]),
        ([*LOAD, PAD], [dict(type='RTMLoadImageAndAnnotations'), PAD]),
        (
            [dict(LOAD[0], to_float32=False, backend_args=None), dict(LOAD[1], with_mask=True, poly2mask=False), PACK],
            [dict(type='RTMLoadImageAndAnnotations', backend_args=None, with_mask=True), PACK],
        ),
        (
            [RESIZE, dict(CROP, recompute_bbox=True, allow_negative_crop=True)],
            [dict(FUSED_RESIZE, recompute_bbox=True, allow_negative_crop=True)],
        ),
        (
            [MOSAIC, RESIZE, dict(CROP, recompute_bbox=True), PACK],
            [dict(FUSED, recompute_bbox=True), dict(type='RTMPackDetInputs')],
        ),
        ([dict(LOAD[0], color_type='unchanged'), LOAD[1]], [dict(LOAD[0], color_type='unchanged'), LOAD[1]]),
        ([*LOAD, dict(type='Mine')], [*LOAD, dict(type='Mine')]),
        ([*LOAD, dict(type='Expand')], [dict(type='RTMLoadImageAndAnnotations'), dict(type='Expand')]),
        ([LOAD[0], dict(LOAD[1], with_mask=True), dict(type='Expand')],) * 2,
        (
            [*LOAD, dict(type='RandomApply', transforms=[dict(type='Mine')])],
            [*LOAD, dict(type='RandomApply', transforms=[dict(type='Mine')])],
        ),
        ([dict(type='CachedMixUp', flip_ratio=0.25)], [dict(type='RTMCachedMixUp', flip_ratio=0.75)]),
        ([dict(type='mmdet.RandomFlip', prob=0.5)], [dict(type='mmdet.RTMRandomFlip', prob=0.5)]),
        (
            [dict(type='RandomFlip', prob=0.5, direction='vertical')],
            [dict(type='RandomFlip', prob=0.5, direction='vertical')],
        ),
    ],
)
def test_steps(steps, expected):
    before = repr(steps)
    assert move_pipeline(steps).steps == expected
    assert repr(steps) == before


def test_uncached_mixing_is_named():
    assert move_pipeline([dict(type='Mosaic'), dict(type='MixUp')]).stays == [
        'Mosaic: it has no cache; CachedMosaic has a counterpart',
        'MixUp: it has no cache; CachedMixUp has a counterpart',
    ]


@pytest.mark.parametrize(
    ('steps', 'fixed'),
    [
        ([FUSED, PAD], True),
        ([FUSED_RESIZE, dict(type='RTMRandomFlip'), PAD, dict(type='RTMCachedMixUp')], True),
        ([dict(type='Resize', scale=(320, 320), keep_ratio=True), dict(PAD, size=320)], True),
        ([dict(type='Resize', scale=(320, 320), keep_ratio=True), PAD], True),
        ([dict(type='Resize', scale=(320, 240))], True),
        ([dict(type='Resize', scale=(320, 240), keep_ratio=True), dict(PAD, size=(320, 240))], False),
        ([FUSED], False),
        ([FUSED, dict(PAD, size=(352, 352))], False),
        ([FUSED, dict(PAD, size=None, size_divisor=32)], False),
        ([RESIZE, PAD], False),
        ([FUSED, PAD, dict(type='Mine')], False),
        ([], False),
    ],
)
def test_fixed_size(steps, fixed):
    assert fixed_size(steps) is fixed
