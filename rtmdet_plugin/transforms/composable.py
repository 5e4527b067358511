"""Expand the configs' fused pipelines into chains of small steps.

Use this to put another transform between mosaic, resize, crop and MixUp. The chain takes five times as long per
sample. Settings such as the image size are copied from the fused steps.

Images without objects are trained as background only in the fused pipeline: in the chain, mmdet's `RandomCrop`
makes the dataset draw another sample instead.
"""

from __future__ import annotations

from collections.abc import Sequence

_CROP_RULES = ('recompute_bbox', 'allow_negative_crop')


def composable(pipeline: Sequence[dict]) -> list[dict]:
    """Return the pipeline with each fused step replaced by the steps that it stands for.

    Args:
        pipeline: configs of transforms; not modified. Steps that aren't fused are copied unchanged.

    Returns:
        Configs of mmdet's transforms, and of `RTMCachedMosaic` and `RTMCachedMixUp`. With masks, the steps that load
        and pack stay, because mmdet's masks are copied at each step and packed at full resolution.
    """
    chains = dict(_CHAINS)
    if any(step.get('with_mask', False) for step in pipeline):
        del chains['RTMLoadImageAndAnnotations'], chains['RTMPackDetInputs']
    return [dict(small) for step in pipeline for small in chains.get(step['type'], _unchanged)(dict(step))]


def _unchanged(step: dict) -> list[dict]:
    return [step]


def _load(step: dict) -> list[dict]:
    backend = {key: step[key] for key in ('backend_args',) if key in step}
    return [dict(type='LoadImageFromFile', **backend), dict(type='LoadAnnotations', with_bbox=True, **backend)]


def _mosaic_resize_crop(step: dict) -> list[dict]:
    step['type'] = 'RTMCachedMosaic'
    ratio_range, crop_size = step.pop('ratio_range', (0.1, 2.0)), step.pop('crop_size', (640, 640))
    width, height = step.get('img_scale', (640, 640))
    crop = dict(scale=(2 * width, 2 * height), ratio_range=ratio_range, crop_size=crop_size)
    crop.update({key: step.pop(key) for key in _CROP_RULES if key in step})
    if 'bbox_clip_border' in step:
        crop['bbox_clip_border'] = step['bbox_clip_border']
    return [step, *_resize_crop(crop)]


def _resize_crop(step: dict) -> list[dict]:
    resize = dict(type='RandomResize', scale=tuple(step['scale']), ratio_range=step['ratio_range'], keep_ratio=True)
    rules = {key: step[key] for key in _CROP_RULES if key in step}
    crop = dict(type='RandomCrop', crop_size=tuple(step['crop_size']), **rules)
    if 'bbox_clip_border' in step:
        resize['clip_object_border'] = crop['bbox_clip_border'] = step['bbox_clip_border']
    return [resize, crop]


def _renamed(name: str):
    return lambda step: [{**step, 'type': name}]


_CHAINS = {
    'RTMLoadImageAndAnnotations': _load,
    'RTMCachedMosaicResizeCrop': _mosaic_resize_crop,
    'RTMRandomResizeCrop': _resize_crop,
    'RTMYOLOXHSVRandomAug': _renamed('YOLOXHSVRandomAug'),
    'RTMRandomFlip': lambda step: [{'prob': 0.5, **step, 'type': 'RandomFlip'}],
    'RTMPackDetInputs': _renamed('PackDetInputs'),
}
