"""Names of RTMDet's weights in mmyolo, whose neck is laid out differently and whose head wraps its layers in a module.

Only the names differ: every tensor has one counterpart with the same shape. This package uses mmdet's names.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

Stack = Literal['mmdet', 'mmyolo']

STACKS = ('mmdet', 'mmyolo')
HEAD = 'bbox_head.head_module.'
"""Beginning of the names in the head of every detector of mmyolo."""
CLASSES = 'rtm_cls.'
"""Layer that only the heads of RTMDet have."""
MMDET_PREFIXES = {
    'backbone.': 'backbone.',
    'neck.reduce_layers.2.': 'neck.reduce_layers.0.',
    'neck.top_down_layers.0.0.': 'neck.top_down_blocks.0.',
    'neck.top_down_layers.0.1.': 'neck.reduce_layers.1.',
    'neck.top_down_layers.1.': 'neck.top_down_blocks.1.',
    'neck.downsample_layers.': 'neck.downsamples.',
    'neck.bottom_up_layers.': 'neck.bottom_up_blocks.',
    'neck.out_layers.': 'neck.out_convs.',
    **{f'{HEAD}{layer}.': f'bbox_head.{layer}.' for layer in ('cls_convs', 'reg_convs', 'rtm_cls', 'rtm_reg')},
}
"""Prefix in mmyolo: prefix in mmdet. In either direction, no prefix begins with another one."""
# `reduce_layers` is in neither: mmdet's four-level necks have a `reduce_layers.2` as well.
ONLY_MMYOLO = ('neck.top_down_layers.', 'neck.downsample_layers.', 'neck.bottom_up_layers.', 'neck.out_layers.', HEAD)
ONLY_MMDET = (
    'neck.top_down_blocks.', 'neck.downsamples.', 'neck.bottom_up_blocks.', 'neck.out_convs.',
    *(prefix for prefix in MMDET_PREFIXES.values() if prefix.startswith('bbox_head.')),
)  # fmt: skip
NAMED = 3
"""Keys that a message names."""


def has_mmyolo_keys(names: Iterable[str]) -> bool:
    """Return whether a state dict has keys that only detectors of mmyolo have, RTMDet or another."""
    return any(_bare(name).startswith(ONLY_MMYOLO) for name in names)


def stack_of(names: Iterable[str]) -> Stack:
    """Return whether the weights of an RTMDet detector have mmdet's or mmyolo's names.

    Args:
        names: keys of a state dict; a leading `module.` doesn't count.

    Raises:
        ValueError: if the keys are those of another model, or of both stacks; the message names some of them.
    """
    names = [_bare(name) for name in names]
    mmyolo = [name for name in names if name.startswith(ONLY_MMYOLO)]
    mmdet = [name for name in names if name.startswith(ONLY_MMDET)]
    if mmyolo and mmdet:
        raise ValueError(
            "the keys must be mmdet's or mmyolo's, got a half converted state dict with keys of both: "
            f'{_some(mmdet)} of mmdet, {_some(mmyolo)} of mmyolo; convert the original file'
        )
    if mmyolo and not any(name.startswith(HEAD + CLASSES) for name in mmyolo):
        head = [name for name in mmyolo if name.startswith(HEAD)]
        raise ValueError(
            f"the weights must be those of mmyolo's RTMDet, with {HEAD}{CLASSES}*, got another detector of mmyolo, "
            f'with {_some(head or mmyolo)}'
        )
    if not mmyolo and not any(name.startswith(f'bbox_head.{CLASSES}') for name in mmdet):
        raise ValueError(
            f'the weights must be those of RTMDet, with bbox_head.{CLASSES}* (mmdet) or {HEAD}{CLASSES}* (mmyolo), '
            f'got {_some(names) or "no keys"}'
        )
    return 'mmyolo' if mmyolo else 'mmdet'


def rename(state_dict: Mapping[str, Tensor], to: Stack) -> dict[str, Tensor]:
    """Give the weights of an RTMDet detector the names of the other stack.

    Args:
        state_dict: weights by the names of either stack; a leading `module.` doesn't count.
        to: stack of the new names.

    Returns:
        The same tensors in the same order.

    Raises:
        ValueError: see `stack_of`; also if the names are those of `to` already, if a key has no counterpart, and if a
            part of the detector is missing.
    """
    if to not in STACKS:
        raise ValueError(f'to must be {" or ".join(STACKS)}, got {to!r}')
    if stack_of(state_dict) == to:
        raise ValueError(f"the keys must be the other stack's, got {to}'s already; there is nothing to convert")
    prefixes = MMDET_PREFIXES if to == 'mmdet' else {new: old for old, new in MMDET_PREFIXES.items()}
    renamed, unknown, found = {}, [], set()
    for name, value in state_dict.items():
        name = _bare(name)
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is None:
            unknown.append(name)
        else:
            found.add(prefix)
            renamed[prefixes[prefix] + name.removeprefix(prefix)] = value
    if unknown:
        raise ValueError(
            f'all keys must be those of a detector with three levels, without masks or angles, got {_some(unknown)}, '
            f"which {to}'s RTMDet does not have"
        )
    if missing := [f'{prefix}*' for prefix in prefixes if prefix not in found]:
        raise ValueError(f'the weights must be those of a complete detector, got none under {_some(missing)}')
    return renamed


def _bare(name: str) -> str:
    return name.removeprefix('module.')


def _some(names: list[str]) -> str:
    """List the first names, and how many more there are."""
    more = f' and {len(names) - NAMED} more' if len(names) > NAMED else ''
    return ', '.join(names[:NAMED]) + more
