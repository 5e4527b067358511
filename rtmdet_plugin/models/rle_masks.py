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

from rtmdet_runtime import mask_decoding


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
    max_pixels: int = mask_decoding.MAX_PIXELS,
) -> RLEMasks:
    """Enlarge mask logits to the size of an image, and encode the pixels above a threshold.

    The runtime does it, on the CPU, so that exported models have the same masks. Its NumPy takes two thirds of the time
    of the same operations in PyTorch.

    Args:
        logits: mask logits of each instance, float32. (n, h, w)
        size: see `rtmdet_runtime.mask_decoding.encode_masks`, as for the others.
        cells_per_pixel: height and width of a pixel of the image in cells of the logits.
        threshold: logit above which a pixel belongs to the mask.
        max_pixels: pixels in memory at a time.
    """
    runs = mask_decoding.encode_masks(logits.cpu().numpy(), size, cells_per_pixel, threshold, max_pixels)
    encoded = [coco_mask.frPyObjects({'counts': counts.tolist(), 'size': list(size)}, *size) for counts in runs]
    return RLEMasks(map(RLE, encoded), size)
