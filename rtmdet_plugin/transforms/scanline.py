"""Draw outlines: the pixels of many objects at once, as runs; and the boxes around what is visible of them.

A pixel belongs to an object if its centre lies inside. Only rows and columns within an object's window are visited, so
time and memory are those of what is visible, not of objects times pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BITS = 20
"""Bits of a row or column in the integers that are sorted."""
LOW = (1 << BITS) - 1
FAR = 2.0**40
"""Limit of coordinates before they become integers; it lies outside of any image."""


class Edges(NamedTuple):
    """Edges of N objects, in the order of objects and parts."""

    lines: np.ndarray
    """x1, y1, x2, y2 in pixels, float64. (E, 4)"""
    parts: np.ndarray
    """Index of each edge's part, ascending. (E,)"""
    owners: np.ndarray
    """Index of each part's object, ascending. (P,)"""
    windows: np.ndarray
    """Part of the image on which each object is visible, xyxy in pixels. (N, 4)"""


class Runs(NamedTuple):
    """Pixels of objects, as runs of columns `start` to `stop - 1`; all arrays are (R,). Runs don't overlap."""

    owner: np.ndarray
    row: np.ndarray
    start: np.ndarray
    stop: np.ndarray


def runs_of(edges: Edges, size: tuple[int, int]) -> Runs:
    """Return the pixels of the objects on an image of (width, height)."""
    lines, limits = edges.lines, _pixels(edges.windows, size)[edges.owners[edges.parts]]  # (E, 4)
    first = _first_centre(np.minimum(lines[:, 1], lines[:, 3])).clip(limits[:, 1], limits[:, 3])
    last = _first_centre(np.maximum(lines[:, 1], lines[:, 3])).clip(limits[:, 1], limits[:, 3])
    number = last - first  # of rows that an edge crosses
    edge = np.repeat(np.arange(len(lines)), number)
    row = _counted(first, number)
    x1, y1, x2, y2 = lines[edge].T
    column = _first_centre(x1 + (row + 0.5 - y1) * ((x2 - x1) / (y2 - y1)))
    column = column.clip(limits[edge, 0], limits[edge, 2])

    # A part's crossings with a row are, from left to right, the start and end of a run, and so on.
    crossings = np.sort(edges.parts[edge] << 2 * BITS | row << BITS | column)
    starts, stops = crossings[0::2], crossings[1::2]
    runs = Runs(edges.owners[starts >> 2 * BITS], starts >> BITS & LOW, starts & LOW, stops & LOW)
    runs = _where(runs, runs.stop > runs.start)
    joined = (np.bincount(edges.owners, minlength=1) > 1)[runs.owner]
    if not joined.any():
        return runs
    return Runs(*map(np.concatenate, zip(_where(runs, ~joined), _union(_where(runs, joined)), strict=True)))


def areas_of(runs: Runs, count: int) -> np.ndarray:
    """Return the number of pixels of each of `count` objects, (N,)."""
    return np.bincount(runs.owner, runs.stop - runs.start, count)


def centroids_of(runs: Runs, count: int) -> np.ndarray:
    """Return the mean x and y of the pixels' indices of each of `count` objects, (N, 2); 0 without any pixel."""
    length = runs.stop - runs.start
    x = np.bincount(runs.owner, length * (runs.start + runs.stop - 1) / 2, count)
    y = np.bincount(runs.owner, length * runs.row, count)
    return np.stack([x, y], 1) / areas_of(runs, count).clip(min=1)[:, None]


