"""Masks of COCO's lists as compressed run-length codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco_mask

RLE = dict[str, Any]
"""A mask as pycocotools reads it: `size`, [height, width], and `counts`."""


def masks_of(entries: Sequence[Mapping], truth: Mapping[str, Sequence[Mapping]]) -> list[RLE]:
    """Return the mask of each annotation or detection.

    Args:
        entries: dicts with `image_id` and `segmentation`: polygons or a run-length code, compressed or not.
        truth: COCO's lists, of which `images` is used, with `height` and `width` in pixels.
    """
    sizes = {image['id']: (image['height'], image['width']) for image in truth['images']}
    return [_encoded(entry['segmentation'], *sizes[entry['image_id']]) for entry in entries]


def _encoded(mask: Any, height: int, width: int) -> RLE:
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    return coco_mask.frPyObjects(mask, height, width) if isinstance(mask['counts'], list) else mask
