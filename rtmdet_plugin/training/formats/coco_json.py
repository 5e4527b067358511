"""COCO JSON: one file for each split, also as Roboflow writes it (`train/_annotations.coco.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...datasets.coco_file import read_usable_images
from ...errors import RefusedError
from .images import image_folder
from .labelled import Labelled, Split, drop_unusable
from .split_names import files_by_split

KIND = 'COCO JSON'
MANY = 100
"""A folder with more JSON files than this holds one for each image, as labelme writes them."""
KEYS = (b'"images"', b'"annotations"', b'"categories"')


def find(data: Path) -> dict[str, Path] | None:
    """Return the annotation file of each split; None if there is none.

    Raises:
        RefusedError: if it isn't clear which file belongs to which split.
    """
    if data.is_file():
        return {'train': data} if data.suffix.lower() == '.json' else None
    folders = [data, *(folder for folder in sorted(data.iterdir()) if folder.is_dir())]
    files = [file for folder in folders for file in _json_files(folder)]
    return files_by_split(files, data, KIND) or None


def _json_files(folder: Path) -> list[Path]:
    """Return the JSON files of a folder that have the lists of COCO."""
    files = sorted(folder.glob('*.json'))
    if len(files) > MANY:
        return []
    return [file for file in files if all(key in content for content in [file.read_bytes()] for key in KEYS)]


def read(data: Path, files: dict[str, Path]) -> Labelled:
    """Read the annotation files.

    A split whose images can all be used keeps its file.

    Raises:
        RefusedError: if a file isn't COCO JSON, or the folder of its images can't be found.
    """
    splits, skipped, notes = {}, {}, []
    for split, file in files.items():
        content, bad = read_usable_images(str(file))
        if not content['images']:
            raise RefusedError(f'{file} must have an image that can be used, got none: {next(iter(bad.values()))}')
        root = file.parent.parent if file.parent.name.lower() == 'annotations' else file.parent
        places = [file.parent, root, *([data] if data.is_dir() else [])]
        folder = image_folder([image['file_name'] for image in content['images']], places, split, file)
        splits[split], skipped[split] = split_of(content, bad, folder, file)
    names = _class_names(splits)
    dropped = sorted(
        {category['name'] for part in splits.values() for category in part.content['categories']} - {*names}
    )
    if dropped:
        notes.append(f'the classes {", ".join(dropped)} are only names of groups, without objects; they are not used')
    splits = {split: _with_classes(part, names) for split, part in splits.items()}
    return Labelled(KIND, tuple(names), data, splits, skipped, notes)


def split_of(
    content: dict[str, list[dict]], bad: Mapping[str, str], folder: Path, file: Path
) -> tuple[Split, dict[str, str]]:
    """Return the images of an annotation file that can be used, and the reason by file for each one that can't.

    Args:
        content: COCO's lists of the file.
        bad: reason by name, for the images that `read_usable_images` has dropped.
        folder: folder of the images.
        file: the annotation file.
    """
    known = {image['id'] for image in content['images']}
    strays = sum(item['image_id'] not in known for item in content['annotations'])
    missing = {image['id']: image for image in content['images'] if not (folder / image['file_name']).is_file()}
    left = known - missing.keys()
    bad = {**bad, **{image['file_name']: 'no such file' for image in missing.values()}}
    content = dict(
        content,
        images=[image for image in content['images'] if image['id'] in left],
        annotations=[item for item in content['annotations'] if item['image_id'] in left],
    )
    usable = len(content['images'])
    unusable = drop_unusable(content, keep_boxes=True)
    complete = not bad and not strays and len(content['images']) == usable
    skipped = {str(folder / name): f'{file}: {name}: {reason}' for name, reason in bad.items()}
    return Split(content, folder, file if complete else None, unusable, strays), skipped


def _class_names(splits: dict[str, Split]) -> list[str]:
    """Return the names of all splits' classes, in the order of their ids.

    Roboflow adds a class that groups the others, which has no objects; it is left out.
    """
    categories = [category for part in splits.values() for category in part.content['categories']]
    used = set()
    for part in splits.values():
        ids = {item['category_id'] for item in part.content['annotations']}
        used |= {category['name'] for category in part.content['categories'] if category['id'] in ids}
    groups = {category.get('supercategory') for category in categories} - used
    in_order = sorted(categories, key=lambda category: category['id'])
    return list(dict.fromkeys(category['name'] for category in in_order if category['name'] not in groups))


def _with_classes(split: Split, names: list[str]) -> Split:
    """Return a split with all classes, in the same order; it keeps its file if that has them already."""
    old = split.content['categories']
    if {category['name'] for category in old} >= {*names}:
        return split
    old_names = {category['id']: category['name'] for category in old}
    ids = {name: i for i, name in enumerate(names, 1)}

    def renamed(item: dict) -> dict:
        return {**item, 'category_id': ids[old_names[item['category_id']]]}

    content = dict(
        split.content,
        annotations=[renamed(item) for item in split.content['annotations']],
        categories=[dict(id=i, name=name) for name, i in ids.items()],
    )
    unusable = [(image, renamed(item)) for image, item in split.unusable]
    return Split(content, split.folder, None, unusable, split.stray_annotations)
