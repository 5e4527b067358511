"""A dataset as it was read: COCO's lists for each split, and what was skipped."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...datasets.coco_file import category_ids, format_doubt, unusable_boxes
from ...datasets.ground_truth import ground_truth
from ...errors import RefusedError

UNUSABLE = 'are less than a pixel wide or high or lie outside their image'


class Box(NamedTuple):
    """An object."""

    name: str
    """Name of its class."""
    left: float
    top: float
    width: float
    height: float
    ignored: bool = False
    """Whether it is neither learned nor counted as missed, such as VOC's difficult objects."""


class LabelledImage(NamedTuple):
    """An image with its objects; sizes and boxes are in pixels."""

    path: Path
    width: int
    height: int
    boxes: list[Box]


@dataclass(frozen=True)
class Split:
    """Images and objects of one split."""

    content: dict[str, list[dict]]
    """COCO's lists `images`, `annotations` and `categories`."""
    folder: Path
    """Folder that `file_name` of the images is relative to."""
    file: Path | None = None
    """COCO file with exactly this content; None if it must be written."""


@dataclass(frozen=True)
class Labelled:
    """A dataset as it was read."""

    kind: str
    """Name of the format."""
    classes: tuple[str, ...]
    """Class names in the order of the labels."""
    source: Path
    """File or folder that it was read from."""
    splits: dict[str, Split]
    """Contents of 'train', 'val' and 'test', as far as they exist."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Reason by file, for each image that is skipped."""
    notes: list[str] = field(default_factory=list)
    """Sentences about the data for the user."""


def truth_of_split(dataset: Labelled, split: str) -> dict[str, list[dict]]:
    """Return a split to evaluate on, as COCO's lists; see `ground_truth`."""
    part = dataset.splits[split]
    ids = category_ids(part.content['categories'], dataset.classes, str(dataset.source))
    paths = {image['id']: str(part.folder / image['file_name']) for image in part.content['images']}
    return ground_truth(part.content, paths, ids)


def labelled(
    kind: str,
    source: Path,
    images: Mapping[str, list[LabelledImage]],
    folder: Path,
    classes: Iterable[str] | None = None,
    skipped: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> Labelled:
    """Return images with boxes as COCO's lists.

    Args:
        kind: name of the format.
        source: file or folder that the images were read from.
        images: images by split.
        folder: folder that file names will be relative to.
        classes: class names in the order of the labels; None for the names of the objects in alphabetical order.
        skipped: reason by file, for each image that is skipped.
        notes: sentences about the data for the user.

    Raises:
        RefusedError: if the boxes seem to have another format than pixels.
    """
    if classes is None:
        classes = sorted({box.name for split in images.values() for image in split for box in image.boxes})
    ids = {name: i for i, name in enumerate(classes, 1)}
    categories = [dict(id=i, name=name) for name, i in ids.items()]
    splits, notes = {}, list(notes)
    for split, members in images.items():
        content = dict(images=[], annotations=[], categories=categories)
        for image_id, image in enumerate(members, 1):
            name = Path(os.path.relpath(image.path, folder)).as_posix()
            content['images'].append(dict(id=image_id, file_name=name, width=image.width, height=image.height))
            content['annotations'] += [
                dict(
                    image_id=image_id,
                    category_id=ids[box.name],
                    bbox=[round(value, 2) for value in box[1:5]],
                    area=round(box.width * box.height, 2),
                    iscrowd=int(box.ignored),
                )
                for box in image.boxes
            ]
        if doubt := format_doubt(content['images'], content['annotations']):
            raise RefusedError(f'{source}: {doubt}')
        notes += _drop_unusable(content, split)
        splits[split] = Split(content, folder)
    return Labelled(kind, tuple(ids), source, splits, dict(skipped or {}), notes)


def _drop_unusable(content: dict[str, list[dict]], split: str) -> list[str]:
    """Number the boxes, and drop those that can't be learned: evaluation would count them as missed."""
    annotations = content['annotations']
    for number, annotation in enumerate(annotations, 1):
        annotation['id'] = number
    unusable = set(unusable_boxes(content['images'], annotations))
    if not unusable:
        return []
    notes = drop_images_without_usable_box(content, split, unusable)
    content['annotations'] = [item for item in content['annotations'] if item['id'] not in unusable]
    return [
        f'{split}: {len(unusable)} of {len(annotations)} boxes {UNUSABLE}; they are not used',
        *notes,
    ]


def drop_images_without_usable_box(content: dict[str, list[dict]], split: str, unusable: Collection[int]) -> list[str]:
    """Drop images, in place, if all of their boxes can't be learned: they would teach that the objects are background.

    Args:
        content: COCO's lists.
        split: name of the split, for the note.
        unusable: ids of the boxes that can't be learned, see `unusable_boxes`.

    Returns:
        A sentence with the number of these images; nothing if there are none.
    """
    labelled_images = {item['image_id'] for item in content['annotations']}
    lost = labelled_images - {item['image_id'] for item in content['annotations'] if item['id'] not in unusable}
    if not lost:
        return []
    content['images'] = [image for image in content['images'] if image['id'] not in lost]
    content['annotations'] = [item for item in content['annotations'] if item['image_id'] not in lost]
    return [f'{split}: {len(lost)} images have no box but such that {UNUSABLE}; they are not used']
