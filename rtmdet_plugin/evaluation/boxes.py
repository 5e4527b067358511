"""Objects and detections of COCO's lists as arrays, with their masks, and the overlap of their boxes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class Boxes:
    """Boxes of all images, in the order of the list that they come from.

    Attributes:
        image: position of the image's id among the sorted ids. (N,)
        label: position of the category in its list. (N,)
        xywh: left, top, width and height in pixels, float64. (N, 4)
        score: score of a detection; 1 for an object. (N,)
        area: area in square pixels, which decides whether a box counts as small, medium or large. (N,)
        crowd: whether it is neither to be found nor wrong to be found. (N,)
        mask: dicts `size` and `counts` of compressed run-length codes, as pycocotools reads them; None if masks aren't
            evaluated. (N,)
    """

    image: np.ndarray
    label: np.ndarray
    xywh: np.ndarray
    score: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    mask: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, chosen: np.ndarray) -> Boxes:
        """Return the chosen boxes; `chosen` is a mask or indices."""
        return replace(self, **{name: array[chosen] for name, array in vars(self).items() if array is not None})


def boxes_of(entries: Sequence[Mapping], truth: Mapping[str, Sequence[Mapping]], masks: bool = False) -> Boxes:
    """Return annotations or detections as arrays.

    Args:
        entries: dicts with `image_id`, `category_id` and `bbox` (xywh in pixels); for detections with `score`; for
            annotations with `area` and `iscrowd`, which default to the area of the box and 0; for masks with
            `segmentation`: polygons or a run-length code, compressed or not.
        truth: COCO's lists, of which `images` and `categories` are used.
        masks: read the masks too.

    Raises:
        ValueError: if an image or a category isn't in `truth`.
    """
    # pycocotools sorts the images by their id, and boxes with the same score by their image.
    ids = sorted((image['id'] for image in truth['images']), key=lambda value: (isinstance(value, str), value))
    xywh = np.array([entry['bbox'] for entry in entries], np.float64).reshape(-1, 4)
    areas = [entry.get('area') for entry in entries]
    return Boxes(
        image=_places('image_id', entries, ids),
        label=_places('category_id', entries, [category['id'] for category in truth['categories']]),
        xywh=xywh,
        score=np.array([entry.get('score', 1) for entry in entries], np.float64),
        area=np.where([area is None for area in areas], xywh[:, 2] * xywh[:, 3], np.array(areas, np.float64)),
        crowd=np.array([bool(entry.get('iscrowd')) for entry in entries], bool),
        mask=_masks_of(entries, truth['images']) if masks else None,
    )


def _masks_of(entries: Sequence[Mapping], images: Sequence[Mapping]) -> np.ndarray:
    sizes = {image['id']: (image['height'], image['width']) for image in images}
    codes = [_encoded(entry['segmentation'], *sizes[entry['image_id']]) for entry in entries]
    return np.array(codes, object)


def _encoded(mask: Any, height: int, width: int) -> Any:
    if isinstance(mask, list):
        return coco_mask.merge(coco_mask.frPyObjects(mask, height, width))
    return coco_mask.frPyObjects(mask, height, width) if isinstance(mask['counts'], list) else mask


def _places(key: str, entries: Sequence[Mapping], ids: Iterable) -> np.ndarray:
    place = {value: i for i, value in enumerate(ids)}
    try:
        return np.array([place[entry[key]] for entry in entries], np.int64)
    except KeyError as error:
        raise ValueError(f'{key} must be an id of the ground truth, got {error}') from None


def pairwise_iou(boxes: np.ndarray, objects: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs of boxes; with a crowd, the share of the box that is in it.

    Args:
        boxes: detections, xywh. (N, 4)
        objects: objects, xywh. (M, 4)
        crowd: whether an object is a crowd. (M,)

    Returns:
        0 for boxes that don't overlap. (N, M)
    """
    boxes, objects = boxes[:, None], objects[None]
    start = np.maximum(boxes[..., :2], objects[..., :2])
    end = np.minimum(boxes[..., :2] + boxes[..., 2:], objects[..., :2] + objects[..., 2:])
    shared = np.maximum(end - start, 0).prod(-1)
    area = boxes[..., 2:].prod(-1)
    union = np.where(crowd, area, area + objects[..., 2:].prod(-1) - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def pairs_of_groups(group: np.ndarray, other_group: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield for each group that occurs in both arrays its positions in each of them, in ascending order."""
    order, other_order = (np.argsort(array, kind='stable') for array in (group, other_group))
    group, other_group = group[order], other_group[other_order]
    common = np.intersect1d(group, other_group)
    bounds = (np.searchsorted(group, common, side) for side in ('left', 'right'))
    other_bounds = (np.searchsorted(other_group, common, side) for side in ('left', 'right'))
    for start, end, other_start, other_end in zip(*bounds, *other_bounds, strict=True):
        yield order[start:end], other_order[other_start:other_end]
