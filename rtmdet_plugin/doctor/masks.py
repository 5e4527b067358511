"""Checks of the masks of a split, for a model that predicts masks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..datasets.mask_annotations import DAMAGED, damaged_codes, is_polygon, unscorable_masks, unusable_masks
from ..transforms.outlines import run_lengths
from .boxes import pair_iou
from .finding import Finding
from .objects import Objects

AGREE = 0.5
"""IoU of a box and its mask's box from which they agree."""
ROUNDING = 2
"""Pixels by which the sides of a box and of its mask's box may always differ."""
CHUNK = 20_000
"""Number of objects whose polygons are examined at a time."""
EMPTY = 'have a run-length code without a pixel'
NO_BOX = (np.nan, np.nan, np.nan, np.nan)


class Polygons(NamedTuple):
    """Polygons of at least three points."""

    points: ndarray
    """x, y in pixels. (P, 2)"""
    counts: ndarray
    """Number of points of each polygon. (K,)"""
    owners: ndarray
    """Place of each polygon's object, ascending. (K,)"""


def check_masks(objects: Objects, ignored: Objects) -> Iterator[Finding]:
    """Yield what is unusual about the masks of a split.

    Args:
        objects: images and objects.
        ignored: the same with the objects that are ignored (crowds), which need masks in evaluation.
    """
    split, total = objects.split, len(objects.boxes)
    boxes, crossing = examine_masks(objects.masks)
    trained = split == 'train'
    lost = (unusable_masks if trained else unscorable_masks)(*_lists(objects))
    usable = np.ones(total, bool)
    usable[[place for places in lost.values() for place in places]] = False
    if trained:
        lost[DAMAGED] = damaged_codes(item for item in _lists(objects)[1] if usable[item['id']])
        usable[lost[DAMAGED]] = False
    codes = np.array([isinstance(mask, Mapping) for mask in objects.masks], bool)
    lost[EMPTY] = np.flatnonzero(usable & codes & np.isnan(boxes[:, 0])).tolist()
    usable[lost[EMPTY]] = False
    if trained:
        effects = {DAMAGED: 'their images are skipped'}
        usual = 'they are trained as background' if usable.any() else 'rtmdet train refuses the data'
        severity = 'warning' if usable.any() else 'error'
    else:
        effects = {EMPTY: 'they count as missed'}
        usual, severity = 'the AP of masks can not be computed', 'error'
    for reason, places in lost.items():
        if places:
            text = f'{split}: {len(places)} of {total} objects {reason}; {effects.get(reason, usual)}'
            yield Finding('unusable masks', severity, text, objects.items(np.array(places)))
    for reason, places in {} if trained else unscorable_masks(*_lists(ignored)).items():
        text = f'{split}: {len(places)} crowds {reason}; the AP of masks can not be computed'
        yield Finding('unusable masks', 'error', text, ignored.items(np.array(places)))

    short = usable & np.array([_has_short_polygon(mask) for mask in objects.masks], bool)
    if short.any():
        text = f'{split}: {short.sum()} of {total} objects have polygons of fewer than three points next to others'
        yield Finding('short polygons', 'note', f'{text}; these polygons are not used', objects.items(short))
    crossing &= usable
    if crossing.any():
        text = f'{split}: {crossing.sum()} of {total} objects have a polygon that crosses itself'
        items = objects.items(crossing)
        yield Finding('crossing polygons', 'note', f'{text}; areas that it encloses twice are background', items)
    apart = usable & disagree(objects.boxes, boxes, objects.sizes[objects.images])
    if apart.any():
        text = f'{split}: {apart.sum()} of {total} boxes have an IoU below {AGREE} with the box around their mask'
        yield Finding('boxes and masks that disagree', 'warning', text, objects.items(apart))


def mask_facts(splits: Sequence[Objects]) -> str:
    """Return the number of objects with masks of each kind as text."""
    masks = [mask for objects in splits for mask in objects.masks if mask]
    codes = sum(isinstance(mask, Mapping) for mask in masks)
    return f'{len(masks) - codes:,} polygons, {codes:,} run-length codes'


def examine_masks(masks: Sequence[Any]) -> tuple[ndarray, ndarray]:
    """Return the box around each mask, and whether it has a polygon that crosses itself.

    Returns:
        boxes: xyxy in pixels; NaN for masks without a pixel or a polygon of at least three points. (N, 4)
        crossing: a mask. (N,)
    """
    boxes, crossing = np.full((len(masks), 4), np.nan), np.zeros(len(masks), bool)
    for place, mask in enumerate(masks):
        if isinstance(mask, Mapping):
            boxes[place] = _box_of_code(mask)
    for start in range(0, len(masks), CHUNK):
        found = polygons_of(masks[start : start + CHUNK])
        if len(found.counts):
            firsts = np.flatnonzero(np.diff(found.owners, prepend=-1))  # the first polygon of each object
            places, begins = start + found.owners[firsts], (found.counts.cumsum() - found.counts)[firsts]
            boxes[places, :2] = np.minimum.reduceat(found.points, begins)
            boxes[places, 2:] = np.maximum.reduceat(found.points, begins)
            crossing[start + found.owners[crossing_polygons(found)]] = True
    return boxes, crossing


