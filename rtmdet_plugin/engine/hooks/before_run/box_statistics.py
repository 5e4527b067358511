"""Compute sizes, aspect ratios and classes of a dataset's scaled objects from its annotations, without its images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_IMAGES = 20_000
"""Maximum number of entries that are read, evenly spaced. 20,000 of COCO's 118,000 estimate its shares well enough."""


@dataclass(frozen=True)
class BoxStatistics:
    """Statistics of the objects that were read, without ignored boxes and those of zero width or height."""

    short_sides: np.ndarray  # shorter side in pixels after scaling (N,)
    ratios: np.ndarray  # longer side over shorter side (N,)
    boxes: np.ndarray  # x, y, width, height in pixels of the original image (N, 4)
    sizes: np.ndarray  # width and height of each object's image (N, 2)
    counts: np.ndarray  # number of objects per label (C,); empty if not all images were read


def box_statistics(
    datasets: Sequence[Any], scale: tuple[int, int], num_classes: int, max_images: int = MAX_IMAGES
) -> BoxStatistics:
    """Compute statistics from the annotations of datasets.

    Args:
        datasets: datasets with `get_data_info(index)`, such as mmdet's without their wrappers.
        scale: (width, height) that an image is resized to fit into, with its aspect ratio kept.
        num_classes: number of labels.
        max_images: maximum number of entries that are read from all datasets together.
    """
    total = sum(len(dataset) for dataset in datasets)
    step = max(1, -(-total // max_images))
    rows = []
    for dataset in datasets:
        for index in range(0, len(dataset), step):
            entry = dataset.get_data_info(index)
            factor = min(scale[0] / entry['width'], scale[1] / entry['height'])
            rows += [
                (*instance['bbox'], factor, instance['bbox_label'], entry['width'], entry['height'])
                for instance in entry['instances']
                if not instance.get('ignore_flag')
            ]
    table = np.array(rows, dtype=float).reshape(-1, 8)
    sides = table[:, 2:4] - table[:, 0:2]
    table, sides = table[(sides > 0).all(1)], sides[(sides > 0).all(1)]
    short, long = sides.min(1), sides.max(1)
    counts = np.bincount(table[:, 5].astype(int), minlength=num_classes)
    boxes = np.concatenate([table[:, :2], sides], axis=1)
    return BoxStatistics(
        short * table[:, 4], long / short, boxes, table[:, 6:], counts=counts if step == 1 else counts[:0]
    )
