"""Read a COCO annotation file, and refuse what can't be trained or evaluated on with a clear error.

A fault of the file itself (no JSON, no list of images, repeated categories) is always an error. A fault of one entry
makes its image unusable: `read_coco_file` refuses the file, `read_usable_images` skips the image. The complete image is
skipped, because without one of its boxes it would teach that the object is background.

Files made by hand or by small tools often lack fields that only COCO's evaluation needs; these are filled in.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np
from mmengine.fileio import get_local_path
from mmengine.logging import print_log

from ..errors import RefusedError
from .box_format import box_format

REQUIRED_KEYS = {
    'categories': ('id', 'name'),
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('image_id', 'category_id', 'bbox'),
}


def read_coco_file(ann_file: str, backend_args: dict | None = None, annotated: bool = True) -> dict[str, list[dict]]:
    """Read a COCO annotation file; raise an error if any entry is faulty.

    Args:
        ann_file: path or URL, for mmengine's file backends.
        backend_args: arguments of the backend.
        annotated: whether the file must have `annotations`; a test set may have none.

    Returns:
        The lists `categories`, `images` and `annotations` as in the file, with missing (or null) fields of
        annotations filled in: `area` with the area of the box and `iscrowd` with 0. Annotations are renumbered
        1, 2, ... if one has no id or one that isn't an integer above 0, because pycocotools treats a match with
        object 0 as no match.

    Raises:
        RefusedError: if the file isn't COCO JSON, has no image or no category, an entry lacks a key, ids or
            names repeat, an object has a category that isn't listed, or a box or an area isn't made of
            finite numbers. The message names the file.
        FileNotFoundError: if there is no such file.
    """
    lists = _load(ann_file, backend_args, annotated)
    for fault in find_faults(lists):
        raise RefusedError(f'{ann_file}: {fault.message}')
    _warn_of_strays(ann_file, lists)
    _fill_annotations(lists['annotations'])
    return lists


def read_usable_images(ann_file: str, backend_args: dict | None = None) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Read a COCO annotation file without the images that have a fault.

    Args:
        ann_file: path or URL, for mmengine's file backends.
        backend_args: arguments of the backend.

    Returns:
        lists: the lists that `read_coco_file` returns, without faulty images and their annotations.
        bad: the first fault of each of these images, by its `file_name`, or by the position of the faulty entry if the
            name isn't known.

    Raises:
        RefusedError: if the fault isn't that of one entry but of the file itself.
        FileNotFoundError: if there is no such file.
    """
    lists = _load(ann_file, backend_args, annotated=True)
    faults = list(find_faults(lists))
    places = {(fault.list_name, fault.place) for fault in faults}
    image_ids = {fault.image_id for fault in faults}
    names = {
        image['id']: image['file_name']
        for image in lists['images']
        if isinstance(image, dict) and _is_id(image.get('id')) and _is_text(image.get('file_name'))
    }
    bad: dict[str, str] = {}
    for fault in faults:
        # Images that share an id have different names; use the faulty entry's own.
        own = lists['images'][fault.place] if fault.list_name == 'images' else None
        name = own.get('file_name') if isinstance(own, dict) else names.get(fault.image_id)
        bad.setdefault(name if _is_text(name) else f'{fault.list_name}[{fault.place}]', fault.message)
    for list_name, key in (('images', 'id'), ('annotations', 'image_id')):
        lists[list_name] = [
            entry
            for place, entry in enumerate(lists[list_name])
            if (list_name, place) not in places and entry[key] not in image_ids
        ]
    _warn_of_strays(ann_file, lists)
    _fill_annotations(lists['annotations'])
    return lists, bad


class Fault(NamedTuple):
    """A faulty entry."""

    list_name: str
    """`images` or `annotations`."""
    place: int
    """Index in that list."""
    image_id: int | str | None
    """Id of the image that the entry belongs to; None if it has no valid one."""
    message: str
    """What is wrong with the entry, and what is required."""


