"""Outlines of objects: closed lines as arrays of edges, from polygons, run-length codes, bitmaps or boxes.

A pixel belongs to a part if a line from its centre to the border of the image crosses the part's edges an odd number of
times, as in COCO; so neither the direction nor the order of edges matters. A polygon that crosses itself is valid. The
outline of a bitmap follows the borders of its pixels, which makes both kinds one: moving and drawing it needs no other
code, and gives each pixel the value of the bitmap's nearest one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Outline: TypeAlias = tuple[np.ndarray, ...]
"""The parts of an object, which is their union: edges x1, y1, x2, y2 of each, in pixels, float32 (E, 4), read-only."""


def outline_of(mask: Any, shape: tuple[int, int]) -> Outline | None:
    """Return the outline of a mask as COCO's `segmentation` has it.

    Args:
        mask: polygons, each a list of x, y, x, y, ..., or a run-length code, `size` and `counts`, compressed or not.
        shape: (height, width) of its image.

    Returns:
        The outline, which may still show nothing of the image. None if there is no polygon of at least three points, if
        the code is of another size or empty, or if the mask is neither.

    Raises:
        ValueError: if the run-length code is damaged.
    """
    if isinstance(mask, Mapping):
        return bitmap_outline(_decode(mask)) if mask.get('size') in (list(shape), tuple(shape)) else None
    parts = (polygon_edges(points) for points in _polygons(mask))
    return tuple(part for part in parts if np.isfinite(part.sum())) or None


def box_outline(box: Sequence[float]) -> Outline:
    """Return the outline of a box, xyxy."""
    x1, y1, x2, y2 = box
    return (polygon_edges((x1, y1, x2, y1, x2, y2, x1, y2)),)


def polygon_edges(polygon: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the edges of a polygon x, y, x, y, ..., (2 * E,), as float32 (E, 4)."""
    points = np.asarray(polygon, np.float32).reshape(-1, 2)
    edges = np.empty((len(points), 4), np.float32)
    edges[:, :2] = points
    edges[:-1, 2:] = points[1:]
    edges[-1:, 2:] = points[:1]
    edges.flags.writeable = False
    return edges


def bitmap_outline(bitmap: np.ndarray) -> Outline | None:
    """Return the borders between the pixels of a bitmap (H, W) that are 0 and those that aren't; None if all are 0."""
    columns, rows = np.flatnonzero(bitmap.any(axis=0)), np.flatnonzero(bitmap.any(axis=1))
    if len(rows) == 0:
        return None
    left, top = columns[0], rows[0]
    inside = np.pad(bitmap[top : rows[-1] + 1, left : columns[-1] + 1] != 0, 1)
    x, top_y, bottom_y = _stretches((inside[1:-1, 1:] != inside[1:-1, :-1]).T)
    y, left_x, right_x = _stretches(inside[1:, 1:-1] != inside[:-1, 1:-1])
    edges = np.concatenate([np.stack([x, top_y, x, bottom_y], 1), np.stack([left_x, y, right_x, y], 1)])
    edges = (edges + (left, top, left, top)).astype(np.float32)
    edges.flags.writeable = False
    return (edges,)


def run_lengths(code: Mapping) -> np.ndarray:
    """Return the run lengths of a run-length code of COCO, compressed or not; the first run is of zeros.

    Args:
        code: `size`, (height, width) in pixels, and `counts`.

    Raises:
        ValueError: if they aren't run lengths, or don't add up to the size.
    """
    (height, width), counts = code['size'], code.get('counts')
    try:
        runs = _decompress(counts) if isinstance(counts, (str, bytes)) else np.array(counts, ndmin=1)
    except ValueError:
        runs = np.array(())
    if runs.dtype != np.int64 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f'counts must be a run-length code of COCO for {height} x {width} pixels, got {counts!r:.80}')
    return runs


def _stretches(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, start and end of each run of True in the rows of `marks`, (R, C)."""
    padded = np.pad(marks, ((0, 0), (1, 1)))
    rows, places = np.nonzero(padded[:, 1:] != padded[:, :-1])
    return rows[0::2], places[0::2], places[1::2]


def _polygons(mask: Any) -> list[Sequence[float]]:
    """Return the polygons that have at least three points."""
    parts = mask if isinstance(mask, (list, tuple)) else ()
    return [part for part in parts if isinstance(part, (list, tuple)) and len(part) >= 6 and len(part) % 2 == 0]


def _decode(code: Mapping) -> np.ndarray:
    """Decode a run-length code into a bitmap, bool (H, W); it must be valid, see `run_lengths`."""
    runs, (height, width) = run_lengths(code), code['size']
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def _decompress(text: str | bytes) -> np.ndarray:
    """Return the run lengths in a compressed code of COCO.

    Each length has base-32 digits, the lowest first, as characters from `0` on; 32 is added to a character if another
    digit follows. From the fourth length on, it is the difference from the length two places before.
    """
    digits = np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8).astype(np.int64) - ord('0')
    last = np.flatnonzero(digits < 32)
    first = np.append(0, last[:-1] + 1)
    place = np.arange(len(digits)) - np.repeat(first, np.diff(last, prepend=-1))
    if not len(last) or place.max() > 6 or digits.min() < 0 or digits.max() > 63:
        raise ValueError('not a compressed code')
    runs = np.add.reduceat((digits % 32) << 5 * place, first)
    runs -= np.where(digits[last] >= 16, 1 << 5 * (place[last] + 1), 0)  # the highest bit is the sign
    runs[1::2], runs[2::2] = runs[1::2].cumsum(), runs[2::2].cumsum()
    return runs
