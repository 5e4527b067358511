"""YOLO: `data.yaml`, or `images/` next to `labels/`, with one text file for each image.

A line is a class id and a box (centre x, centre y, width, height) or a polygon, as fractions of the image's size. The
box of a polygon is that around it. An image without a text file has no objects.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from rtmdet_runtime.image_files import is_image, list_images

from ...errors import RefusedError
from .images import SampleError, image_size
from .labelled import Box, Labelled, LabelledImage, UnusedFiles, labelled
from .split_names import split_name

KIND = 'YOLO'
NAME_FILES = ('classes.txt', 'obj.names', 'labels/classes.txt', 'predefined_classes.txt')
KEYS = dict(train='train', val='val', valid='val', validation='val', test='test')
"""Key in data.yaml: split."""
SLACK = 0.01
"""Distance by which a coordinate may lie outside 0 to 1, because of rounding."""


@dataclass(frozen=True)
class Sources:
    """Where the images of a YOLO dataset are."""

    splits: dict[str, list[Path]]
    """Folders with images, or text files that list images, by split."""
    names: dict[int, str] | None
    """Class name by id; None if they are in no file."""
    keypoints: bool = False
    """Whether lines have keypoints after the box."""
    file: Path | None = None
    """The data.yaml."""


def find(data: Path) -> Sources | None:
    """Return where the images are; None if this is no YOLO dataset.

    Raises:
        RefusedError: if there are several data.yaml, or it is faulty.
    """
    if data.is_file():
        return _read_yaml(data) if data.suffix.lower() in ('.yaml', '.yml') else None
    files = [file for file in sorted([*data.glob('*.yaml'), *data.glob('*.yml')]) if _describes_data(file)]
    if len(files) > 1:
        raise RefusedError(
            f'{data} must have one YOLO file with train and names, got {", ".join(file.name for file in files)}; give '
            'one of these files instead of the folder'
        )
    if files:
        return _read_yaml(files[0])
    splits = _folders_by_split(data.parent if data.name == 'labels' else data)
    return Sources(splits, _read_names(data)) if splits else None


def read(data: Path, sources: Sources) -> Labelled:
    """Read the labels of all images.

    Raises:
        RefusedError: if a split has no images.
    """
    images: dict[str, list[LabelledImage]] = {}
    skipped: dict[str, dict[str, str]] = {split: {} for split in sources.splits}
    notes, unused_files = [], []
    names, used = sources.names, set()
    for split, places in sources.splits.items():
        paths = list(dict.fromkeys(path for place in places for path in _images_of(place)))
        if not paths:
            raise RefusedError(f'{places[0]} must have images for {split}, got none; add images, or remove this split')
        images[split], labels = [], 0
        for path in paths:
            try:
                file = label_file(path)
                objects = read_labels(file, names, sources.keypoints)
                width, height = image_size(path)
            except SampleError as error:
                skipped[split][str(path)] = str(error)
                continue
            labels += file is not None
            used |= {line.class_id for line in objects}
            boxes = [line.box(width, height) for line in objects]
            images[split].append(LabelledImage(path, width, height, boxes))
        if labels < len(paths):
            notes.append(
                f'{split}: {len(paths) - labels} of {len(paths)} images have no labels and count as background'
            )
        if unused := _labels_without_image(places, paths):
            unused_files.append(UnusedFiles(split, 'label files have no image', unused))
    if names is None:
        names = {class_id: str(class_id) for class_id in sorted(used)}
        notes.append(f'no file has class names, so the {len(names)} classes are named by their ids')
    images = {
        split: [
            image._replace(boxes=[box._replace(name=names[int(box.name)]) for box in image.boxes]) for image in part
        ]
        for split, part in images.items()
    }
    folder = data if data.is_dir() else data.parent
    return labelled(KIND, sources.file or data, images, folder, names.values(), skipped, notes, unused_files)


def label_file(image: Path) -> Path | None:
    """Return the text file of an image: in `labels/` if the image is in `images/`, else next to it; None without."""
    parts = list(image.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == 'images':
            parts[place] = 'labels'
            file = Path(*parts).with_suffix('.txt')
            if file.is_file():
                return file
            break
    file = image.with_suffix('.txt')
    return file if file.is_file() else None


class Line(NamedTuple):
    """An object; numbers are fractions of the image's size."""

    class_id: int
    center_x: float
    center_y: float
    width: float
    height: float
    polygon: Sequence[float] = ()
    """x, y, x, y, ...; empty for a box."""

    def box(self, width: int, height: int) -> Box:
        """Return it in pixels of an image of this size, named by its class id."""
        left, top = self.center_x - self.width / 2, self.center_y - self.height / 2
        polygon = [value * (height if place % 2 else width) for place, value in enumerate(self.polygon)]
        return Box(
            str(self.class_id), left * width, top * height, self.width * width, self.height * height, polygon=polygon
        )


