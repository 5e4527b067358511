"""Sizes, places and classes of a dataset's objects, from COCO's lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SplitData:
    """Images and objects of one split, without crowds."""

    classes: tuple[str, ...]
    sizes: np.ndarray
    """Width and height of each image in pixels. (N, 2)"""
    boxes: np.ndarray
    """Left, top, width and height in pixels. (M, 4)"""
    labels: np.ndarray
    """Index of the class of each box. (M,)"""
    images: np.ndarray
    """Index of the image of each box. (M,)"""

    @property
    def background(self) -> int:
        """Number of images without objects."""
        return len(self.sizes) - len(np.unique(self.images))

    @property
    def counts(self) -> dict[str, int]:
        """Number of objects of each class."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist(), strict=True))

    def sides(self, input_size: tuple[int, int]) -> np.ndarray:
        """Return the square root of each object's area in pixels, after the image is resized to fit the input.

        Args:
            input_size: (height, width) of the network's input in pixels.
        """
        scale = np.minimum(input_size[1] / self.sizes[:, 0], input_size[0] / self.sizes[:, 1])
        return np.sqrt(self.boxes[:, 2:].prod(1)) * scale[self.images]

    def places(self, cells: int) -> np.ndarray:
        """Count the centres of the objects in a grid over the images, of any size. (cells, cells), top row first."""
        centres = (self.boxes[:, :2] + self.boxes[:, 2:] / 2) / self.sizes[self.images]
        column, row = np.clip((centres * cells).astype(int), 0, cells - 1).T
        grid = np.zeros((cells, cells), int)
        np.add.at(grid, (row, column), 1)
        return grid


def split_data(truth: Mapping[str, Sequence[Mapping]]) -> SplitData:
    """Return the images and objects of COCO's lists as arrays; the categories are in the order of the labels."""
    images = {image['id']: place for place, image in enumerate(truth['images'])}
    labels = {category['id']: label for label, category in enumerate(truth['categories'])}
    objects = [item for item in truth['annotations'] if not item.get('iscrowd')]
    return SplitData(
        classes=tuple(category['name'] for category in truth['categories']),
        sizes=np.array([(image['width'], image['height']) for image in truth['images']], float).reshape(-1, 2),
        boxes=np.array([item['bbox'] for item in objects], float).reshape(-1, 4),
        labels=np.array([labels[item['category_id']] for item in objects], int),
        images=np.array([images[item['image_id']] for item in objects], int),
    )
