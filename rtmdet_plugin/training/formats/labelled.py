"""A dataset as it was read: COCO's lists for each split, and what was skipped."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...datasets.coco_file import category_ids, format_doubt, unusable_boxes
from ...datasets.ground_truth import ground_truth
from ...errors import RefusedError

STRAY = 'belong to images that are not in the file'
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
    polygon: Sequence[float] = ()
    """Its mask, x, y, x, y, ...; empty without."""


class LabelledImage(NamedTuple):
    """An image with its objects; sizes, boxes and polygons are in pixels."""

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
    unusable: list[tuple[dict, dict]] = field(default_factory=list)
    """Image and annotation of each box that isn't learned, see `unusable_boxes`; only COCO files keep them."""
    stray_annotations: int = 0
    """Number of annotations that were dropped because their image isn't in the file."""


class UnusedFiles(NamedTuple):
    """Files that aren't used because they lack their counterpart."""

    where: str
    """Split or folder."""
    what: str
    """What they are and lack, such as 'label files have no image'."""
    files: list[Path]

    def __str__(self) -> str:
        return f'{self.where}: {len(self.files)} {self.what} and are not used, such as {self.files[0]}'


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
    skipped_by_split: dict[str, dict[str, str]] = field(default_factory=dict)
    """Reason by file, for each image of a split that is skipped."""
    notes: list[str] = field(default_factory=list)
    """Sentences about the data for the user."""
    unused_files: list[UnusedFiles] = field(default_factory=list)

    @property
    def skipped(self) -> dict[str, str]:
        """Return the reason by file, for each image that is skipped."""
        return {file: reason for reasons in self.skipped_by_split.values() for file, reason in reasons.items()}


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
    skipped_by_split: Mapping[str, dict[str, str]] | None = None,
    notes: Iterable[str] = (),
    unused_files: Iterable[UnusedFiles] = (),
) -> Labelled:
    """Return images with boxes as COCO's lists.

    Args:
        kind: name of the format.
        source: file or folder that the images were read from.
        images: images by split.
        folder: folder that file names will be relative to.
        classes: class names in the order of the labels; None for the names of the objects in alphabetical order.
        skipped_by_split: reason by file, for each image of a split that is skipped.
        notes: sentences about the data for the user.
        unused_files: files without their counterpart.

    Raises:
        RefusedError: if the boxes seem to have another format than pixels.
    """
    if classes is None:
        classes = sorted({box.name for split in images.values() for image in split for box in image.boxes})
    ids = {name: i for i, name in enumerate(classes, 1)}
    categories = [dict(id=i, name=name) for name, i in ids.items()]
    splits = {}
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
                    **(dict(segmentation=[[round(value, 2) for value in box.polygon]]) if box.polygon else {}),
                )
                for box in image.boxes
            ]
        if doubt := format_doubt(content['images'], content['annotations']):
            raise RefusedError(f'{source}: {doubt}')
        for number, annotation in enumerate(content['annotations'], 1):
            annotation['id'] = number
        unusable = drop_unusable(content)
        splits[split] = Split(content, folder, unusable=unusable)
    return Labelled(kind, tuple(ids), source, splits, dict(skipped_by_split or {}), list(notes), list(unused_files))


def drop_unusable(content: dict[str, list[dict]], keep_boxes: bool = False) -> list[tuple[dict, dict]]:
    """Drop, in place, the boxes that can't be learned: evaluation would count them as missed.

    Images that have only such boxes are dropped as well: they would teach that the objects are background.

    Args:
        content: COCO's lists.
        keep_boxes: whether to drop only these images.

    Returns:
        Image and annotation of each of these boxes.
    """
    unusable = set(unusable_boxes(content['images'], content['annotations']))
    if not unusable:
        return []
    images = {image['id']: image for image in content['images']}
    found = [(images[item['image_id']], item) for item in content['annotations'] if item['id'] in unusable]
    lost = {item['image_id'] for _, item in found}
    lost -= {item['image_id'] for item in content['annotations'] if item['id'] not in unusable}
    content['images'] = [image for image in content['images'] if image['id'] not in lost]
    content['annotations'] = [
        item
        for item in content['annotations']
        if item['image_id'] not in lost and (keep_boxes or item['id'] not in unusable)
    ]
    return found


def notes_on(split: str, part: Split) -> list[str]:
    """Return sentences about the boxes and images of a split that aren't used."""
    notes = []
    if part.stray_annotations:
        notes.append(f'{split}: {part.stray_annotations} annotations {STRAY}; they are not used')
    if part.unusable:
        boxes = {item['id'] for _, item in part.unusable}
        total = len(boxes | {item['id'] for item in part.content['annotations']})
        notes.append(f'{split}: {len(boxes)} of {total} boxes {UNUSABLE}; they are not used')
    if dropped := {image['id'] for image, _ in part.unusable} - {image['id'] for image in part.content['images']}:
        notes.append(f'{split}: {len(dropped)} images have no box but such that {UNUSABLE}; they are not used')
    return notes