def read_labels(file: Path | None, names: dict[int, str] | None, keypoints: bool = False) -> list[Line]:
    """Return the objects of an image.

    Args:
        file: text file of an image; None for no objects.
        names: class name by id; None if any id is accepted.
        keypoints: whether keypoints follow the box, instead of a polygon.

    Raises:
        SampleError: if a line is faulty.
    """
    try:
        lines = file.read_text(encoding='utf-8-sig').splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f'{file} must be a text file that can be read, got an error: {error}') from None
    objects = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                objects.append(_parse(line.split(), names, keypoints))
            except ValueError as error:
                raise SampleError(f'{file}:{number}: {error}') from None
    return objects


def _parse(words: list[str], names: dict[int, str] | None, keypoints: bool) -> Line:
    try:
        class_id, *values = (float(word) for word in words)
    except ValueError:
        raise ValueError(f'a line must consist of numbers, got {" ".join(words)[:60]!r}') from None
    if class_id % 1 or class_id < 0 or (names is not None and class_id not in names):
        known = f'one of {min(names)} to {max(names)}' if names else 'an integer of at least 0'
        raise ValueError(f'class id must be {known}, got {words[0]}')
    polygon = len(values) >= 6 and not keypoints
    if polygon and len(values) % 2:
        values = values[:-1]  # the number of a track, or a score
    if len(values) < 4 or (len(values) > 5 and not polygon and not keypoints):
        raise ValueError(f'a line must have a class id and 4 numbers, or at least 3 points, got {len(words)} numbers')
    if not polygon:
        values = values[:4]  # a fifth number is a score
    if not all(math.isfinite(value) and -SLACK <= value <= 1 + SLACK for value in values):
        raise ValueError(
            f'coordinates must be fractions of the image from 0 to 1, got {" ".join(words[1:5])}; divide pixels by the '
            "image's width and height"
        )
    if not polygon:
        x, y, width, height = values
        return Line(int(class_id), x, y, width, height)
    left, right, top, bottom = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
    return Line(int(class_id), (left + right) / 2, (top + bottom) / 2, right - left, bottom - top, values)


def _describes_data(file: Path) -> bool:
    return bool(re.search(r'^(train|names)\s*:', file.read_text(errors='replace'), flags=re.MULTILINE))


def _read_yaml(file: Path) -> Sources:
    """Read a data.yaml.

    Raises:
        RefusedError: if it isn't YAML, lacks names or images, or a path doesn't exist.
    """
    text = file.read_text(encoding='utf-8-sig', errors='replace')
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RefusedError(f'{file} must be a YAML file, got an error: {" ".join(str(error).split())}') from None
    if not isinstance(content, dict):
        raise RefusedError(f'{file} must be a mapping with train, val and names, got {type(content).__name__}')

    def at(key: str) -> str:
        return f'{file}:{next((i for i, line in enumerate(text.splitlines(), 1) if line.startswith(key)), 1)}'

    names = _names(content, at)
    splits: dict[str, list[Path]] = {}
    for key, split in KEYS.items():
        if content.get(key):
            listed = content[key] if isinstance(content[key], list) else [content[key]]
            splits[split] = [_resolve(str(entry), content.get('path'), file, at(key)) for entry in listed]
    if not splits:  # supervision writes only names
        splits = _folders_by_split(file.parent)
    if not splits:
        raise RefusedError(f'{file} must have train and val, the folders with the images, got {sorted(content)}')
    if 'train' in splits and splits.get('val') == splits['train']:
        # As in small example datasets: AP would be that of the training images.
        del splits['val']
    return Sources(splits, names, bool(content.get('kpt_shape')), file)


