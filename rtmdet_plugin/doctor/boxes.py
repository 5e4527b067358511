"""Checks of the boxes of a split, each a function of arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy import ndarray

from ..datasets.box_format import box_format
from ..engine.hooks.before_run import run_findings
from ..training.fit_to_data import STRIDE
from ..training.formats.labelled import UNUSABLE
from .finding import Finding
from .objects import Objects

TINY = 2  # pixels; a side below it is usually a slip of the mouse
HUGE = 0.95  # share of the image's area
DOUBLED = 0.95  # IoU of two boxes of one class
SLACK = 1  # pixels by which a box may extend past its image, because of rounding


def check_boxes(objects: Objects, input_size: int) -> Iterator[Finding]:
    """Yield what is unusual about the boxes of a split.

    Args:
        objects: images and boxes.
        input_size: size in pixels that images are fitted into.
    """
    split, total = objects.split, len(objects.boxes)
    if objects.unusable:
        text = f'{split}: {len(objects.unusable)} boxes {UNUSABLE}; they are not used'
        yield Finding('unusable boxes', 'warning', text, objects.unusable)
    past = past_border(objects.boxes, objects.sizes[objects.images])
    if past.any():
        xywh = np.concatenate([objects.boxes[:, :2], objects.sides], axis=1)
        severity = 'warning' if box_format(xywh, objects.sizes[objects.images]).many_past else 'note'
        text = f'{split}: {past.sum()} of {total} boxes extend past their image; they are clipped at its border'
        yield Finding('boxes past the border', severity, text, objects.items(past))
    tiny = objects.sides.min(1) < TINY
    if tiny.any():
        text = f'{split}: {tiny.sum()} of {total} boxes are less than {TINY} px wide or high'
        yield Finding('tiny boxes', 'warning', text, objects.items(tiny))
    huge = objects.sides.prod(1) > HUGE * objects.sizes[objects.images].prod(1)
    if huge.any():
        text = f'{split}: {huge.sum()} of {total} boxes cover more than {HUGE:.0%} of their image'
        yield Finding('huge boxes', 'note', text, objects.items(huge))
    doubled = doubled_boxes(objects.boxes, objects.images, objects.labels)
    if len(doubled):
        text = f'{split}: {len(doubled)} of {total} boxes have an IoU above {DOUBLED} with another of the same class'
        yield Finding('doubled boxes', 'warning', text, objects.items(doubled))
    if total:
        scale = input_size / objects.sizes[objects.images].max(1)
        short, long = np.sort(objects.sides * scale[:, None], axis=1).T
        for found in (
            run_findings.check_small_objects(short, STRIDE),
            run_findings.check_aspect_ratios(long / short),
        ):
            if found.level != 'ok':
                yield Finding(found.what, found.level, f'{split}: {found.value}; {found.advice}')


def past_border(boxes: ndarray, sizes: ndarray) -> ndarray:
    """Return which boxes extend past their image by more than `SLACK`.

    Args:
        boxes: xyxy in pixels. (N, 4)
        sizes: width and height of each box's image in pixels. (N, 2)

    Returns:
        A mask. (N,)
    """
    return np.any(boxes[:, :2] < -SLACK, axis=1) | np.any(boxes[:, 2:] > sizes + SLACK, axis=1)


def doubled_boxes(boxes: ndarray, images: ndarray, labels: ndarray) -> ndarray:
    """Return the places of boxes that nearly equal an earlier box of the same class in the same image.

    Boxes are sorted by image, class and left edge, and each is compared with those that follow. An IoU above `DOUBLED`
    is possible only while the left edges differ by a small share of the width, so that few pairs are compared.

    Args:
        boxes: xyxy. (N, 4)
        images: place of each box's image. (N,)
        labels: class of each box. (N,)

    Returns:
        Sorted places; of a pair, the one that comes later. (K,)
    """
    order = np.lexsort((boxes[:, 0], labels, images))
    boxes, images, labels = boxes[order], images[order], labels[order]
    width = boxes[:, 2] - boxes[:, 0]
    found = set()
    first = np.arange(len(boxes))
    step = 0
    while len(first):
        step += 1
        first = first[first + step < len(boxes)]
        second = first + step
        near = (images[first] == images[second]) & (labels[first] == labels[second])
        near &= boxes[second, 0] - boxes[first, 0] <= (1 - DOUBLED) * width[first]
        first, second = first[near], second[near]
        same = pair_iou(boxes[first], boxes[second]) > DOUBLED
        found.update(np.maximum(order[first[same]], order[second[same]]).tolist())
    return np.array(sorted(found), dtype=int)


def pair_iou(first: ndarray, second: ndarray) -> ndarray:
    """Return the IoU of boxes in pairs, xyxy (N, 4) and (N, 4): (N,)."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    common = sides.clip(0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (first, second)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)
