"""The input size of a config: one call sets it in training, validation, testing and export.

In a config, after `_base_`:

    from rtmdet_plugin import set_input_size

    set_input_size(_base_, 512)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from ..errors import RefusedError
from .pipelines import preprocessing, step_name, walk_pipelines, walk_steps

_DEFAULT = (640, 640)  # default size of the mixing transforms, ours and mmdet's
_SIZES = {
    'RTMLoadImageAndAnnotations': dict(img_scale=None),
    'RTMCachedMosaicResizeCrop': dict(img_scale=_DEFAULT, crop_size=_DEFAULT),
    'RTMRandomResizeCrop': dict(scale=None, crop_size=None),
    **{name: dict(img_scale=_DEFAULT) for name in ('RTMCachedMosaic', 'CachedMosaic', 'Mosaic')},
    **{name: dict(img_scale=_DEFAULT) for name in ('RTMCachedMixUp', 'CachedMixUp', 'MixUp')},
    'RandomResize': dict(scale=None),
    'RandomChoiceResize': dict(scales=None),
    'RandomCrop': dict(crop_size=None),
    'Resize': dict(scale=None),
    'Pad': dict(size=None),
}
"""Arguments in pixels by type of step, with the defaults of the class."""
_CANVAS = ('crop_size', 'size')
"""Arguments whose value is the network's input size, except in steps within others, such as those of TTA."""
_SIZE_LIKE = re.compile(r'(^|_)(size|scale|shape|width|height|border)s?(_range)?$')


def max_stride(config: Config | dict) -> int:
    """Return the largest stride of the config's head in pixels; the sides of the input are multiples of it.

    Raises:
        RefusedError: if the config has no head with strides.
    """
    try:
        strides = config['model']['bbox_head']['anchor_generator']['strides']
    except (KeyError, TypeError):
        raise RefusedError(
            'the config must have model.bbox_head.anchor_generator.strides, as RTMDet has, got none'
        ) from None
    return max(max(stride) if isinstance(stride, (list, tuple)) else stride for stride in strides)


def check_input_size(config: Config | dict, size: int | Sequence[int]) -> tuple[int, int]:
    """Return an input size as (width, height) in pixels.

    Args:
        config: config with the head, whose largest stride must divide both sides.
        size: an integer for both sides, or (width, height).

    Raises:
        RefusedError: if the sides aren't positive multiples of the largest stride.
    """
    divisor = max_stride(config)
    sides = [size, size] if isinstance(size, int) else size
    good = isinstance(sides, (list, tuple)) and len(sides) == 2
    if not good or not all(type(side) is int and side > 0 and side % divisor == 0 for side in sides):
        raise RefusedError(f'size must be an integer or (width, height), positive multiples of {divisor}, got {size!r}')
    return sides[0], sides[1]


def set_input_size(config: Config | ConfigDict, size: int | Sequence[int]) -> None:
    """Set the input size everywhere in a config, in place: in all pipelines of datasets, hooks, TTA and variables.

    Each size in a pipeline is multiplied, per axis, by the new input size over that of the test pipeline. Sizes that
    differ from the input size on purpose, such as that of stage 2's loading, keep their ratio to it.

    Args:
        config: `_base_` in a config file, or a loaded `Config`.
        size: an integer for both sides, or (width, height), in pixels. If the sides differ, mmdet swaps them in
            `Resize` for portrait images; the preprocessing of an exported model doesn't.

    Raises:
        RefusedError: if the size isn't a positive multiple of the head's largest stride, the test pipeline has no size
            (see `preprocessing`), another pipeline crops or pads to another size, or a step has a size in an unknown
            argument. The config is then unchanged.
    """
    new = check_input_size(config, size)
    old = preprocessing(config)['input_size'][::-1]
    edits = [edit for path, pipeline in walk_pipelines(config) for edit in _edits(path, pipeline, old, new)]
    for step, name, value in edits:
        step[name] = value


def _edits(
    path: str, pipeline: Sequence, old: tuple[int, int], new: tuple[int, int]
) -> Iterator[tuple[dict, str, Sequence]]:
    """Yield (step, argument, new value) for each size in a pipeline, without editing it; a step may appear twice."""
    for step in walk_steps(pipeline):
        known = _SIZES.get(step_name(step), {})
        inner = not any(step is item for item in pipeline)
        for name, value in {**known, **step}.items():
            found = f'{path}: {step_name(step)} has {name}={value}'
            if name not in known:
                if _SIZE_LIKE.search(name) and _is_size(value):
                    raise RefusedError(
                        f'{found}, an argument that set_input_size does not know; edit it with find_step'
                    )
            elif value is not None:
                if not _is_size(value):
                    raise RefusedError(
                        f'{path}: {name} of {step_name(step)} must be (width, height) in pixels, got {value}'
                    )
                if name in _CANVAS and not inner and tuple(_resized(value, old, old)) != old:
                    raise RefusedError(
                        f'{found}, but the test pipeline has {old}; make them equal with find_step first'
                    )
                yield step, name, _resized(value, old, new)


def _is_size(value: object) -> bool:
    """Return whether this is an integer, a pair of integers, or a list of such pairs."""
    if isinstance(value, (list, tuple)):
        pair = len(value) == 2 and all(type(side) is int for side in value)
        return pair or (bool(value) and all(isinstance(item, (list, tuple)) and _is_size(item) for item in value))
    return type(value) is int


def _resized(value: int | Sequence, old: tuple[int, int], new: tuple[int, int]) -> Sequence:
    """Return a size or a list of sizes, multiplied by `new / old` on each axis, as the same type of sequence."""
    if isinstance(value, int):
        value = (value, value)
    if isinstance(value[0], int):
        sides = [round(side * b / a) for side, a, b in zip(value, old, new, strict=True)]
    else:
        sides = [_resized(item, old, new) for item in value]
    return sides if isinstance(value, list) else tuple(sides)
