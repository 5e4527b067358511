"""Fill polygons, without the outer pixels that OpenCV adds."""

import numpy as np


def filled(polygons, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels (height, width) whose centres are inside an odd number of polygons (k, 2) in pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y1 != y2:
                inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside
