"""Reading a COCO annotation file, with a clear refusal of what can't be trained or evaluated on.

A fault of the file as a whole (no JSON, no list of images, categories that repeat) is always an error. A fault of one
entry makes one picture unusable; `read_coco_file` refuses the file for it, `read_sound_pictures` goes on without the
picture. It is the whole picture that goes: without one of its boxes, it would teach that the object is background.

Files made by hand or by small tools often lack what only COCO's own evaluation asks for; that is filled in.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

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
    """Read a COCO annotation file in which every entry must be sound.

    Args:
        ann_file: path or URL, for mmengine's file backends.
        backend_args: arguments of the backend.
        annotated: whether the file must have `annotations`; those of a test set may have none.

    Returns:
        The lists `categories`, `images` and `annotations`, as they are in the file, except that where an
        annotation lacks them (or has null) its `area` is that of its box and its `iscrowd` 0. Annotations get
        the ids 1, 2, ... where one has no id, or one that isn't an integer above 0: pycocotools takes a match with
        object 0 for no match.

    Raises:
        RefusedError: where the file isn't COCO JSON, has no image or no category, an entry lacks a key, ids or
            names repeat, or an object has a category that isn't listed, or a box or an area that isn't made of
            finite numbers. The message names the file.
        FileNotFoundError: where there is no such file.
    """
    lists = _load(ann_file, backend_args, annotated)
    for fault in find_faults(lists):
        raise RefusedError(f'{ann_file}: {fault.message}')
    _warn_of_strays(ann_file, lists)
    _fill_annotations(lists['annotations'])
    return lists


def read_sound_pictures(
    ann_file: str, backend_args: dict | None = None
) -> tuple[dict[str, list[dict]], dict[str, str]]:
    """Read a COCO annotation file without the pictures that have a fault.

    Args:
        ann_file: path or URL, for mmengine's file backends.
        backend_args: arguments of the backend.

    Returns:
        The lists, as `read_coco_file` gives them, without these pictures and their annotations; and the first
        fault of each of them, by the picture's `file_name`, or by the entry's place where that isn't known.

    Raises:
        RefusedError: where the file as a whole is broken.
        FileNotFoundError: where there is no such file.
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
        # Images of one id have two names; the entry's own is the right one.
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
    """An entry that can't be used."""

    list_name: str
    """`images` or `annotations`."""
    place: int
    """In that list."""
    image_id: int | str | None
    """The picture that it belongs to; None where it doesn't say."""
    message: str
    """Names the entry, and what is accepted."""


def find_faults(lists: dict[str, list]) -> Iterator[Fault]:
    """The entries of `images` and `annotations` that can't be used, in order."""
    known = {category['id'] for category in lists['categories']}
    for list_name, id_key in (('images', 'id'), ('annotations', 'image_id')):
        entries = lists[list_name]
        ids = Counter(entry['id'] for entry in entries if isinstance(entry, dict) and _is_id(entry.get('id')))
        repeated = {value for value, count in ids.items() if count > 1}
        for place, entry in enumerate(entries):
            message = _missing(list_name, place, entry)
            if not message and _is_id(entry.get('id')) and entry['id'] in repeated:
                message = f'{list_name}[{place}]: repeated {list_name} ids: [{entry["id"]!r}]; accepted: each one once.'
            if not message and list_name == 'images':
                message = _image_fault(place, entry)
            elif not message:
                message = _annotation_fault(place, entry, known)
            if message:
                owner = entry.get(id_key) if isinstance(entry, dict) else None
                yield Fault(list_name, place, owner if _is_id(owner) else None, message)


def _load(ann_file: str, backend_args: dict | None, annotated: bool) -> dict[str, list]:
    """The three lists, with sound categories and unchecked images and annotations."""
    if not ann_file:
        raise RefusedError(f'ann_file={ann_file!r}; accepted: the path of a COCO annotation file.')
    with get_local_path(ann_file, backend_args=backend_args) as local_path, open(local_path, 'rb') as file:
        try:
            content = json.load(file)
        except ValueError as error:  # broken JSON, or bytes that aren't text
            raise RefusedError(f'{ann_file}: not JSON ({error}); accepted: a COCO annotation file.') from error
    if not isinstance(content, dict):
        raise RefusedError(
            f'{ann_file}: holds a {type(content).__name__}; accepted: an object with the lists {list(REQUIRED_KEYS)}.'
        )

    lists = {}
    for name in REQUIRED_KEYS:
        optional = name == 'annotations' and not annotated
        entries = content.get(name, [] if optional else None)
        if not isinstance(entries, list):
            raise RefusedError(
                f'{ann_file}: no list {name!r}, only {sorted(content)}; accepted: an object with the lists '
                f'{list(REQUIRED_KEYS)}.'
            )
        if not entries and name != 'annotations':
            raise RefusedError(f'{ann_file}: the list {name!r} is empty; accepted: at least one entry.')
        lists[name] = entries
    _check_categories(ann_file, lists['categories'])
    return lists


