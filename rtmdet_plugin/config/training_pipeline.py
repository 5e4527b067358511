"""Move a training pipeline from mmdet's transforms to ours: fused steps if it has their shape, else step by step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

from .pipelines import loads_masks, step_name, walk_steps
from .swaps import ANY, TRANSFORMS, Swap, apply, obstacle

# With these arguments, the steps do what the fused ones do. `_BACKEND` is the default of file_client_args.
_BACKEND = dict(backend='disk')
_LOAD = Swap(
    'RTMLoadImageAndAnnotations',
    'backend_args',
    dict(to_float32=False, color_type='color', imdecode_backend='cv2', ignore_empty=False, file_client_args=_BACKEND),
)
_KEPT = 'with_mask backend_args'
_ANNOTATIONS = Swap(
    'RTMLoadImageAndAnnotations',
    _KEPT,
    dict(
        with_bbox=True, with_label=True, with_seg=False, with_keypoints=False, box_type='hbox', reduce_zero_label=False,
        ignore_index=255, imdecode_backend='cv2', file_client_args=_BACKEND, poly2mask=ANY,
    ),
)  # fmt: skip
_RESIZE = Swap(
    'RTMRandomResizeCrop',
    'scale ratio_range',
    dict(keep_ratio=True, resize_type='Resize', clip_object_border=True),
    dict(keep_ratio=False),
)
_CROP_KEPT = 'crop_size recompute_bbox allow_negative_crop'
_CROP = Swap(
    'RTMRandomResizeCrop',
    _CROP_KEPT,
    dict(crop_type='absolute', bbox_clip_border=True),
)

_TAKE_ARRAYS = {
    'Albu', 'CachedMixUp', 'CachedMosaic', 'CutOut', 'Expand', 'FilterAnnotations', 'LoadAnnotations',
    'LoadImageFromFile', 'MinIoURandomCrop', 'PackDetInputs', 'Pad', 'PhotoMetricDistortion', 'RandomAffine',
    'RandomApply', 'RandomChoice', 'RandomChoiceResize', 'RandomCrop', 'RandomErasing', 'RandomFlip', 'RandomResize',
    'RandomShift', 'Resize', 'YOLOXHSVRandomAug',
}  # fmt: skip
"""mmdet's transforms that take boxes as arrays, as `RTMLoadImageAndAnnotations` returns them."""
_NEED_BITMAPS = {'Albu', 'Expand', 'RandomErasing'}
"""Those of them that need mmdet's masks and fail on `OutlineMasks`."""

_UNMOVED = {
    'Mosaic': 'it has no cache; CachedMosaic has a counterpart',
    'MixUp': 'it has no cache; CachedMixUp has a counterpart',
}


class MovedPipeline(NamedTuple):
    """A training pipeline of our transforms, and what was done."""

    steps: list[dict]
    moved: list[str]
    """Changes, such as `CachedMixUp -> RTMCachedMixUp`."""
    stays: list[str]
    """Steps that have a counterpart but stay mmdet's, with the reason."""


def move_pipeline(pipeline: Sequence[dict], masks_of_ours: bool = False) -> MovedPipeline:
    """Move a training pipeline.

    Args:
        pipeline: configs of transforms; not modified. Steps of other packages and your own are copied unchanged.
        masks_of_ours: whether the head is `RTMInsSepBNHead`, which needs masks as `RTMPackDetInputs` draws them.

    Returns:
        The moved pipeline; steps within others (`RandomApply`) are copied unchanged.
    """
    rest = copy.deepcopy(list(pipeline))
    with_mask = loads_masks(rest)
    result = MovedPipeline([], [], [])
    names = {step_name(step) for step in walk_steps(rest)} - (_TAKE_ARRAYS - (_NEED_BITMAPS if with_mask else set()))
    others = sorted(name for name in names if not name.startswith('RTM'))
    while rest:
        for pattern, fuse in _FUSED:
            names = [step_name(step) for step in rest[: len(pattern)]]
            if names == pattern:
                step, reason = fuse(rest, others)
                if step:
                    result.steps.append(step)
                    result.moved.append(f'{" + ".join(names)} -> {step["type"]}')
                    del rest[: len(pattern)]
                    break
                if reason:
                    result.stays.append(f'{" + ".join(names)}: {reason}')
        else:
            _move_step(rest.pop(0), result, with_mask and not masks_of_ours)
    return result


def _move_step(step: dict, result: MovedPipeline, masks_of_mmdet: bool) -> None:
    """Append a step, or its counterpart; a head of mmdet needs the masks as mmdet packs them."""
    name = step_name(step)
    swap = TRANSFORMS.get(name)
    reason = _UNMOVED.get(name, '') if swap is None else obstacle(step, swap)
    if name == 'PackDetInputs' and masks_of_mmdet:
        reason = 'RTMPackDetInputs draws the masks for RTMInsSepBNHead'
    if name == 'RandomFlip' and not isinstance(step.get('prob'), (int, float)):
        reason = f'RTMRandomFlip has no prob={step.get("prob")!r}'
    if reason:
        result.stays.append(f'{name}: {reason}')
    elif swap:
        if name == 'CachedMixUp' and 'flip_ratio' in step:
            step['flip_ratio'] = 1 - step['flip_ratio']  # mmdet's is the probability of no flip
        result.moved.append(apply(step, swap))
    result.steps.append(step)


