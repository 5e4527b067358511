"""The images and objects of a split as arrays, for checks that are fast with a million boxes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from ..training.formats import coco_json
from ..training.formats.labelled import Labelled
from .finding import Item


@dataclass(frozen=True)
class Objects:
    """Images and boxes of one split."""

    split: str
    classes: Sequence[str]
    files: list[str]
    """Image files. (M,)"""
    sizes: ndarray
    """Width and height of each image in pixels. (M, 2)"""
    annotated: ndarray
    """Whether each image has an annotation, ignored ones included. (M,)"""
    boxes: ndarray
    """Boxes that are learned, xyxy in pixels. (N, 4)"""
    images: ndarray
    """Place of each box's image. (N,)"""
    labels: ndarray
    """Class of each box. (N,)"""
    ids: ndarray
    """Id of each box. (N,)"""
    masks: list[Any]
    """`segmentation` of each box, as COCO has it; None without. (N,)"""
    named: bool
    """Whether the ids are those of a COCO file."""
    unusable: list[Item]
    """Boxes that can't be learned."""

    @property
    def sides(self) -> ndarray:
        """Width and height of each box in pixels, (N, 2)."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    def items(self, chosen: ndarray) -> list[Item]:
        """Return boxes as items of a finding, in the order of their images.

        Args:
            chosen: places of the boxes, or a mask. (K,) or (N,)
        """
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return [
            box_item(
                self.files[self.images[place]],
                self.classes[int(self.labels[place])],
                self.boxes[place].tolist(),
                int(self.ids[place]) if self.named else None,
            )
            for place in places.tolist()
        ]


def box_item(file: str, name: str, xyxy: Sequence[float], annotation: int | None) -> Item:
    """Return a box as an item of a finding."""
    x1, y1, x2, y2 = xyxy
    number = '' if annotation is None else f'annotation {annotation}, '
    text = f'{number}{name}, {x2 - x1:.4g} x {y2 - y1:.4g} px at ({x1:.4g}, {y1:.4g})'
    return Item(file, text, (x1, y1, x2, y2), annotation)


def objects_by_split(dataset: Labelled, ignored: bool = False) -> list[Objects]:
    """Return the images and boxes of each split, without the boxes that can't be learned.

    Args:
        dataset: the dataset; splits such as `train` and `train 2` are joined.
        ignored: whether to return the boxes that are ignored (crowds) instead of the others.
    """
    parts: dict[str, list[Objects]] = {}
    for split in dataset.splits:
        parts.setdefault(split.partition(' ')[0], []).append(_objects_of(dataset, split, ignored))
    return [_joined(split, members) for split, members in parts.items()]


def _objects_of(dataset: Labelled, split: str, ignored: bool) -> Objects:
    part = dataset.splits[split]
    images = part.content['images']
    files = [os.path.join(part.folder, image['file_name']) for image in images]
    places = {image['id']: place for place, image in enumerate(images)}
    known = {name: label for label, name in enumerate(dataset.classes)}
    labels = {entry['id']: known[entry['name']] for entry in part.content['categories'] if entry['name'] in known}
    named = dataset.kind == coco_json.KIND
    unusable = {item['id'] for _, item in part.unusable}
    annotated = {item['image_id'] for item in part.content['annotations']}
    boxes = [
        item for item in part.content['annotations'] if bool(item['iscrowd']) == ignored and item['id'] not in unusable
    ]
    return Objects(
        split=split,
        classes=dataset.classes,
        files=files,
        sizes=np.array([(image['width'], image['height']) for image in images], dtype=float).reshape(-1, 2),
        annotated=np.array([image['id'] in annotated for image in images], dtype=bool),
        boxes=_xyxy(boxes),
        images=np.array([places[item['image_id']] for item in boxes], dtype=int),
        labels=np.array([labels[item['category_id']] for item in boxes], dtype=int),
        ids=np.array([item['id'] for item in boxes], dtype=int),
        masks=[item.get('segmentation') for item in boxes],
        named=named,
        unusable=[
            box_item(
                os.path.join(part.folder, image['file_name']),
                dataset.classes[labels[item['category_id']]],
                _xyxy([item])[0].tolist(),
                item['id'] if named else None,
            )
            for image, item in part.unusable
        ],
    )


def _xyxy(annotations: list[dict]) -> ndarray:
    xywh = np.array([item['bbox'] for item in annotations], dtype=float).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def _joined(split: str, parts: list[Objects]) -> Objects:
    """Return the images and boxes of several datasets as one split."""
    starts = np.cumsum([0, *(len(part.files) for part in parts)])[: len(parts)]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ('sizes', 'annotated', 'boxes', 'labels', 'ids')
    }
    return dataclasses.replace(
        parts[0],
        split=split,
        files=[file for part in parts for file in part.files],
        images=np.concatenate([part.images + start for part, start in zip(parts, starts, strict=True)]),
        masks=[mask for part in parts for mask in part.masks],
        unusable=[item for part in parts for item in part.unusable],
        **arrays,
    )