def _names(content: dict, at) -> dict[int, str]:
    names, count = content.get('names'), content.get('nc')
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(type(key) is int and key >= 0 for key in names):
        raise RefusedError(f'{at("names")}: names must be a list or a mapping from ids to class names, got {names!r}')
    names = {key: str(names[key]) for key in sorted(names)}
    if len(set(names.values())) < len(names):
        raise RefusedError(f'{at("names")}: names must be different, got {list(names.values())}')
    if count is not None and count != len(names):
        raise RefusedError(
            f'{at("nc")}: nc must be the number of names, {len(names)}, got {count}; correct or remove it'
        )
    return names


def _resolve(entry: str, root: object, file: Path, at: str) -> Path:
    """Return an existing path of a data.yaml; Roboflow's `../train/images` belong to the folder of the file itself."""
    base = file.parent / str(root) if root else file.parent
    inside = re.sub(r'^(\.\./)+', '', entry)
    tried = list(dict.fromkeys([base / entry, file.parent / entry, base / inside, file.parent / inside]))
    for path in tried:
        if path.exists():
            return path.resolve()
    raise RefusedError(
        f'{at}: {entry} must be a folder with images or a file that lists them, got no such path: '
        f'{", ".join(str(path) for path in tried)}; correct it, or `path` at the top of the file'
    )


def _images_of(place: Path) -> list[Path]:
    """Return the images in a folder, or those that a text file lists, relative to its folder."""
    if place.is_dir():
        return list_images(place, recursive=True)
    lines = place.read_text(encoding='utf-8-sig', errors='replace').splitlines()
    return [place.parent / line.strip() for line in lines if line.strip()]


def _folders_by_split(root: Path) -> dict[str, list[Path]]:
    """Return the image folders of a dataset without data.yaml."""
    if (root / 'images').is_dir() and (root / 'labels').is_dir():
        inner = {split_name(folder.name): folder for folder in sorted((root / 'images').iterdir()) if folder.is_dir()}
        splits = {split: [folder] for split, folder in inner.items() if split}
        return splits or {'train': [root / 'images']}
    folders = [
        folder for folder in sorted(root.iterdir()) if (folder / 'images').is_dir() and (folder / 'labels').is_dir()
    ]
    splits = {split: [folder / 'images'] for folder in folders if (split := split_name(folder.name))}
    if splits:
        return splits
    # LabelImg writes the text files next to the images.
    files = {file.name for file in root.iterdir()}
    pairs = any(is_image(name) and str(Path(name).with_suffix('.txt')) in files for name in files)
    return {'train': [root]} if pairs else {}


def _read_names(data: Path) -> dict[int, str] | None:
    """Return the class names of a dataset without data.yaml, one on each line of a text file."""
    root = data.parent if data.name == 'labels' else data
    for file in (root / name for name in NAME_FILES):
        if file.is_file():
            lines = file.read_text(encoding='utf-8-sig', errors='replace').splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip()))
    return None


def _labels_without_image(places: list[Path], paths: list[Path]) -> list[Path]:
    """Return the label files next to the image folders of a split that belong to none of its images."""
    stems = {path.stem for path in paths}
    return [
        file
        for place in places
        if place.is_dir() and 'images' in place.parts
        for file in sorted(_labels_of(place).rglob('*.txt'))
        if file.stem not in stems and file.name not in NAME_FILES
    ]


def _labels_of(folder: Path) -> Path:
    parts = list(folder.parts)
    parts[len(parts) - 1 - parts[::-1].index('images')] = 'labels'
    return Path(*parts)
