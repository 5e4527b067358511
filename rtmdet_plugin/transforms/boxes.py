"""Arithmetic on boxes as plain arrays: xyxy in pixels, float32. (N, 4)"""

from __future__ import annotations

import numpy as np


def place_boxes(boxes: np.ndarray, scale: tuple[float, float], offset: tuple[float, float]) -> np.ndarray:
    """Scale boxes by (x, y) factors and move them by (x, y) pixels. (N, 4), new"""
    return boxes * np.array(scale * 2, np.float32) + np.array(offset * 2, np.float32)


def clip_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> None:
    """Cut boxes at the border of a picture of (height, width), in place."""
    np.clip(boxes, 0, np.array(shape[::-1] * 2, np.float32), out=boxes)


def flip_boxes(boxes: np.ndarray, width: float) -> np.ndarray:
    """Mirror boxes left to right on a picture of `width` pixels. (N, 4), new"""
    flipped = boxes.copy()
    flipped[:, 0] = width - boxes[:, 2]
    flipped[:, 2] = width - boxes[:, 0]
    return flipped


def inside(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether a box lies at least in part on a picture of (height, width). (N,), bool"""
    height, width = shape
    return (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
