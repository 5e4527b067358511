"""Iterate over a pipeline and the transforms nested in it (RandomApply, Compose, our fused mosaic)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose


def walk_transforms(transforms: Any) -> Iterator[Any]:
    """Yield transforms and those nested in them, outer ones first.

    Args:
        transforms: a transform, a pipeline, or a list of them; anything else is ignored.
    """
    if isinstance(transforms, (list, tuple)):
        for item in transforms:
            yield from walk_transforms(item)
    elif isinstance(transforms, (Compose, BaseTransform)):
        yield transforms
        yield from walk_transforms(list(vars(transforms).values()))
