"""Pure functions on boxes as plain arrays: xyxy in pixels, float32, (N, 4)."""

from __future__ import annotations

import numpy as np


def place_boxes(boxes: np.ndarray, scale: tuple[float, float], offset: tuple[float, float]) -> np.ndarray:
    """Scale boxes by (x, y) factors, then move them by (x, y) pixels; return a new array of (N, 4)."""
    return boxes * np.array(scale * 2, np.float32) + np.array(offset * 2, np.float32)


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> None:
    """Clip boxes to the border of an image of (height, width), in place."""
    np.clip(boxes, 0, np.array(shape[::-1] * 2, np.float32), out=boxes)


def flip_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """Mirror boxes left to right on an image of `width` pixels; return a new array of (N, 4)."""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped


def inside(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return which boxes lie at least partly on an image of (height, width), as bool of (N,)."""
    height, width = shape
    return (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
