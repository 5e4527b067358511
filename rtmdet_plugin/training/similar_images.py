"""Group images that look alike, so that a split doesn't put copies of an image on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy import ndarray

from rtmdet_runtime.cpu_cores import available_cores

SIDE = 8
"""Width and height of the compared thumbnails."""
MAX_DIFFERENCE = 8
"""Difference of grey levels, of 255, up to which two cells of thumbnails are alike: resized and recompressed copies of
an image stay below it, and so do frames of a scene without movement."""
NEIGHBOURS = 8
"""Number of nearest images that each image is compared with, which bounds the work."""
REDUCIBLE = 16 * SIDE
"""Side in pixels from which an image is decoded at an eighth of its size, which is faster for JPEG."""


def similar_groups(paths: Sequence[Path], shortest_sides: Sequence[int]) -> ndarray:
    """Return a group number for each image; images of one group look alike.

    Roboflow's augmented copies, `NAME.rf.HASH.jpg`, belong to the group of their image, whatever they look like.

    Args:
        paths: image files. (N,)
        shortest_sides: shorter side of each image in pixels. (N,)

    Returns:
        Integers from 0. (N,)
    """
    # SciPy takes a quarter of a second to import; mmdet needs it too.
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    with ThreadPoolExecutor(available_cores()) as pool:  # OpenCV releases the interpreter lock
        found = list(pool.map(thumbnail, paths, shortest_sides))
    readable = np.array([place for place, image in enumerate(found) if image is not None], dtype=int)
    first: dict[str, int] = {}
    pairs = [(place, first.setdefault(path.name.partition('.rf.')[0], place)) for place, path in enumerate(paths)]
    pairs = [pair for pair in pairs if '.rf.' in paths[pair[0]].name]
    if len(readable) > 1:
        points = np.stack([found[place] for place in readable])
        distances, nearest = cKDTree(points).query(
            points, k=min(NEIGHBOURS, len(points)), p=np.inf, distance_upper_bound=MAX_DIFFERENCE
        )
        rows, columns = np.nonzero(np.isfinite(distances))
        pairs += zip(readable[rows].tolist(), readable[nearest[rows, columns]].tolist(), strict=True)
    rows, columns = np.array(pairs, dtype=int).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(paths), len(paths)))
    return connected_components(graph, directed=False)[1]


def thumbnail(path: Path, shortest_side: int) -> ndarray | None:
    """Return the grey levels of a small version of an image, (SIDE * SIDE,), or None if it can't be read."""
    flag = cv2.IMREAD_REDUCED_GRAYSCALE_8 if shortest_side >= REDUCIBLE else cv2.IMREAD_GRAYSCALE
    try:
        img = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    except (OSError, cv2.error):
        return None
    return None if img is None else cv2.resize(img, (SIDE, SIDE), interpolation=cv2.INTER_AREA).ravel().astype(float)
