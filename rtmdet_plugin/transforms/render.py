"""Rendering one crop out of scaled and placed pictures, without the canvas that they would lie on.

A `Part` says where a picture lies on a canvas; the canvas is zoomed and cropped. Each part is resampled
once, and only where the crop shows it.

Pixels are placed to within half a pixel of the result: OpenCV's resize maps whole pixels to whole pixels, and
is four times as fast as its warpAffine, which could do without the rounding. Boxes are not rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor
from typing import NamedTuple

import cv2
import numpy as np
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from .boxes import clip_boxes, inside, place_boxes
from .sample import Masks, Sample, blank, check_alike, join


class Part(NamedTuple):
    """A picture on a canvas."""

    sample: Sample
    position: tuple[int, int]
    """(x, y) of its top left corner; may lie outside the canvas."""
    size: tuple[int, int]
    """(width, height) that it has there."""
    scale: float = 1.0
    """The factor for its boxes: `size` over the picture's own size, but for the rounding of `size`."""


class Crop(NamedTuple):
    """A crop of a zoomed canvas."""

    zoom: tuple[float, float]
    """(x, y) factors that the canvas is scaled by."""
    offset: tuple[int, int]
    """(x, y) of the crop's top left corner, in pixels of the scaled canvas."""
    size: tuple[int, int]
    """(width, height) of the crop."""


def render(parts: Sequence[Part], crop: Crop, pad_val: float | Sequence[float], clip: bool = True) -> Sample | None:
    """Draw what a crop shows of pictures that don't cover each other.

    Args:
        parts: pictures and their places; unchanged.
        crop: what part of the canvas, how large.
        pad_val: colour where no picture is.
        clip: cut boxes at the border of the crop.

    Returns:
        The crop, (height, width[, C]), and the objects that lie on it at least in part, picture by picture;
        `None`, before a pixel is drawn, where that is none although there are objects. Where no picture has any,
        the crop is one of background.

    Raises:
        ValueError: where the parts differ in channels, dtype or kind of masks.
    """
    check_alike([part.sample for part in parts])
    shape = crop.size[::-1]
    # Objects first, with a picture of no meaning: a crop without any is not drawn.
    placed = join(parts[0].sample.img, [_place(part, crop, shape) for part in parts])
    if clip:
        clip_boxes(placed.boxes, shape)
    shown = placed.select(inside(placed.boxes, shape))
    if len(shown.boxes) == 0 < len(placed.boxes):
        return None
    canvas = blank(parts[0].sample.img, *shape, pad_val)
    for part in parts:
        _draw(canvas, part.sample.img, *_pixel_map(part, crop), cv2.INTER_LINEAR)
    return replace(shown, img=canvas)


def _place(part: Part, crop: Crop, shape: tuple[int, int]) -> Sample:
    """The part's sample with its objects in the crop's coordinates; the picture is still its own."""
    offset = _offset(part, crop)
    scale = part.scale * crop.zoom[0], part.scale * crop.zoom[1]
    masks = part.sample.masks
    if isinstance(masks, PolygonMasks):
        masks = _place_polygons(masks, scale, offset, shape)
    elif masks is not None:
        bitmaps = np.zeros((len(masks), *shape), np.uint8)
        for bitmap, mask in zip(bitmaps, masks.masks, strict=True):
            _draw(bitmap, mask, *_pixel_map(part, crop), cv2.INTER_NEAREST)
        masks = BitmapMasks(bitmaps, *shape)
    return replace(part.sample, boxes=place_boxes(part.sample.boxes, scale, offset), masks=masks)


def _place_polygons(
    masks: PolygonMasks, scale: tuple[float, float], offset: tuple[float, float], shape: tuple[int, int]
) -> Masks:
    height, width = shape
    moved = []
    for polygons in masks.masks:
        moved.append([np.empty(polygon.shape, np.float64) for polygon in polygons])
        for points, polygon in zip(moved[-1], polygons, strict=True):
            points[0::2] = np.clip(polygon[0::2] * scale[0] + offset[0], 0, width)
            points[1::2] = np.clip(polygon[1::2] * scale[1] + offset[1], 0, height)
    return PolygonMasks(moved, height, width)


def _offset(part: Part, crop: Crop) -> tuple[float, float]:
    """(x, y) of the part's top left corner in the crop, in pixels of it."""
    return tuple(p * zoom - start for p, zoom, start in zip(part.position, crop.zoom, crop.offset, strict=True))


def _pixel_map(part: Part, crop: Crop) -> tuple[tuple[float, float], tuple[float, float]]:
    """(x, y) scale from the part's own pixels to those of the crop, and its (x, y) offset there."""
    own = part.sample.img.shape[1::-1]
    scale = tuple(size * zoom / side for size, zoom, side in zip(part.size, crop.zoom, own, strict=True))
    return scale, _offset(part, crop)


def _draw(
    canvas: np.ndarray, img: np.ndarray, scale: tuple[float, float], offset: tuple[float, float], interpolation: int
) -> None:
    """Resample what `canvas` (H, W[, C]) shows of `img` (h, w[, C]) into it."""
    across = _visible(img.shape[1], scale[0], offset[0], canvas.shape[1])
    down = _visible(img.shape[0], scale[1], offset[1], canvas.shape[0])
    if across is None or down is None:
        return
    source = img[down.source, across.source]
    drawn = cv2.resize(source, (across.length, down.length), interpolation=interpolation)
    canvas[down.target, across.target] = drawn[down.keep, across.keep].reshape(-1, _len(across.target), *img.shape[2:])


class _Visible(NamedTuple):
    """What shows of one axis of a picture."""

    source: slice
    """The picture's pixels that are resampled."""
    length: int
    """What they are resampled to."""
    keep: slice
    """The part of that which shows."""
    target: slice
    """Where on the canvas."""


def _visible(length: int, scale: float, offset: float, limit: int) -> _Visible | None:
    """Which of a picture's `length` pixels show in [0, limit), scaled by `scale` and moved by `offset`."""
    low = max(_nearest(offset), 0)
    high = min(_nearest(offset + length * scale), limit)
    if high <= low:
        return None
    # One pixel more on each side, which interpolation looks at.
    first = max(floor((low - offset) / scale) - 1, 0)
    last = min(ceil((high - offset) / scale) + 1, length)
    start, stop = _nearest(offset + first * scale), _nearest(offset + last * scale)
    return _Visible(slice(first, last), stop - start, slice(low - start, high - start), slice(low, high))


def _nearest(value: float) -> int:
    return floor(value + 0.5)


def _len(part: slice) -> int:
    return part.stop - part.start
