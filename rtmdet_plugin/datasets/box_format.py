"""Check if the boxes of an annotation file look like COCO's, which are x, y, width, height in pixels.

If boxes are stored as two corners, or as centre and size, training on them runs and learns the wrong thing. Such boxes
can be recognised: many extend past their image, but don't if they are read in the other format. A few boxes past the
border are normal: objects that the image cuts off are sometimes annotated with their invisible part.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

MANY = 0.05
"""Share of boxes past their image above which other formats are tried."""
NEARLY_ALL = 0.99
"""Share of boxes that must fit a format; below 1, so that a few mistakes don't hide it."""
WANTED = 'it must be x, y, width, height in pixels'


@dataclass(frozen=True)
class BoxFormat:
    """Findings about the box format of a dataset."""

    total: int
    """Number of boxes."""
    past: int
    """Number of boxes that extend past their image."""
    doubt: str
    """A sentence that names the other format that the boxes seem to have; empty if there is none."""

    @property
    def many_past(self) -> bool:
        """Whether more than a share of `MANY` of the boxes extend past their image."""
        return self.past > MANY * self.total


def box_format(boxes: ndarray, sizes: ndarray) -> BoxFormat:
    """Compare how well the boxes fit their images in three formats.

    Args:
        boxes: numbers from the file, by default read as x, y, width, height in pixels. (N, 4)
        sizes: width and height of each box's image, in pixels. (N, 2)

    Returns:
        The counts, and the format that the boxes seem to have if it isn't COCO's.
    """
    first, second = boxes[:, :2], boxes[:, 2:]
    past = ~_inside(first, first + second, sizes)
    found = BoxFormat(len(boxes), int(past.sum()), '')
    relative = np.all((boxes >= 0) & (boxes <= 1), axis=1)
    if _nearly_all(relative):
        text = (
            f'{relative.sum()} of {len(boxes)} boxes consist of numbers from 0 to 1: they seem to be fractions of the '
            f"image's width and height (YOLO's format is centre x, centre y, width, height); {WANTED}"
        )
        return BoxFormat(found.total, found.past, text)
    readings = {
        'x1, y1, x2, y2': _inside(first, second, sizes) & (second > first).all(1),
        'centre x, centre y, width, height': _inside(first - second / 2, first + second / 2, sizes),
    }
    for reading, fits in readings.items():
        if found.many_past and _nearly_all(fits):
            text = (
                f'{found.past} of {found.total} boxes reach past their image, but {fits.sum()} fit into it if read '
                f'as {reading}, which seems to be their format; {WANTED}'
            )
            return BoxFormat(found.total, found.past, text)
    return found


def _inside(low: ndarray, high: ndarray, sizes: ndarray) -> ndarray:
    """Return which boxes, given by two corners (N, 2), lie in their images up to rounding, (N,)."""
    slack = 1 + 0.01 * sizes
    return np.all((low >= -slack) & (high <= sizes + slack), axis=1)


def _nearly_all(fits: ndarray) -> bool:
    return len(fits) > 0 and bool(np.mean(fits) >= NEARLY_ALL)