def _fuse_loading(steps: list[dict], others: list[str]) -> tuple[dict | None, str]:
    """Return the step for loading that replaces the first two, or None and the reason."""
    image, annotations = steps[:2]
    reason = obstacle(image, _LOAD) or obstacle(annotations, _ANNOTATIONS)
    if others:
        objects = 'boxes and masks' if annotations.get('with_mask') else 'boxes'
        reason = f'they return the {objects} that {", ".join(others)} may need'
    if reason:
        return None, reason
    scale = _largest_scale(steps[2:])
    kept = {} if scale is None else dict(img_scale=scale)
    for part in (image, annotations):
        kept.update({key: part[key] for key in _KEPT.split() if key in part})
    return dict(type='RTMLoadImageAndAnnotations', **kept), ''


def _largest_scale(steps: list[dict]) -> tuple[int, ...] | None:
    """Return the largest (width, height) that the first of `steps` scales an image to; None if it isn't known."""
    if steps and step_name(steps[0]) == 'CachedMosaic':
        return tuple(steps[0].get('img_scale', (640, 640)))
    if steps and step_name(steps[0]) == 'RandomResize' and not _resize_obstacle(steps[0]):
        width, height = (round(side * steps[0]['ratio_range'][1]) for side in steps[0]['scale'])
        return width, height
    return None


def _resize_obstacle(resize: dict) -> str:
    """Return why `RandomResize` isn't the first half of RTMRandomResizeCrop; empty if it is."""
    scale = resize.get('scale')
    pair = isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(side, int) for side in scale)
    if not pair or not resize.get('ratio_range'):
        return f'RTMRandomResizeCrop has no scale={scale!r} with ratio_range={resize.get("ratio_range")!r}'
    return obstacle(resize, _RESIZE)


def _fuse_resize_crop(steps: list[dict], others: list[str]) -> tuple[dict | None, str]:
    """Return the step that replaces RandomResize and RandomCrop, the first two, or None and the reason."""
    resize, crop = steps[:2]
    reason = _resize_obstacle(resize) or obstacle(crop, _CROP)
    if reason:
        return None, reason
    kept = {key: crop[key] for key in _CROP_KEPT.split() if key in crop}
    return dict(type='RTMRandomResizeCrop', scale=resize['scale'], ratio_range=resize['ratio_range'], **kept), ''


def _fuse_mosaic(steps: list[dict], others: list[str]) -> tuple[dict | None, str]:
    """Return the step that replaces the mosaic, its resize and crop, the first three, or None and the reason."""
    mosaic, resize, crop = steps[:3]
    step, _ = _fuse_resize_crop([resize, crop], others)
    if step is None:
        return None, ''  # reported when its turn comes, after the mosaic's
    canvas = tuple(2 * side for side in mosaic.get('img_scale', (640, 640)))
    if tuple(step['scale']) != canvas:
        return None, f'RandomResize has scale={tuple(step["scale"])}, not that of the mosaic, {canvas}'
    if not mosaic.get('bbox_clip_border', True):
        return None, 'bbox_clip_border differs between the steps'
    kept = {key: value for key, value in mosaic.items() if key not in ('type', '_scope_')}
    kept |= {key: value for key, value in step.items() if key not in ('type', 'scale')}
    return dict(type='RTMCachedMosaicResizeCrop', **kept), ''


_FUSED = (
    (['LoadImageFromFile', 'LoadAnnotations'], _fuse_loading),
    (['CachedMosaic', 'RandomResize', 'RandomCrop'], _fuse_mosaic),
    (['RandomResize', 'RandomCrop'], _fuse_resize_crop),
)
"""Types of adjacent steps, and the function that fuses them."""


def fixed_size(pipeline: Sequence[dict]) -> bool:
    """Return whether a moved pipeline surely gives images of one size, as `rtm_collate` needs."""
    largest = None
    fixed = False
    for step in pipeline:
        name = step_name(step)
        if 'crop_size' in step and step.get('crop_type', 'absolute') == 'absolute':
            largest, fixed = _square(step['crop_size']), False
        elif name == 'Resize' and step.get('scale') is not None:
            fixed = not step.get('keep_ratio', False)
            largest = _square(step['scale'])
            if largest[0] != largest[1]:  # portrait images are fitted into the transposed size
                largest = None
        elif name == 'Pad' and step.get('size') is not None:
            fixed = fixed or largest == _square(step['size'])
        elif name not in _KEEP_SIZE:
            largest, fixed = None, False
    return fixed


_KEEP_SIZE = {
    'CachedMixUp', 'CutOut', 'FilterAnnotations', 'PackDetInputs', 'PhotoMetricDistortion', 'RandomErasing',
    'RandomFlip', 'RTMCachedMixUp', 'RTMPackDetInputs', 'RTMRandomFlip', 'RTMYOLOXHSVRandomAug', 'YOLOXHSVRandomAug',
}  # fmt: skip


def _square(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size, size) if isinstance(size, int) else tuple(size)