def find_faults(lists: dict[str, list]) -> Iterator[Fault]:
    """Yield the faulty entries of `images` and `annotations`, in order."""
    known = {category['id'] for category in lists['categories']}
    for list_name, id_key in (('images', 'id'), ('annotations', 'image_id')):
        entries = lists[list_name]
        ids = Counter(entry['id'] for entry in entries if isinstance(entry, dict) and _is_id(entry.get('id')))
        repeated = {value for value, count in ids.items() if count > 1}
        for place, entry in enumerate(entries):
            message = _missing(list_name, place, entry)
            if not message and _is_id(entry.get('id')) and entry['id'] in repeated:
                message = f'{list_name}[{place}]: id must be unique in {list_name}, got {entry["id"]!r} more than once.'
            if not message and list_name == 'images':
                message = _image_fault(place, entry)
            elif not message:
                message = _annotation_fault(place, entry, known)
            if message:
                owner = entry.get(id_key) if isinstance(entry, dict) else None
                yield Fault(list_name, place, owner if _is_id(owner) else None, message)


def _load(ann_file: str, backend_args: dict | None, annotated: bool) -> dict[str, list]:
    """Load the three lists; check the categories, but neither images nor annotations."""
    if not ann_file:
        raise RefusedError(f'ann_file must be the path of a COCO annotation file, got {ann_file!r}.')
    with get_local_path(ann_file, backend_args=backend_args) as local_path, open(local_path, 'rb') as file:
        try:
            content = json.load(file)
        except ValueError as error:  # broken JSON, or bytes that aren't text
            raise RefusedError(f'{ann_file} must be a COCO annotation file in JSON, got an error: {error}.') from error
    if not isinstance(content, dict):
        raise RefusedError(
            f'{ann_file} must hold an object with the lists {list(REQUIRED_KEYS)}, got {type(content).__name__}.'
        )

    lists = {}
    for name in REQUIRED_KEYS:
        optional = name == 'annotations' and not annotated
        entries = content.get(name, [] if optional else None)
        if not isinstance(entries, list):
            raise RefusedError(
                f'{ann_file} must hold an object with the lists {list(REQUIRED_KEYS)}, got no list {name!r} among its '
                f'keys {sorted(content)}.'
            )
        if not entries and name != 'annotations':
            raise RefusedError(f'{ann_file}: the list {name!r} must have at least one entry, got none.')
        lists[name] = entries
    _check_categories(ann_file, lists['categories'])
    return lists


def category_ids(categories: Iterable[dict], classes: Sequence[str] | None, source: str) -> dict[str, int]:
    """Return the category id of each class, in the order of the labels.

    Args:
        categories: entries with `id` and `name`, in any order.
        classes: names in label order; None for all categories in the order of their ids.
        source: file that the categories were read from, for error messages.

    Returns:
        Category ids by class name.

    Raises:
        RefusedError: if `classes` isn't a list of different names, or one of them isn't among the
            categories.
    """
    found = {category['name']: category['id'] for category in sorted(categories, key=lambda c: c['id'])}
    if classes is None:
        return found
    named = isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(c, str) for c in classes)
    if not named or not classes or len(set(classes)) < len(classes):
        raise RefusedError(
            f"metainfo['classes'] must be a list of different names out of the classes of {source}, {list(found)}, "
            f"got {classes!r}; write one class as ('person',) with a comma, or omit the entry to use all classes."
        )
    if unknown := [name for name in classes if name not in found]:
        raise RefusedError(
            f"metainfo['classes'] must be out of the classes of {source}, {list(found)}, got the unknown {unknown}."
        )
    return {name: found[name] for name in classes}


def unusable_boxes(images: Iterable[dict], annotations: Iterable[dict]) -> list[int]:
    """Return the ids of the annotations that mmdet's `CocoDataset` skips because of their boxes.

    These are boxes that lie outside their image, are less than a pixel wide or high, or have area 0.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    lost = []
    for annotation in annotations:
        if annotation['image_id'] not in sizes:
            continue
        x, y, width, height = annotation['bbox']
        image_width, image_height = sizes[annotation['image_id']]
        shown = min(x + width, image_width) > max(x, 0) and min(y + height, image_height) > max(y, 0)
        if not shown or width < 1 or height < 1 or annotation['area'] <= 0:
            lost.append(annotation['id'])
    return lost


def format_doubt(images: Iterable[dict], annotations: Iterable[dict]) -> str:
    """Return a sentence that names the box format that the annotations seem to have; empty if it is COCO's."""
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    rows = [(*box['bbox'], *sizes[box['image_id']]) for box in annotations if box['image_id'] in sizes]
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return box_format(table[:, :4], table[:, 4:]).doubt