def category_ids(categories: Iterable[dict], classes: Sequence[str] | None, source: str) -> dict[str, int]:
    """The category id of each class, in the order of the labels.

    Args:
        categories: entries with `id` and `name`, in any order.
        classes: the names in label order; without them, all categories in the order of their ids.
        source: what the categories were read from, for the message.

    Raises:
        RefusedError: where `classes` isn't a list of different names, or one of them isn't among the
            categories.
    """
    found = {category['name']: category['id'] for category in sorted(categories, key=lambda c: c['id'])}
    if classes is None:
        return found
    named = isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(c, str) for c in classes)
    if not named or not classes or len(set(classes)) < len(classes):
        raise RefusedError(
            f"metainfo['classes']={classes!r}; accepted: a list of different names, such as ('person',) with "
            f'its comma, out of the classes of {source}: {list(found)}; or no such entry, for all of them.'
        )
    if unknown := [name for name in classes if name not in found]:
        raise RefusedError(
            f"metainfo['classes'] names {unknown}, which {source} does not have; accepted: classes out of "
            f'{list(found)}.'
        )
    return {name: found[name] for name in classes}


def unusable_boxes(images: Iterable[dict], annotations: Iterable[dict]) -> list[int]:
    """Ids of the annotations that mmdet's `CocoDataset` leaves out because of their boxes.

    These are boxes outside their image, of less than a pixel in width or height, or of area 0.
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
    """A sentence on the box format that the annotations look like; empty if that is COCO's."""
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    rows = [(*box['bbox'], *sizes[box['image_id']]) for box in annotations if box['image_id'] in sizes]
    table = np.array(rows, dtype=float).reshape(-1, 6)
    return box_format(table[:, :4], table[:, 4:]).doubt


def _check_categories(ann_file: str, categories: list) -> None:
    for place, category in enumerate(categories):
        if message := _missing('categories', place, category):
            raise RefusedError(f'{ann_file}: {message}')
        if not isinstance(category['name'], str) or type(category['id']) is not int:
            raise RefusedError(f'{ann_file}: category {category!r}; accepted: an integer id, and text for a name.')
    _refuse_repeats(ann_file, 'categories ids', [category['id'] for category in categories])
    _refuse_repeats(ann_file, 'category names', [category['name'] for category in categories])


def _missing(list_name: str, place: int, entry: object) -> str | None:
    keys = REQUIRED_KEYS[list_name]
    if isinstance(entry, dict) and all(key in entry for key in keys):
        return None
    return f'{list_name}[{place}] is {entry!r}; accepted: an object with {list(keys)}.'


def _image_fault(place: int, image: dict) -> str | None:
    where = f'images[{place}]'
    if not _is_id(image['id']):
        return f'{where} has id={image["id"]!r}; accepted: an integer or text.'
    if not _is_text(image['file_name']):
        return f'{where} has file_name={image["file_name"]!r}; accepted: the name of a file.'
    if not all(_is_finite(image[key]) and image[key] >= 1 and image[key] % 1 == 0 for key in ('width', 'height')):
        return (
            f'{where} has width={image["width"]!r} and height={image["height"]!r}; accepted: whole numbers '
            'of pixels, at least 1.'
        )
    return None


def _annotation_fault(place: int, annotation: dict, known: set[int]) -> str | None:
    where = f'annotations[{place}] with id {annotation.get("id")!r}'
    image_id, category_id = annotation['image_id'], annotation['category_id']
    if not _is_id(image_id):
        return f'{where} has image_id={image_id!r}; accepted: the id of one of its images.'
    if not _is_id(category_id) or category_id not in known:
        return f'{where} has category_id={category_id!r}; accepted: an id of its categories, {sorted(known)}.'
    bbox, area = annotation['bbox'], annotation.get('area')
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_finite, bbox)):
        return f'{where} has bbox={bbox!r}; accepted: four finite numbers [x, y, width, height].'
    if area is not None and not _is_finite(area):
        return f'{where} has area={area!r}; accepted: a finite number, or none for that of the box.'
    return None


def _warn_of_strays(ann_file: str, lists: dict[str, list[dict]]) -> None:
    image_ids = {image['id'] for image in lists['images']}
    strays = sum(annotation['image_id'] not in image_ids for annotation in lists['annotations'])
    if strays:
        print_log(
            f'{ann_file}: {strays} of {len(lists["annotations"])} annotations belong to images that are not '
            'in the file; they are left out.',
            logger='current',
            level=logging.WARNING,
        )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value) and '\0' not in value


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _fill_annotations(annotations: list[dict]) -> None:
    """Fill in, in place, what `read_coco_file` says."""
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
        raise RefusedError(f'{ann_file}: repeated {what}: {repeated[:5]}; accepted: each one once.')
