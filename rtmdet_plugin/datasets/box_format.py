"""Whether the boxes of an annotation file look like COCO's, which are x, y, width, height in pixels.

Boxes that were written as two corners, or as a centre and a size, are numbers like any others: a training on them runs
and learns the wrong thing. What gives them away is that many reach past their image, and that they don't if they are
read the other way. Some boxes past the border are no fault of that kind: objects that the image cuts off are sometimes
annotated with the part that can't be seen.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

MANY = 0.05
"""Share of boxes past their image above which another reading is looked for."""
NEARLY_ALL = 0.99
"""Share of boxes that have to fit a reading, so that a few mistakes don't hide it."""
WANTED = 'COCO wants x, y, width, height in pixels'


@dataclass(frozen=True)
class BoxFormat:
    """What the boxes of a dataset look like."""

    total: int
    past: int
    """Number of boxes that reach past their image."""
    doubt: str
    """A sentence on the other format that they look like; empty if there is none."""

    @property
    def many_past(self) -> bool:
        return self.past > MANY * self.total


def box_format(boxes: ndarray, sizes: ndarray) -> BoxFormat:
    """Compare three readings of the same numbers.

    Args:
        boxes: as in the file, taken for x, y, width, height in pixels. (N, 4)
        sizes: width and height of the image of each box, in pixels. (N, 2)
    """
    first, second = boxes[:, :2], boxes[:, 2:]
    past = ~_inside(first, first + second, sizes)
    found = BoxFormat(len(boxes), int(past.sum()), '')
    shares = (boxes >= 0).all(1) & (boxes <= 1).all(1)
    if _nearly_all(shares):
        text = (
            f'{shares.sum()} of {len(boxes)} boxes consist of numbers from 0 to 1: they look like shares of the '
            f"image's width and height (YOLO's format has centre x, centre y, width, height); {WANTED}"
        )
        return BoxFormat(found.total, found.past, text)
    readings = {
        'x1, y1, x2, y2': _inside(first, second, sizes) & (second > first).all(1),
        'centre x, centre y, width, height': _inside(first - second / 2, first + second / 2, sizes),
    }
    for reading, fits in readings.items():
        if found.many_past and _nearly_all(fits):
            text = (
                f'{found.past} of {found.total} boxes reach past their image, and {fits.sum()} fit into it when read '
                f'as {reading}: they look like that; {WANTED}'
            )
            return BoxFormat(found.total, found.past, text)
    return found


def _inside(low: ndarray, high: ndarray, sizes: ndarray) -> ndarray:
    """Whether corners (N, 2) lie in their images, but for rounding. (N,)"""
    slack = 1 + 0.01 * sizes
    return ((low >= -slack) & (high <= sizes + slack)).all(1)


def _nearly_all(fits: ndarray) -> bool:
    return len(fits) > 0 and bool(np.mean(fits) >= NEARLY_ALL)
