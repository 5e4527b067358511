"""`Masks`: the masks of an image's instances, as the run lengths that COCO stores.

100 masks of 3000 x 4000 pixels take 1.2 GB as arrays, and less than a megabyte as runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .polygons import outlines

Index = int | slice | Sequence[int] | Sequence[bool] | np.ndarray


class Masks:
    """Masks of the instances of one image; `masks[kept]` has some of them.

    Args:
        runs: COCO's uncompressed run lengths of each mask, down the columns from left to right, int64. The first run is
            of zeros and may be 0.
        size: (height, width) of the image in pixels.
    """

    def __init__(self, runs: Sequence[np.ndarray], size: tuple[int, int]) -> None:
        self.runs, self.size = list(runs), size

    @classmethod
    def from_arrays(cls, arrays: np.ndarray) -> Masks:
        """Encode masks that are arrays, bool (n, height, width)."""
        _, height, width = arrays.shape
        return cls([runs_of(edges_of(array.T, 0, 0, height), (height, width)) for array in arrays], (height, width))

    @classmethod
    def concatenate(cls, parts: Sequence[Masks]) -> Masks:
        """Join the masks of one or more parts.

        Raises:
            ValueError: if their images have different sizes.
        """
        sizes = {part.size for part in parts}
        if len(sizes) != 1:
            raise ValueError(f'parts must be one or more masks of one size, got sizes {sorted(sizes)}')
        return cls([runs for part in parts for runs in part.runs], sizes.pop())

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: Index) -> Masks:
        """Select masks by number, slice, boolean array or numbers."""
        return Masks([self.runs[number] for number in np.atleast_1d(np.arange(len(self))[index])], self.size)

    def __repr__(self) -> str:
        height, width = self.size
        return f'Masks({len(self)} of {width} x {height} pixels)'

    @property
    def areas(self) -> np.ndarray:
        """Number of pixels of each mask, int64, (n,)."""
        return np.array([runs[1::2].sum() for runs in self.runs], np.int64)

    def cut(self, number: int) -> tuple[np.ndarray, int, int]:
        """Decode the smallest rectangle around a mask.

        Returns:
            Its pixels, bool (h, w), and x and y of its upper left one in the image; (0, 0) pixels of an empty mask.
        """
        runs, height = self.runs[number], self.size[0]
        if not runs[1::2].any():
            return np.zeros((0, 0), bool), 0, 0
        edges = np.cumsum(runs)[: len(runs) // 2 * 2]  # where the runs of ones begin and end, alternately
        left, right = edges[0] // height, (edges[-1] - 1) // height + 1
        lengths = np.diff(edges, prepend=left * height, append=right * height)
        columns = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(-1, height)
        top, bottom = np.flatnonzero(columns.any(axis=0))[[0, -1]]
        return columns[:, top : bottom + 1].T, int(left), int(top)

    def numpy(self) -> np.ndarray:
        """Decode all masks: bool (n, height, width)."""
        arrays = np.zeros((len(self), *self.size), bool)
        for number, array in enumerate(arrays):
            pixels, x, y = self.cut(number)
            array[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        return arrays

    def rle(self) -> list[dict[str, Any]]:
        """Return each mask as pycocotools reads it: `size`, [height, width], and `counts`, compressed."""
        return [dict(size=list(self.size), counts=compressed(runs)) for runs in self.runs]

    def polygons(self) -> list[list[np.ndarray]]:
        """Return the polygons (k, 2) of each mask, one per connected part, in pixels of the image; see `outlines`."""
        found = []
        for number in range(len(self)):
            pixels, x, y = self.cut(number)
            found.append([polygon + (x, y) for polygon in outlines(pixels)])
        return found

    def placed(self, x: int, y: int, size: tuple[int, int]) -> Masks:
        """Return the masks in a larger image.

        Args:
            x: column of the larger image that is the first one of this image.
            y: row of the larger image that is the first one of this image.
            size: (height, width) of the larger image in pixels.
        """
        runs = []
        for number in range(len(self)):
            pixels, left, top = self.cut(number)
            runs.append(runs_of(edges_of(pixels.T, x + left, y + top, size[0]), size))
        return Masks(runs, size)


def edges_of(strip: np.ndarray, x: int, y: int, height: int) -> np.ndarray:
    """Return the indices at which runs begin and end, alternately, in a part of a mask.

    Args:
        strip: some pixels, columns first. (w, h)
        x: first column of the part.
        y: first row of the part.
        height: height of the mask.

    Returns:
        Indices of pixels, down the columns of the mask, from left to right.
    """
    padded = np.zeros((strip.shape[0], strip.shape[1] + 2), bool)
    padded[:, 1:-1] = strip
    changes = np.flatnonzero(padded[:, 1:] != padded[:, :-1])  # of one axis: several times as fast as of two
    column, row = np.divmod(changes, strip.shape[1] + 1)
    return (x + column) * height + y + row


def runs_of(edges: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the run lengths of a mask from the beginnings and ends of its runs, see `edges_of`.

    Args:
        edges: indices of pixels, ascending.
        size: (height, width) of the mask in pixels.
    """
    # A run that ends where the next one begins continues from the bottom of one column to the top of the next.
    joined = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    runs = np.diff(edges, prepend=0, append=size[0] * size[1])
    return runs[:-1] if len(runs) > 1 and not runs[-1] else runs  # the last run may end with the mask


def compressed(runs: np.ndarray) -> str:
    """Return run lengths as COCO's text: differences to the run before the last, 5 bits in each character."""
    values = runs.copy()
    values[3:] -= runs[1:-2]
    parts = values[:, None] >> 5 * np.arange(13)  # 13 x 5 bits for int64
    # A number ends when the bits that remain only repeat its sign, which is the fifth bit of the last character.
    ends = parts >> 5 == -(parts >> 4 & 1)
    used = np.arange(13) <= ends.argmax(axis=1)[:, None]
    return (((parts & 31) + 32 * ~ends)[used] + 48).astype(np.uint8).tobytes().decode()
