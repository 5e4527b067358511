"""Find objects in images that are larger than the network's input, in overlapping tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .choices import TILE_OVERLAP
from .detections import Detections
from .image import Image, read_image
from .masks import Masks
from .postprocess import class_wise_nms

if TYPE_CHECKING:
    from .detector import RTMDetector

CUT = 0.5
"""Factor of the score of a box that ends where its tile does: the neighbouring tile, or the complete image, probably
has the complete object, which must win. benchmarks/tiles.py compares it with other ways to merge."""
COVERED = 0.8
"""A box is removed if a better box of its class covers more than this share of the smaller one of the two."""
BORDER = 2.0
"""Distance from the border of a tile within which a box ends there, in pixels of the tile, or of the network's input if
the tile is shrunk to it."""


class TiledDetector:
    """Find objects in the tiles of an image and in the complete image, and merge the boxes.

    Each tile is resized to the network's input, like an image. The complete image adds the objects that are larger than
    a tile. Memory grows with the number of boxes and with the tiles of a batch; of the image, only the decoded pixels
    are kept. A mask is that of the tile, or of the complete image, that its box is from.

    Args:
        detector: finds objects in a tile. Its `max_per_img` limits the boxes per tile.
        tile: width and height of a tile in pixels.
        overlap: minimum share of a tile's side that it has in common with the next one. In pixels, it should be larger
            than the objects that only the tiles show.
        batch_size: number of tiles that the network gets at once; ignored if the model has a fixed batch size.

    Raises:
        ValueError: if a value isn't in its range.
    """

    def __init__(
        self, detector: RTMDetector, tile: int = 640, overlap: float = TILE_OVERLAP, batch_size: int = 1
    ) -> None:
        if tile < 32:
            raise ValueError(f'tile must be at least 32 pixels, got {tile}')
        if not 0 <= overlap <= 0.9:
            raise ValueError(f'overlap must be from 0 to 0.9, got {overlap}')
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        self.detector = detector
        self._border = BORDER * max(1, tile / min(detector.info.input_size))
        self._tile, self._overlap, self._batch_size = tile, overlap, batch_size

    def predict(self, source: str | Path | Image) -> Detections:
        """Find objects in an image.

        Args:
            source: a path or an image (BGR, uint8, (H, W, 3)).

        Raises:
            FileNotFoundError, ValueError: see `RTMDetector.predict`.
        """
        image = read_image(source)
        complete = self.detector.predict(image)
        height, width = image.shape[:2]
        if max(height, width) <= self._tile:
            return complete
        found = [complete, *self._in_tiles(image)]
        boxes, scores, labels = (
            np.concatenate([getattr(part, name) for part in found]) for name in ('boxes', 'scores', 'labels')
        )
        above = np.flatnonzero(scores > self.detector.info.score_thr)
        candidates = boxes[above], scores[above], labels[above], above
        boxes, scores, labels, kept = class_wise_nms(candidates, COVERED, len(scores), len(scores), of_smaller=True)
        masks = [part.masks for part in found if part.masks is not None]
        merged = Masks.concatenate(masks)[kept] if masks else None
        return replace(complete, boxes=boxes, scores=scores, labels=labels, masks=merged)

    def _in_tiles(self, image: Image) -> Iterator[Detections]:
        """Yield the detections of each tile in the coordinates of the image, with lower scores for cut boxes."""
        height, width = image.shape[:2]
        corners = itertools.product(*(starts(side, self._tile, self._overlap) for side in (height, width)))
        step = self.detector.backend.batch or self._batch_size
        while batch := list(itertools.islice(corners, step)):
            tiles = [image[y : y + self._tile, x : x + self._tile] for y, x in batch]
            for (y, x), tile, found in zip(batch, tiles, self.detector.predict(tiles, step), strict=True):
                inner = (x, y, width - x - tile.shape[1], height - y - tile.shape[0])
                cut = ends_at_border(found.boxes, tile.shape[:2], inner, self._border)
                corner = np.array([x, y, x, y], np.float32)
                yield replace(
                    found,
                    boxes=found.boxes + corner,
                    scores=np.where(cut, np.float32(CUT), np.float32(1)) * found.scores,
                    masks=None if found.masks is None else found.masks.placed(x, y, (height, width)),
                )


def starts(side: int, tile: int, overlap: float) -> list[int]:
    """Return where tiles start on a side of an image, evenly spaced.

    Args:
        side: length of the side in pixels.
        tile: length of a tile in pixels; there is one tile if the side isn't longer.
        overlap: minimum share of a tile that it has in common with the next one.
    """
    rest = max(side - tile, 0)
    steps = math.ceil(rest / (tile * (1 - overlap)))
    return [round(i * rest / steps) for i in range(steps + 1)] if steps else [0]


def ends_at_border(
    boxes: np.ndarray, size: tuple[int, ...], beyond: tuple[int, int, int, int], border: float
) -> np.ndarray:
    """Return whether each box ends at a border of its tile that isn't a border of the image.

    Args:
        boxes: xyxy in pixels of the tile. (N, 4)
        size: height and width of the tile in pixels.
        beyond: number of pixels of the image to the left, above, to the right and below the tile.
        border: distance in pixels within which a box ends at a border.

    Returns:
        Booleans. (N,)
    """
    height, width = size
    distances = boxes * [1, 1, -1, -1] + [0, 0, width, height]  # from the left, upper, right and lower border
    return np.any((distances < border) & (np.array(beyond) > 0), axis=1)