def _check_categories(ann_file: str, categories: list) -> None:
    for place, category in enumerate(categories):
        if message := _missing('categories', place, category):
            raise RefusedError(f'{ann_file}: {message}')
        if not isinstance(category['name'], str) or type(category['id']) is not int:
            raise RefusedError(
                f'{ann_file}: a category must have an integer id and text as its name, got {category!r}.'
            )
    _refuse_repeats(ann_file, 'category ids', [category['id'] for category in categories])
    _refuse_repeats(ann_file, 'category names', [category['name'] for category in categories])


def _missing(list_name: str, place: int, entry: object) -> str | None:
    keys = REQUIRED_KEYS[list_name]
    if isinstance(entry, dict) and all(key in entry for key in keys):
        return None
    return f'{list_name}[{place}] must be an object with {list(keys)}, got {entry!r}.'


def _image_fault(place: int, image: dict) -> str | None:
    entry = f'images[{place}]'
    if not _is_id(image['id']):
        return f'{entry}: id must be an integer or text, got {image["id"]!r}.'
    if not _is_text(image['file_name']):
        return f'{entry}: file_name must be the name of a file, got {image["file_name"]!r}.'
    if not all(_is_finite(image[key]) and image[key] >= 1 and image[key] % 1 == 0 for key in ('width', 'height')):
        return (
            f'{entry}: width and height must be integer numbers of pixels, at least 1, got {image["width"]!r} and '
            f'{image["height"]!r}.'
        )
    return None


def _annotation_fault(place: int, annotation: dict, known: set[int]) -> str | None:
    entry = f'annotations[{place}] with id {annotation.get("id")!r}'
    image_id, category_id = annotation['image_id'], annotation['category_id']
    if not _is_id(image_id):
        return f"{entry}: image_id must be the id of one of the file's images, got {image_id!r}."
    if not _is_id(category_id) or category_id not in known:
        return f"{entry}: category_id must be one of the file's category ids, {sorted(known)}, got {category_id!r}."
    bbox, area = annotation['bbox'], annotation.get('area')
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_finite, bbox)):
        return f'{entry}: bbox must be four finite numbers [x, y, width, height], got {bbox!r}.'
    if area is not None and not _is_finite(area):
        return f"{entry}: area must be a finite number, or absent to use the box's area, got {area!r}."
    return None


def _warn_of_strays(ann_file: str, lists: dict[str, list[dict]]) -> None:
    image_ids = {image['id'] for image in lists['images']}
    strays = sum(annotation['image_id'] not in image_ids for annotation in lists['annotations'])
    if strays:
        print_log(
            f'{ann_file}: {strays} of {len(lists["annotations"])} annotations belong to images that are not '
            'in the file; they are skipped.',
            logger='current',
            level=logging.WARNING,
        )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value) and '\0' not in value


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fill_annotations(annotations: list[dict]) -> None:
    """Fill in missing fields in place, as `read_coco_file` documents."""
    renumber = any(type(annotation.get('id')) is not int or annotation['id'] < 1 for annotation in annotations)
    for number, annotation in enumerate(annotations, 1):
        if renumber:
            annotation['id'] = number
        if annotation.get('area') is None:
            _, _, width, height = annotation['bbox']
            annotation['area'] = max(width, 0) * max(height, 0)
        if annotation.get('iscrowd') is None:
            annotation['iscrowd'] = 0


def _refuse_repeats(ann_file: str, what: str, values: list) -> None:
    if len(set(values)) < len(values):
        repeated = [value for value, count in Counter(values).items() if count > 1]
        raise RefusedError(f'{ann_file}: {what} must be unique, got {repeated[:5]} more than once.')
