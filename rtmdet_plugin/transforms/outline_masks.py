"""Masks of an image's objects that are drawn only once, when the sample is packed.

A transform changes only eight numbers per object: its map and its window. The outlines themselves stay those of the
file, and are shared by all samples that show the object. mmdet's `PolygonMasks` copies every point, and its
`BitmapMasks` every pixel, at each step.

It has those methods of mmdet's masks which `Resize`, `RandomCrop`, `RandomFlip`, `Pad`, `FilterAnnotations` and the
heads of mmdet's one-stage detectors call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes, get_box_type
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from .outlines import Outline, bitmap_outline, box_outline, polygon_edges
from .scanline import Edges, Runs, areas_of, extents, pixels_of, runs_of, visible_boxes

NOTHING = box_outline((0, 0, 0, 0))
"""Outline of an object without pixels."""


class OutlineMasks:
    """Masks of N objects. Instances don't change.

    Args:
        outlines: outline of each object, in the pixels of its source.
        shape: (height, width) of the image.
        maps: scale x, scale y, offset x and offset y that lead from a source to the image, float64. (N, 4)
        windows: part of the image on which each object may be drawn, xyxy in pixels, float64. (N, 4)
    """

    def __init__(
        self, outlines: Sequence[Outline], shape: tuple[int, int], maps: np.ndarray, windows: np.ndarray
    ) -> None:
        self.outlines = tuple(outlines)
        self.height, self.width = shape
        self.maps = maps
        self.windows = windows

    @classmethod
    def on_image(cls, outlines: Sequence[Outline], shape: tuple[int, int]) -> OutlineMasks:
        """Return masks whose outlines are in the pixels of an image of (height, width)."""
        maps, windows = (np.tile(row, (len(outlines), 1)) for row in ((1.0, 1.0, 0.0, 0.0), (0.0, 0.0, *shape[::-1])))
        return cls(outlines, shape, maps, windows)

    @classmethod
    def of(cls, masks: OutlineMasks | PolygonMasks | BitmapMasks) -> OutlineMasks:
        """Return mmdet's masks as outlines, and outlines themselves."""
        if isinstance(masks, OutlineMasks):
            return masks
        if isinstance(masks, PolygonMasks):
            outlines = [tuple(map(polygon_edges, polygons)) or NOTHING for polygons in masks.masks]
        else:
            outlines = [bitmap_outline(bitmap) or NOTHING for bitmap in masks.masks]
        return cls.on_image(outlines, (masks.height, masks.width))

    def place(self, scale: tuple[float, float], offset: tuple[float, float], shape: tuple[int, int]) -> OutlineMasks:
        """Scale by (x, y) factors, of which negative ones mirror, then move by (x, y) pixels onto another image.

        Args:
            scale: factors.
            offset: pixels of the new image.
            shape: (height, width) of the new image. What lies outside of it is cut off for good.
        """
        windows = self.windows * (scale * 2) + offset * 2
        left, right, top, bottom = *((2, 0) if scale[0] < 0 else (0, 2)), *((3, 1) if scale[1] < 0 else (1, 3))
        windows = windows[:, [left, top, right, bottom]]
        maps = self.maps * (scale * 2)
        maps[:, 2:] += offset
        return OutlineMasks(self.outlines, shape, maps, windows.clip(0, shape[::-1] * 2))

    @classmethod
    def cat(cls, masks: Sequence[OutlineMasks]) -> OutlineMasks:
        """Concatenate the objects of masks on one image."""
        return cls(
            [outline for part in masks for outline in part.outlines],
            (masks[0].height, masks[0].width),
            np.concatenate([part.maps for part in masks]),
            np.concatenate([part.windows for part in masks]),
        )

    def __getitem__(self, index: Any) -> OutlineMasks:
        """Select objects by anything that indexes an array of N."""
        chosen = np.arange(len(self))[index].reshape(-1)
        return OutlineMasks(
            [self.outlines[i] for i in chosen], (self.height, self.width), self.maps[chosen], self.windows[chosen]
        )

    def __len__(self) -> int:
        return len(self.outlines)

    @property
    def nbytes(self) -> int:
        """Memory of the outlines, in bytes."""
        return sum(part.nbytes for outline in self.outlines for part in outline)

    def runs(self) -> Runs:
        """Return the pixels of all objects."""
        return runs_of(self.edges(), (self.width, self.height))

    def boxes(self) -> np.ndarray:
        """Return the boxes around what is visible, xyxy float32 (N, 4); 0 for objects that aren't visible."""
        if not len(self):
            return np.zeros((0, 4), np.float32)
        boxes = extents(self.edges())
        cut = np.flatnonzero((boxes[:, :2] < self.windows[:, :2]).any(1) | (boxes[:, 2:] > self.windows[:, 2:]).any(1))
        if len(cut):
            boxes[cut] = visible_boxes(self[cut].edges())
        return boxes.astype(np.float32)

    def edges(self) -> Edges:
        """Return the edges in pixels of the image."""
        parts = [part for outline in self.outlines for part in outline]
        counts = [len(part) for part in parts]
        owners = np.repeat(np.arange(len(self)), [len(outline) for outline in self.outlines])
        numbers = np.repeat(np.arange(len(parts)), counts)
        maps = np.repeat(self.maps[owners], counts, axis=0)  # (E, 4)
        lines = np.concatenate(parts) if parts else np.zeros((0, 4))
        return Edges(lines * maps[:, [0, 1, 0, 1]] + maps[:, [2, 3, 2, 3]], numbers, owners, self.windows)

    # -- the interface of mmdet's masks -------------------------------------------------------------------------------

    def rescale(self, scale: float | tuple[int, int]) -> OutlineMasks:
        """Resize with the ratio kept; `scale` as in `mmcv.rescale_size`."""
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width))

    def resize(self, out_shape: tuple[int, int]) -> OutlineMasks:
        """Resize to (height, width)."""
        height, width = out_shape
        return self.place((width / self.width, height / self.height), (0, 0), (height, width))

    def flip(self, flip_direction: str = 'horizontal') -> OutlineMasks:
        """Mirror `'horizontal'`, `'vertical'` or `'diagonal'`, which is both."""
        x, y = flip_direction in ('horizontal', 'diagonal'), flip_direction in ('vertical', 'diagonal')
        offset = (self.width if x else 0, self.height if y else 0)
        return self.place((-1 if x else 1, -1 if y else 1), offset, (self.height, self.width))

    def crop(self, bbox: Sequence[float] | np.ndarray) -> OutlineMasks:
        """Crop to a box, xyxy in whole pixels."""
        x1, y1, x2, y2 = (int(side) for side in bbox)
        return self.place((1, 1), (-x1, -y1), (y2 - y1, x2 - x1))

    def pad(self, out_shape: tuple[int, int], pad_val: int = 0) -> OutlineMasks:
        """Extend the image to (height, width) at its right and bottom; `pad_val` has no effect."""
        return self.place((1, 1), (0, 0), (out_shape[0], out_shape[1]))

    def get_bboxes(self, dst_type: str | type[BaseBoxes] = 'hbox') -> BaseBoxes:
        """Return `boxes` as one of mmdet's types."""
        return get_box_type(dst_type)[1](self.boxes())

    @property
    def areas(self) -> np.ndarray:
        """Number of visible pixels of each object, (N,)."""
        return areas_of(self.runs(), len(self))

    def to_ndarray(self) -> np.ndarray:
        """Draw the masks at full resolution: uint8 (N, H, W)."""
        return pixels_of(self.runs(), len(self), (self.width, self.height))

    def to_tensor(self, dtype: torch.dtype, device: torch.device | str) -> torch.Tensor:
        """Draw the masks at full resolution, as a tensor (N, H, W)."""
        return torch.from_numpy(self.to_ndarray()).to(device, dtype)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({len(self)} objects, height={self.height}, width={self.width})'
