"""Walk through a pipeline down to the transforms within transforms (RandomApply, Compose, our fused mosaic)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose


def walk_transforms(transforms: Any) -> Iterator[Any]:
    """Transforms and those that they are made of, outer ones first.

    Args:
        transforms: a transform, a pipeline, or a list of them; what is neither is passed over.
    """
    if isinstance(transforms, (list, tuple)):
        for item in transforms:
            yield from walk_transforms(item)
    elif isinstance(transforms, (Compose, BaseTransform)):
        yield transforms
        yield from walk_transforms(list(vars(transforms).values()))
