"""Render one crop of scaled and placed images without building the canvas that they lie on.

A `Part` describes an image's place on a canvas; the canvas is zoomed and cropped. Each part is resampled
once, and only the pixels that the crop shows.

Pixels are placed within half a pixel of their exact position, because OpenCV's resize maps whole pixels to whole
pixels. It is four times as fast as warpAffine, which needs no such rounding. Boxes and masks are not rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor
from typing import NamedTuple

import cv2
import numpy as np

from .boxes import clip_boxes, inside
from .outline_masks import OutlineMasks
from .sample import Sample, blank, check_compatible, join


class Part(NamedTuple):
    """An image's place on a canvas."""

    sample: Sample
    position: tuple[int, int]
    """(x, y) of its top left corner; may lie outside the canvas."""
    size: tuple[int, int]
    """(width, height) of the image on the canvas."""
    scale: float = 1.0
    """Factor for its boxes: `size` divided by the image's own size, before `size` was rounded."""


class Crop(NamedTuple):
    """A crop of a zoomed canvas."""

    zoom: tuple[float, float]
    """(x, y) factors that the canvas is scaled by."""
    offset: tuple[int, int]
    """(x, y) of the crop's top left corner, in pixels of the scaled canvas."""
    size: tuple[int, int]
    """(width, height) of the crop."""


def render(
    parts: Sequence[Part],
    crop: Crop,
    pad_val: float | Sequence[float],
    clip: bool = True,
    recompute_bbox: bool = False,
    allow_negative_crop: bool = False,
) -> Sample | None:
    """Render what a crop shows of images that don't overlap.

    Args:
        parts: images and their places; not modified.
        crop: zoom, position and size of the crop.
        pad_val: colour outside the images.
        clip: clip boxes to the border of the crop.
        recompute_bbox: replace boxes by those around what the crop shows of the masks, if there are masks.
        allow_negative_crop: render a crop that shows no object.

    Returns:
        The crop, (height, width[, C]), and the objects that lie on it at least partly, in the order of the images.
        `None`, before any pixel is rendered, if the images have objects but the crop shows none, unless that is
        allowed. If no image has an object, the crop is a background image.

    Raises:
        ValueError: if the parts differ in channels or dtype, or only some have masks.
    """
    samples = [part.sample for part in parts]
    check_compatible(samples)
    shape = crop.size[1], crop.size[0]
    # Objects first, with a placeholder for the image: a crop that shows none isn't rendered.
    if samples[0].masks is not None:
        samples = [replace(part.sample, masks=_place_masks(part, crop)) for part in parts]
    placed = join(samples[0].img, samples)
    _place_boxes(placed.boxes, parts, crop)
    if clip:
        clip_boxes(placed.boxes, shape)
    shown = placed.select(inside(placed.boxes, shape))
    if recompute_bbox and shown.masks is not None:
        boxes = shown.masks.boxes()
        shown = replace(shown, boxes=boxes).select((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3]))
    if len(shown.boxes) == 0 < len(placed.boxes) and not allow_negative_crop:
        return None
    return replace(shown, img=_draw(parts, crop, pad_val))


def _place_boxes(boxes: np.ndarray, parts: Sequence[Part], crop: Crop) -> None:
    """Convert the boxes of all parts, (N, 4) in the parts' order, to the crop's coordinates, in place."""
    (zoom_x, zoom_y), counts = crop.zoom, [len(part.sample.boxes) for part in parts]
    scales = [(part.scale * zoom_x, part.scale * zoom_y) * 2 for part in parts]
    boxes *= np.repeat(np.array(scales, np.float32), counts, axis=0)
    boxes += np.repeat(np.array([_offset(part, crop) * 2 for part in parts], np.float32), counts, axis=0)


def _place_masks(part: Part, crop: Crop) -> OutlineMasks | None:
    """Return the part's masks, if it has any, on the crop."""
    masks, (zoom_x, zoom_y) = part.sample.masks, crop.zoom
    scale = part.scale * zoom_x, part.scale * zoom_y
    return None if masks is None else masks.place(scale, _offset(part, crop), (crop.size[1], crop.size[0]))


def _offset(part: Part, crop: Crop) -> tuple[float, float]:
    """Return (x, y) of the part's top left corner, in pixels of the crop."""
    (x, y), (zoom_x, zoom_y), (left, top) = part.position, crop.zoom, crop.offset
    return x * zoom_x - left, y * zoom_y - top


def _pixel_map(part: Part, crop: Crop) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the (x, y) scale from the part's own pixels to the crop's, and its (x, y) offset in the crop."""
    own = part.sample.img.shape[1::-1]
    scale = tuple(size * zoom / side for size, zoom, side in zip(part.size, crop.zoom, own, strict=True))
    return scale, _offset(part, crop)


def _draw(parts: Sequence[Part], crop: Crop, pad_val: float | Sequence[float]) -> np.ndarray:
    """Resample what a crop shows of the images; return its pixels, (height, width[, C]), perhaps as a view."""
    (width, height), pieces = crop.size, []
    for part in parts:
        img, (scale, offset) = part.sample.img, _pixel_map(part, crop)
        across = _visible(img.shape[1], scale[0], offset[0], width)
        down = _visible(img.shape[0], scale[1], offset[1], height)
        if across is not None and down is not None:
            pieces.append((img[down.source, across.source], across, down))
    # The canvas has space for what is resampled past the crop, so that no piece is copied into its place.
    left, right = _extent([across for _, across, _ in pieces], width)
    top, bottom = _extent([down for _, _, down in pieces], height)
    like, size = parts[0].sample.img, (bottom - top, right - left)
    if any(across.covers(width) and down.covers(height) for _, across, down in pieces):
        canvas = np.empty((*size, *like.shape[2:]), like.dtype)
    else:
        canvas = blank(like, *size, pad_val)
    for img, across, down in pieces:
        target = canvas[down.start - top : down.stop - top, across.start - left : across.stop - left]
        cv2.resize(img, target.shape[1::-1], dst=target)
    return canvas[-top : height - top, -left : width - left]


class _Visible(NamedTuple):
    """The visible range of an image along one axis."""

    source: slice
    """The image's pixels that are resampled."""
    start: int
    """Place of the first resampled pixel in the crop; negative if it lies before the crop."""
    stop: int
    """Place after the last resampled pixel; more than the crop's length if that lies behind the crop."""

    def covers(self, length: int) -> bool:
        """Return whether all `length` pixels of the crop along this axis are resampled ones."""
        return self.start <= 0 and self.stop >= length


def _visible(length: int, scale: float, offset: float, limit: int) -> _Visible | None:
    """Return which of `length` pixels are visible in [0, limit) after scaling by `scale` and moving by `offset`."""
    low = max(_nearest(offset), 0)
    high = min(_nearest(offset + length * scale), limit)
    if high <= low:
        return None
    # Interpolation reads one more pixel on each side.
    first = max(floor((low - offset) / scale) - 1, 0)
    last = min(ceil((high - offset) / scale) + 1, length)
    return _Visible(slice(first, last), _nearest(offset + first * scale), _nearest(offset + last * scale))


def _extent(ranges: Sequence[_Visible], length: int) -> tuple[int, int]:
    """Return the first and last + 1 pixel of the ranges and of [0, length) along one axis."""
    return min([0, *(range_.start for range_ in ranges)]), max([length, *(range_.stop for range_ in ranges)])


def _nearest(value: float) -> int:
    return floor(value + 0.5)