def polygons_of(masks: Sequence[Any]) -> Polygons:
    """Return the polygons of masks that have at least three points, all of them finite numbers."""
    found = [
        (place, part)
        for place, mask in enumerate(masks)
        for part in (mask if isinstance(mask, list) else ())
        if is_polygon(part) and _are_finite(part)
    ]
    points = np.fromiter(chain.from_iterable(part for _, part in found), float).reshape(-1, 2)
    counts = np.array([len(part) // 2 for _, part in found], int)
    return Polygons(points, counts, np.array([place for place, _ in found], int))


def crossing_polygons(polygons: Polygons) -> ndarray:
    """Return which of the polygons, at least one, have two edges that cross; edges that only touch don't.

    Edges are sorted by polygon and left end, and each is compared with those that follow until one begins to its right.

    Returns:
        A mask. (K,)
    """
    points, counts, _ = polygons
    crossing = np.zeros(len(counts), bool)
    numbers, ends = np.repeat(np.arange(len(counts)), counts), np.cumsum(counts)
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = ends - counts
    edges = np.concatenate([points, points[following]], axis=1)  # (P, 4)
    edges = edges[np.lexsort((edges[:, ::2].min(1), numbers))]
    (left, top), (right, bottom) = (f(edges[:, :2], edges[:, 2:]).T for f in (np.minimum, np.maximum))
    first, step = np.arange(len(edges)), 0
    while len(first):
        step += 1
        first = first[first + step < len(edges)]
        second = first + step
        first = first[(numbers[first] == numbers[second]) & (left[second] <= right[first]) & ~crossing[numbers[first]]]
        near = first[(top[first + step] <= bottom[first]) & (top[first] <= bottom[first + step])]
        crossing[numbers[near[_cross(edges[near], edges[near + step])]]] = True
    return crossing


def disagree(boxes: ndarray, mask_boxes: ndarray, sizes: ndarray) -> ndarray:
    """Return which boxes differ from those around their masks; both are clipped to the image.

    Args:
        boxes: xyxy in pixels. (N, 4)
        mask_boxes: xyxy in pixels; NaN if unknown. (N, 4)
        sizes: width and height of each box's image in pixels. (N, 2)

    Returns:
        A mask. (N,)
    """
    limits = np.tile(sizes, 2)
    boxes, mask_boxes = boxes.clip(0, limits), mask_boxes.clip(0, limits)
    far = np.abs(boxes - mask_boxes).max(1, initial=0) > ROUNDING
    return far & (pair_iou(boxes, mask_boxes) < AGREE)


def _cross(first: ndarray, second: ndarray) -> ndarray:
    """Return which edges of two lists, x1, y1, x2, y2 (E, 4), cross at a point that is no end of either."""

    def side(edges: ndarray, points: ndarray) -> ndarray:
        """Return the side of each edge's line on which a point lies, as 1, 0 or -1."""
        (dx, dy), (x, y) = (edges[:, 2:] - edges[:, :2]).T, (points - edges[:, :2]).T
        return np.sign(dx * y - dy * x)

    return (side(first, second[:, :2]) * side(first, second[:, 2:]) < 0) & (
        side(second, first[:, :2]) * side(second, first[:, 2:]) < 0
    )


def _box_of_code(code: Mapping) -> tuple[float, float, float, float]:
    """Return the box around the pixels of a run-length code; NaN if it is damaged or has none."""
    try:
        runs = run_lengths(code)
    except (ValueError, TypeError, KeyError):
        return NO_BOX
    height = code['size'][0]
    ends = runs.cumsum()
    starts, stops = ends[:-1:2], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return NO_BOX
    first, last = starts // height, (stops - 1) // height  # columns
    top = np.where(first == last, starts % height, 0).min()
    bottom = np.where(first == last, (stops - 1) % height + 1, height).max()
    return first.min(), top, last.max() + 1, bottom


def _lists(objects: Objects) -> tuple[list[dict], list[dict]]:
    """Return COCO's `images` and `annotations` of the objects, whose ids are their places."""
    images = [
        dict(id=place, width=width, height=height) for place, (width, height) in enumerate(objects.sizes.tolist())
    ]
    annotations = [
        dict(id=place, image_id=image, iscrowd=0, segmentation=mask)
        for place, (image, mask) in enumerate(zip(objects.images.tolist(), objects.masks, strict=True))
    ]
    return images, annotations


def _has_short_polygon(mask: Any) -> bool:
    return isinstance(mask, list) and not all(map(is_polygon, mask))


def _are_finite(part: Sequence[Any]) -> bool:
    try:
        return math.isfinite(sum(part))
    except TypeError:  # not numbers
        return False
