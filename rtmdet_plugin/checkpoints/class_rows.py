"""Keep what a checkpoint knows about classes: its class layers have one row for each class, found by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

CLASS_LAYER = re.compile(r'(module\.)?bbox_head\.(head_module\.)?rtm_cls\.\d+\.(weight|bias)')
"""Names of RTMDet's class layers, in mmdet and in mmyolo."""


def classes_in(content: object) -> tuple[str, ...]:
    """Return the class names that a checkpoint records, in the order of its rows; empty if it records none.

    Args:
        content: what the file holds. Published checkpoints write `CLASSES` or `classes`, as a tuple or one string.
    """
    meta = content.get('meta') if isinstance(content, Mapping) else None
    data = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
    recorded = {key.lower(): value for key, value in data.items()} if isinstance(data, Mapping) else {}
    classes = recorded.get('classes') or ()
    return (classes,) if isinstance(classes, str) else tuple(map(str, classes))


def rows_of(classes: Sequence[str], known: Sequence[str]) -> list[int | None]:
    """Return the row of each class among the known ones, by names without regard to case; None if it isn't there."""
    rows = {name.casefold(): row for row, name in enumerate(known)}
    return [rows.get(name.casefold()) for name in classes]


def move_rows(
    weights: Mapping[str, Tensor], initial: Mapping[str, Tensor], rows: Sequence[int | None]
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint with the rows of its class layers in the order of other classes.

    Args:
        weights: state dict of the checkpoint.
        initial: state dict of the model, whose rows are used for classes that the checkpoint doesn't know.
        rows: for each class of the model, its row in the checkpoint, or None; see `rows_of`.

    Returns:
        The weights; those of layers that don't fit the model or the rows are unchanged.
    """
    moved = dict(weights)
    own = {name.removeprefix('module.'): value for name, value in initial.items()}
    found = [place for place, row in enumerate(rows) if row is not None]
    for name in filter(CLASS_LAYER.fullmatch, weights):
        bare = name.removeprefix('module.')
        layer = own.get(bare, own.get(bare.replace('.head_module', '')))  # mmyolo's weights in mmdet's model
        if layer is None or len(layer) != len(rows) or layer.shape[1:] != weights[name].shape[1:]:
            continue  # another model; whoever loads it reports that
        if max((row for row in rows if row is not None), default=0) >= len(weights[name]):
            continue  # the recorded classes aren't those of the layer
        moved[name] = layer.detach().to(weights[name]).clone()
        moved[name][found] = weights[name][torch.tensor([rows[place] for place in found], dtype=torch.long)]
    return moved