def pixels_of(runs: Runs, count: int, size: tuple[int, int], stride: int = 1) -> np.ndarray:
    """Return masks, uint8 (N, h, w), of every `stride`-th pixel of an image of (width, height), from stride // 2 on."""
    skipped = stride // 2
    width, height = (len(range(skipped, side, stride)) for side in size)
    pixels = np.zeros((count, height, width), np.uint8)
    kept = runs.row % stride == skipped
    start, stop = (-((skipped - columns[kept]) // stride) for columns in (runs.start, runs.stop))
    line = runs.owner[kept] * height + runs.row[kept] // stride
    pixels.reshape(-1)[_counted(line * width + start, stop - start)] = 1
    return pixels


def extents(edges: Edges) -> np.ndarray:
    """Return the boxes around all edges of the objects, of which there is at least one, xyxy (N, 4)."""
    first = np.flatnonzero(np.diff(edges.owners[edges.parts], prepend=-1))
    ends = edges.lines[:, :2], edges.lines[:, 2:]
    low, high = (function.reduceat(function(*ends), first) for function in (np.minimum, np.maximum))
    return np.concatenate([low, high], axis=1)


def visible_boxes(edges: Edges) -> np.ndarray:
    """Return the boxes around the visible part of the objects, xyxy (N, 4); 0 for those that aren't visible.

    The extremes of a visible part are ends of visible pieces of edges, or corners of the window that lie inside.
    """
    windows = edges.windows[edges.owners[edges.parts]]  # (E, 4)
    low, high = windows[:, :2], windows[:, 2:]
    start, step = edges.lines[:, :2], edges.lines[:, 2:] - edges.lines[:, :2]
    with np.errstate(divide='ignore', invalid='ignore'):
        enter, leave = (low - start) / step, (high - start) / step
    # 0 / 0: parallel to a border and on it
    enter, leave = np.where(np.isnan(enter), -np.inf, enter), np.where(np.isnan(leave), np.inf, leave)
    begin = np.minimum(enter, leave).max(axis=1).clip(min=0)  # (E,), as fractions of the edge
    end = np.maximum(enter, leave).min(axis=1).clip(max=1)
    seen = begin <= end
    ends = [
        (start + np.where(seen, at, 0)[:, None] * step).clip(low, high)  # rounding may leave the window
        for at in (begin, end)
    ]
    smallest = np.where(seen[:, None], np.minimum(*ends), np.inf)
    largest = np.where(seen[:, None], np.maximum(*ends), -np.inf)

    corners = windows[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
    x, y = corners[..., 0], corners[..., 1]  # (E, 4)
    x1, y1, x2, y2 = (column[:, None] for column in edges.lines.T)
    crossed = (y1 <= y) != (y2 <= y)
    with np.errstate(divide='ignore', invalid='ignore'):
        crossed &= x1 + (y - y1) * ((x2 - x1) / (y2 - y1)) < x
    first_edges = np.flatnonzero(np.diff(edges.parts, prepend=-1))
    inside = np.add.reduceat(crossed, first_edges, axis=0, dtype=np.int64) % 2 == 1  # (P, 4)
    corners = corners[first_edges]
    smallest = np.minimum(
        np.minimum.reduceat(smallest, first_edges), np.where(inside[..., None], corners, np.inf).min(axis=1)
    )
    largest = np.maximum(
        np.maximum.reduceat(largest, first_edges), np.where(inside[..., None], corners, -np.inf).max(axis=1)
    )
    first_parts = np.flatnonzero(np.diff(edges.owners, prepend=-1))
    boxes = np.concatenate(
        [np.minimum.reduceat(smallest, first_parts), np.maximum.reduceat(largest, first_parts)], axis=1
    )
    return np.where(np.isfinite(boxes), boxes, 0)


def _union(runs: Runs) -> Runs:
    """Join the runs of each object's parts in each row."""
    line = runs.owner << 2 * BITS | runs.row << BITS
    events = np.sort(np.concatenate([(line | runs.start) << 1, (line | runs.stop) << 1 | 1]))
    change = 1 - 2 * (events & 1)
    depth = np.cumsum(change)  # number of parts that cover what follows an event
    starts, stops = events[(depth == 1) & (change == 1)] >> 1, events[depth == 0] >> 1
    return Runs(starts >> 2 * BITS, starts >> BITS & LOW, starts & LOW, stops & LOW)


def _where(runs: Runs, chosen: np.ndarray) -> Runs:
    return Runs(*(values[chosen] for values in runs))


def _first_centre(value: np.ndarray) -> np.ndarray:
    """Return the index of the first pixel whose centre isn't before `value`."""
    return np.ceil(value - 0.5).clip(-FAR, FAR).astype(np.int64)


def _pixels(windows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of windows (N, 4) as first and last + 1 index, x and y, within an image of (width, height)."""
    return _first_centre(windows).clip(0, np.array(size * 2))


def _counted(first: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Concatenate first[i], first[i] + 1, ..., first[i] + number[i] - 1 for each i."""
    ends = np.cumsum(number)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + number, number)
