"""Reading a COCO annotation file, with a clear refusal of what can't be trained or evaluated on.

Files made by hand or by small tools often lack what only COCO's own evaluation asks for; that is filled in.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from mmengine.fileio import get_local_path
from mmengine.logging import print_log

REQUIRED_KEYS = {
    'categories': ('id', 'name'),
    'images': ('id', 'file_name', 'height', 'width'),
    'annotations': ('image_id', 'category_id', 'bbox'),
}


def read_coco_file(ann_file: str, backend_args: dict | None = None, annotated: bool = True) -> dict[str, list[dict]]:
    """Read and check a COCO annotation file.

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
        ValueError: where the file isn't COCO JSON, has no image or no category, an entry lacks a key, ids or
            names repeat, or an object has a category that isn't listed, or a box or an area that isn't made of
            finite numbers. The message names the file.
        FileNotFoundError: where there is no such file.
    """
    if not ann_file:
        raise ValueError(f'ann_file={ann_file!r}; accepted: the path of a COCO annotation file.')
    with get_local_path(ann_file, backend_args=backend_args) as local_path, open(local_path, 'rb') as file:
        try:
            content = json.load(file)
        except ValueError as error:  # broken JSON, or bytes that aren't text
            raise ValueError(f'{ann_file}: not JSON ({error}); accepted: a COCO annotation file.') from error
    if not isinstance(content, dict):
        raise ValueError(
            f'{ann_file}: holds a {type(content).__name__}; accepted: an object with the lists {list(REQUIRED_KEYS)}.'
        )

    lists = {}
    for name, keys in REQUIRED_KEYS.items():
        optional = name == 'annotations' and not annotated
        entries = content.get(name, [] if optional else None)
        if not isinstance(entries, list):
            raise ValueError(
                f'{ann_file}: no list {name!r}, only {sorted(content)}; accepted: an object with the lists '
                f'{list(REQUIRED_KEYS)}.'
            )
        if not entries and name != 'annotations':
            raise ValueError(f'{ann_file}: the list {name!r} is empty; accepted: at least one entry.')
        for place, entry in enumerate(entries):
            if not isinstance(entry, dict) or any(key not in entry for key in keys):
                raise ValueError(f'{ann_file}: {name}[{place}] is {entry!r}; accepted: an object with {list(keys)}.')
        _refuse_repeats(ann_file, f'{name} ids', [entry['id'] for entry in entries if entry.get('id') is not None])
        lists[name] = entries

    _check_categories(ann_file, lists['categories'])
    _check_annotations(ann_file, lists)
    _fill_annotations(lists['annotations'])
    return lists


def category_ids(categories: Iterable[dict], classes: Sequence[str] | None, source: str) -> dict[str, int]:
    """The category id of each class, in the order of the labels.

    Args:
        categories: entries with `id` and `name`, in any order.
        classes: the names in label order; without them, all categories in the order of their ids.
        source: what the categories were read from, for the message.

    Raises:
        ValueError: where `classes` isn't a list of different names, or one of them isn't among the
            categories.
    """
    found = {category['name']: category['id'] for category in sorted(categories, key=lambda c: c['id'])}
    if classes is None:
        return found
    named = isinstance(classes, Sequence) and not isinstance(classes, str) and all(isinstance(c, str) for c in classes)
    if not named or not classes or len(set(classes)) < len(classes):
        raise ValueError(
            f"metainfo['classes']={classes!r}; accepted: a list of different names, such as ('person',) with "
            f'its comma, out of the classes of {source}: {list(found)}; or no such entry, for all of them.'
        )
    if unknown := [name for name in classes if name not in found]:
        raise ValueError(
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


def _check_categories(ann_file: str, categories: list[dict]) -> None:
    for category in categories:
        if not isinstance(category['name'], str) or type(category['id']) is not int:
            raise ValueError(f'{ann_file}: category {category!r}; accepted: an integer id, and text for a name.')
    _refuse_repeats(ann_file, 'category names', [category['name'] for category in categories])


def _check_annotations(ann_file: str, lists: dict[str, list[dict]]) -> None:
    known = {category['id'] for category in lists['categories']}
    image_ids = {image['id'] for image in lists['images']}
    lost = 0
    for place, annotation in enumerate(lists['annotations']):
        where = f'{ann_file}: annotations[{place}] with id {annotation.get("id")!r}'
        if annotation['category_id'] not in known:
            raise ValueError(
                f'{where} has category_id={annotation["category_id"]!r}; accepted: an id of its categories, '
                f'{sorted(known)}.'
            )
        bbox, area = annotation['bbox'], annotation.get('area')
        if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_finite, bbox)):
            raise ValueError(f'{where} has bbox={bbox!r}; accepted: four finite numbers [x, y, width, height].')
        if area is not None and not _is_finite(area):
            raise ValueError(f'{where} has area={area!r}; accepted: a finite number, or none for that of the box.')
        lost += annotation['image_id'] not in image_ids
    if lost:
        print_log(
            f'{ann_file}: {lost} of {len(lists["annotations"])} annotations belong to images that are not '
            'in the file; they are left out.',
            logger='current',
            level=logging.WARNING,
        )


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
        raise ValueError(f'{ann_file}: repeated {what}: {repeated[:5]}; accepted: each one once.')
