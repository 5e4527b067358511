"""Find annotations whose masks show nothing or are damaged, before a training or an evaluation reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ..transforms.outlines import run_lengths

NO_MASK = 'have no segmentation'
OTHER_SIZE = 'have a run-length code of another size than their image'
NO_AREA = 'have no polygon of three points with an area inside their image'
DAMAGED = 'have a damaged run-length code'
READ_AS_BOX = 'begin with a polygon of fewer than three points, which pycocotools reads as a box'

CHUNK = 20_000
"""Number of polygons that are examined at a time; those of COCO together would take 2 GB."""

Part = tuple[int, Sequence[float], tuple[float, float]]
"""Id of an annotation, a polygon x, y, x, y, ..., and (width, height) of the image."""


def unusable_masks(images: Iterable[dict], annotations: Iterable[dict]) -> dict[str, list[int]]:
    """Return the ids of the annotations that have no mask to learn from, by the reason.

    Crowds and annotations of other images are skipped. Polygons that cross themselves are valid, and runs in a code of
    the right size are checked only when the sample is loaded.

    Args:
        images: COCO's `images`.
        annotations: COCO's `annotations`, complete as `read_coco_file` returns them.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    lost: dict[str, list[int]] = {NO_MASK: [], OTHER_SIZE: [], NO_AREA: []}
    parts: list[Part] = []
    waiting: list[int] = []
    for annotation in annotations:
        size = sizes.get(annotation['image_id'])
        if size is None or annotation['iscrowd']:
            continue
        mask = annotation.get('segmentation')
        if not mask:
            lost[NO_MASK].append(annotation['id'])
        elif isinstance(mask, Mapping):
            if mask.get('size') != [size[1], size[0]]:
                lost[OTHER_SIZE].append(annotation['id'])
        else:
            waiting.append(annotation['id'])
            polygons = mask if isinstance(mask, list) else ()
            parts += [(annotation['id'], polygon, size) for polygon in polygons if is_polygon(polygon)]
    shown = set[int]().union(*(_shown(parts[start : start + CHUNK]) for start in range(0, len(parts), CHUNK)))
    lost[NO_AREA] = [number for number in waiting if number not in shown]
    return {reason: ids for reason, ids in lost.items() if ids}


def unscorable_masks(images: Iterable[dict], annotations: Iterable[dict]) -> dict[str, list[int]]:
    """Return the ids of the annotations, crowds included, whose masks can't be evaluated, by the reason.

    pycocotools fails on some, and scores others as masks without pixels; some damaged codes keep it busy forever.

    Args:
        images: COCO's `images`.
        annotations: COCO's `annotations`, complete as `read_coco_file` returns them.
    """
    objects = [{**annotation, 'iscrowd': 0} for annotation in annotations]
    lost = unusable_masks(images, objects)
    known = {number for ids in lost.values() for number in ids}
    left = [annotation for annotation in objects if annotation['id'] not in known]
    lost[DAMAGED] = damaged_codes(left)
    lost[READ_AS_BOX] = [annotation['id'] for annotation in left if _is_read_as_box(annotation.get('segmentation'))]
    return {reason: ids for reason, ids in lost.items() if ids}


def damaged_codes(annotations: Iterable[dict]) -> list[int]:
    """Return the ids of the annotations whose run-length codes are damaged; a training meets them with their sample."""
    damaged = []
    for annotation in annotations:
        if isinstance(annotation.get('segmentation'), Mapping):
            try:
                run_lengths(annotation['segmentation'])
            except (ValueError, TypeError, KeyError):  # the last two if `size` isn't a pair
                damaged.append(annotation['id'])
    return damaged


def _shown(parts: list[Part]) -> set[int]:
    """Return the ids of the annotations of which at least one polygon has an area and overlaps its image's."""
    try:
        values = np.fromiter(chain.from_iterable(part for _, part, _ in parts), float)
    except (TypeError, ValueError):  # not numbers
        return set[int]().union(*(_shown([part]) for part in parts)) if len(parts) > 1 else set()
    points = values.reshape(-1, 2)
    count = np.array([len(part) // 2 for _, part, _ in parts])
    first = np.cumsum(count) - count
    following = np.arange(1, len(points) + 1)
    following[first + count - 1] = first
    origin = np.repeat(points[first], count, axis=0)
    with np.errstate(invalid='ignore', over='ignore'):
        (x, y), (next_x, next_y) = (points - origin).T, (points[following] - origin).T
        area = np.logical_or.reduceat(np.abs(x * next_y - y * next_x) > 1e-6, first)  # not all points on one line
    low, high = np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)
    sizes = np.array([size for _, _, size in parts])
    shown = area & np.isfinite(low + high).all(axis=1) & (low < sizes).all(axis=1) & (high > 0).all(axis=1)
    return {number for (number, _, _), good in zip(parts, shown, strict=True) if good}


def is_polygon(part: Any) -> bool:
    """Return whether a part of a mask is a polygon of at least three points."""
    return isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0


def _is_read_as_box(mask: Any) -> bool:
    """Return whether a mask is a list of polygons of which the first has at most two points."""
    return isinstance(mask, list) and bool(mask) and isinstance(mask[0], list) and len(mask[0]) <= 4
