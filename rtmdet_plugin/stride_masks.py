"""Masks of an image's objects as the mask loss and the assigner need them: pixels at stride 4, and centroids.

A mask of the full resolution takes 16 times the memory, and nothing in training reads its other pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

STRIDE = 4
"""Distance of the pixels that are kept, of which the first has the coordinates (2, 2)."""


class StrideMasks:
    """Masks of the objects of one image.

    mmengine's `InstanceData` can hold, index, concatenate and move it.

    Args:
        pixels: the masks' pixels `[2::4, 2::4]`, 0 or 1. uint8 (G, h, w)
        centers: centroid (x, y) of each mask of the full resolution, in pixels; (0, 0) if it is empty. float32 (G, 2)

    Raises:
        ValueError: if the shapes don't belong together.
    """

    def __init__(self, pixels: Tensor, centers: Tensor) -> None:
        if pixels.ndim != 3 or centers.shape != (len(pixels), 2):
            raise ValueError(
                f'pixels and centers must be (G, h, w) and (G, 2), got {tuple(pixels.shape)} and {tuple(centers.shape)}'
            )
        self.pixels = pixels
        self.centers = centers

    @classmethod
    def from_full(cls, masks: np.ndarray) -> StrideMasks:
        """Make them from masks of the full resolution, (G, H, W)."""
        masks = np.asarray(masks, dtype=bool)
        _, height, width = masks.shape
        columns, rows = masks.sum(axis=1), masks.sum(axis=2)  # number of pixels: (G, W), (G, H)
        moments = np.stack([columns @ np.arange(width), rows @ np.arange(height)], axis=1)
        centers = moments / columns.sum(axis=1, keepdims=True).clip(min=1)
        pixels = np.ascontiguousarray(masks[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE], dtype=np.uint8)
        return cls(torch.from_numpy(pixels), torch.from_numpy(centers.astype(np.float32)))

    @staticmethod
    def cat(parts: Sequence[StrideMasks]) -> StrideMasks:
        """Concatenate the objects of several, which must have one size."""
        return StrideMasks(torch.cat([part.pixels for part in parts]), torch.cat([part.centers for part in parts]))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: slice | Tensor | np.ndarray | Sequence[int]) -> StrideMasks:
        """Select objects."""
        return StrideMasks(self.pixels[index], self.centers[index])

    def to(self, *args: Any, **kwargs: Any) -> StrideMasks:
        """Return the masks on another device; arguments as in `torch.Tensor.to`, but without a dtype."""
        return StrideMasks(self.pixels.to(*args, **kwargs), self.centers.to(*args, **kwargs))

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> StrideMasks:
        """Return the masks themselves; `DetDataPreprocessor(pad_mask=True)` calls this, and the mask loss pads."""
        return self

    def __repr__(self) -> str:
        return f'StrideMasks({len(self)} objects, {tuple(self.pixels.shape[1:])} pixels at stride {STRIDE})'
