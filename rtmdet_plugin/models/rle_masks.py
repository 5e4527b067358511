"""Masks in COCO's run-length encoding, made from coarse logits without an image of the full size.

100 masks of 3000 x 4000 pixels take 1.2 GB as a tensor, and evaluation encodes them in any case.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from rtmdet_runtime.masks import edges_of, runs_of

from .interpolation import interpolation_matrix

MAX_PIXELS = 2**21
"""Pixels of a mask that are in memory at a time."""


class RLE(dict):
    """A mask as COCO stores it: `size`, (height, width), and `counts`, compressed.

    With any other index it is the decoded array, as mmdet's DetInferencer needs it: `rle[:, :]` is (height, width).
    """

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        return coco_mask.decode(self)[key]  # pyright: ignore[reportArgumentType]  # it wants a TypedDict


class RLEMasks(list):
    """The masks of an image's instances, a list of `RLE`.

    mmdet's CocoMetric takes the list as it is. The others decode it: the visualizer with `astype`, `DumpDetResults`
    with `numpy`, and DetInferencer with `cpu` if there are no boxes.

    Args:
        masks: the masks.
        size: (height, width) of the image in pixels, which an empty list has as well.
    """

    def __init__(self, masks: Iterable[RLE], size: tuple[int, int]) -> None:
        super().__init__(masks)
        self.size = size

    def __getitem__(self, index: Any) -> Any:
        """Return one mask, or `RLEMasks` for a slice."""
        found = super().__getitem__(index)
        return RLEMasks(found, self.size) if isinstance(index, slice) else found

    def __add__(self, other: list) -> RLEMasks:
        return RLEMasks(super().__add__(other), self.size)

    def numpy(self) -> np.ndarray:
        """Decode all masks: bool (n, height, width)."""
        arrays = np.zeros((len(self), *self.size), bool)
        for array, rle in zip(arrays, self, strict=True):
            array[:] = rle[:, :]
        return arrays

    def cpu(self) -> Tensor:
        """Decode all masks to a tensor, bool (n, height, width)."""
        return torch.from_numpy(self.numpy())

    def astype(self, dtype: Any) -> np.ndarray:
        """Decode all masks to `dtype`, (n, height, width)."""
        return self.numpy().astype(dtype)


@torch.no_grad()
def encode_masks(
    logits: Tensor,
    size: tuple[int, int],
    cells_per_pixel: tuple[float, float],
    threshold: float,
    max_pixels: int = MAX_PIXELS,
) -> RLEMasks:
    """Enlarge mask logits to the size of an image, and encode the pixels above a threshold.

    Each mask is interpolated once, and only around its cells above the threshold, some columns at a time. Beyond these
    cells and their neighbours no interpolated value can be above it, so the result is that of the entire image.

    Args:
        logits: mask logits of each instance. (n, h, w)
        size: (height, width) of the image in pixels. The logits may extend beyond the image, on the right and below.
        cells_per_pixel: height and width of a pixel of the image in cells of the logits.
        threshold: logit above which a pixel belongs to the mask.
        max_pixels: pixels in memory at a time; at least one column.
    """
    axes = zip(size, logits.shape[1:], cells_per_pixel, strict=True)
    rows, columns = (interpolation_matrix(*axis, logits.device) for axis in axes)  # (height, h) and (width, w)
    above = logits > threshold
    spans = [span_of(above.any(dim=dim), axis) for dim, axis in ((2, rows), (1, columns))]
    step = max(1, max_pixels // size[0])
    found = RLEMasks([], size)
    for mask, *extents in zip(logits, *(span.tolist() for span in spans), strict=True):
        (top, bottom, y1, y2), (left, right, x1, x2) = extents
        # Columns come first, because COCO's encoding goes down each column.
        tall = (rows[y1:y2, top:bottom] @ mask[top:bottom, left:right]).T  # (right - left, y2 - y1)
        edges = [np.zeros(0, np.int64)]
        for x in range(x1, x2, step):
            strip = columns[x : min(x + step, x2), left:right] @ tall > threshold
            edges.append(edges_of(strip.cpu().numpy(), x, y1, size[0]))
        found.append(rle_of(np.concatenate(edges), size))
    return found


def span_of(above: Tensor, axis: Tensor) -> Tensor:
    """Return the range of cells and of pixels of each mask that must be interpolated along one axis.

    Args:
        above: cells above the threshold. (n, cells)
        axis: matrix of the interpolation. (pixels, cells)

    Returns:
        First and last + 1 of the cells, and first and last + 1 of the pixels; 0, 0, 0, 0 if there are none. (n, 4)
    """
    near = above.float() @ axis.T > 0  # (n, pixels): those that a cell above the threshold contributes to
    used = near.float() @ axis > 0  # (n, cells): all that contribute to these pixels
    ends = []
    for flags in (used, near):
        first = flags.byte().argmax(dim=1)
        last = flags.size(1) - flags.flip(1).byte().argmax(dim=1)
        ends += [first, last.where(flags.any(dim=1), 0)]
    return torch.stack(ends, dim=1)


def rle_of(edges: np.ndarray, size: tuple[int, int]) -> RLE:
    """Encode a mask from the beginnings and ends of its runs, see `edges_of`."""
    return RLE(coco_mask.frPyObjects({'counts': runs_of(edges, size).tolist(), 'size': list(size)}, *size))
