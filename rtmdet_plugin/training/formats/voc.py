"""Pascal VOC: one XML file for each image in `Annotations/`, with or without `ImageSets`.

Coordinates are taken as the edges of boxes in pixels, as labelling tools write them. VOC's own files count pixels from
1 and include both ends, so their boxes shift by up to a pixel. Objects marked as difficult are neither learned nor
counted as missed, as in VOC's evaluation.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # it loads no external entities, and expat >= 2.4.1 limits internal ones
from xml.etree.ElementTree import Element

from rtmdet_runtime.image_files import list_images

from ...errors import RefusedError
from .images import SampleError, checked_size
from .labelled import Box, Labelled, LabelledImage, UnusedFiles, labelled
from .split_names import split_name

KIND = 'Pascal VOC'
IMAGE_FOLDERS = ('jpegimages', 'images', 'image', 'imgs', 'img')
EDGES = ('xmin', 'ymin', 'xmax', 'ymax')


@dataclass(frozen=True)
class Sources:
    """XML files of a VOC dataset."""

    splits: dict[str, list[Path]]
    """XML files by split."""
    folder: Path
    """Folder of the dataset."""
    missing: dict[str, dict[str, str]]
    """Reason by id, for ids of a split's image set without an XML file."""


def find(data: Path) -> Sources | None:
    """Return the XML files; None if this is no VOC dataset."""
    if not data.is_dir():
        return None
    inner = [folder for folder in sorted(data.iterdir()) if folder.is_dir()]
    for folder in [*(folder for folder in inner if folder.name.lower() == 'annotations'), data]:
        if files := _voc_files(folder):
            root = folder.parent if folder.name.lower() == 'annotations' else folder
            return _split_by_sets(files, root)
    named = {split: folder for folder in inner if (split := split_name(folder.name))}
    splits = {split: files for split, folder in named.items() if (files := _voc_files(folder))}
    return Sources(splits, data, {}) if splits else None


def read(data: Path, sources: Sources) -> Labelled:
    """Read the XML files."""
    images: dict[str, list[LabelledImage]] = {}
    skipped, used = {split: dict(reasons) for split, reasons in sources.missing.items()}, set()
    pairs: dict[Path, dict[str, Path]] = {}
    for split, files in sources.splits.items():
        images[split] = []
        bad = skipped.setdefault(split, {})
        for file in files:
            if file.parent not in pairs:
                pairs[file.parent] = _images_near(file.parent)
            try:
                image = read_file(file, pairs[file.parent])
            except SampleError as error:
                bad[str(file)] = str(error)
                continue
            used.add(image.path)
            images[split].append(image)
    unused_files = []
    unused = {path for known in pairs.values() for path in known.values()} - used
    if unused and not any(skipped.values()) and not _has_sets(sources.folder):
        unused_files.append(UnusedFiles(str(sources.folder), 'images have no XML file', sorted(unused)))
    return labelled(KIND, data, images, sources.folder, skipped_by_split=skipped, unused_files=unused_files)


def read_file(file: Path, images: dict[str, Path]) -> LabelledImage:
    """Read one XML file.

    Args:
        file: the XML file.
        images: image files by name and by name without its ending. That of the XML file's own name is taken before
            the one in `filename`, which tools don't update when files are renamed.

    Raises:
        SampleError: if the file is faulty, or there is no image for it.
    """
    try:
        data = file.read_bytes()
        root = ElementTree.fromstring(data)
    except OSError as error:
        raise SampleError(f'{file} must be a file that can be read: {error.strerror}') from None
    except ElementTree.ParseError as error:
        raise SampleError(f'{file}:{error.position[0]}: must be XML, got an error: {error}') from None
    name = (root.findtext('filename') or '').strip()
    path = images.get(file.stem) or images.get(name) or images.get(Path(name).stem)
    if path is None:
        raise SampleError(f'{file} must have an image with its name or that of its filename, {name!r}, got none')
    size = [_number(root.findtext(f'size/{side}'), 0) for side in ('width', 'height')]
    width, height = checked_size(path, (int(size[0]), int(size[1])), str(file))
    boxes = []
    for place, node in enumerate(root.iter('object')):
        try:
            boxes.append(_box(node))
        except ValueError as error:
            raise SampleError(f'{file}:{_line_of_object(data, place)}: {error}') from None
    return LabelledImage(path, width, height, boxes)


def _box(node: Element) -> Box:
    name = (node.findtext('name') or '').strip()
    if not name:
        raise ValueError('an object must have a name, got none')
    box = node.find('bndbox')
    texts = [None if box is None else box.findtext(edge) for edge in EDGES]
    edges = [_number(text, math.nan) for text in texts]
    left, top, right, bottom = edges
    if not all(map(math.isfinite, edges)) or right < left or bottom < top:
        raise ValueError(f'bndbox must have {", ".join(EDGES)} in pixels with min <= max, got {texts}')
    return Box(name, left, top, right - left, bottom - top, _number(node.findtext('difficult'), 0) == 1)


def _number(text: str | None, default: float) -> float:
    try:
        value = float(text) if text else default
    except ValueError:
        return default
    return value if math.isfinite(value) else default


def _line_of_object(data: bytes, place: int) -> int:
    """Return the number of the line on which an object begins; ElementTree doesn't keep it."""
    starts = [match.start() for match in re.finditer(rb'<object\b', data)]
    return data.count(b'\n', 0, starts[place]) + 1 if place < len(starts) else 1


def _voc_files(folder: Path) -> list[Path]:
    """Return the XML files of a folder if the first one is VOC's; other programs also write XML."""
    files = sorted(folder.glob('*.xml'))
    if not files:
        return []
    with files[0].open('rb') as file:
        return files if re.search(rb'<annotation[\s>]', file.read(1000)) else []


def _has_sets(root: Path) -> bool:
    return (root / 'ImageSets').is_dir()


def _split_by_sets(files: list[Path], root: Path) -> Sources:
    """Assign XML files to the splits that ImageSets lists; without ImageSets all are for training.

    Raises:
        RefusedError: if no set names an XML file.
    """
    if not _has_sets(root):
        return Sources({'train': files}, root, {})
    folder = next(path for path in (root / 'ImageSets' / 'Main', root / 'ImageSets') if path.is_dir())
    known = {file.stem: file for file in files}
    splits: dict[str, list[Path]] = {}
    missing: dict[str, dict[str, str]] = {}
    lists = {split: folder / f'{split}.txt' for split in ('train', 'val', 'test')}
    if not lists['train'].is_file():
        lists['train'] = folder / 'trainval.txt'
    for split, listed in lists.items():
        if not listed.is_file():
            continue
        lines = listed.read_text(encoding='utf-8-sig', errors='replace').splitlines()
        ids = [(number, line.split()[0]) for number, line in enumerate(lines, 1) if line.strip()]
        splits[split] = [known[name] for _, name in ids if name in known]
        missing[split] = {
            f'{listed}:{number}': f'{listed}:{number}: {name} must have an XML file, got none'
            for number, name in ids
            if name not in known
        }
    if not any(splits.values()):
        raise RefusedError(f'{lists["train"]} must list the names of XML files to train on, got none of {len(known)}')
    return Sources({split: members for split, members in splits.items() if members}, root, missing)


def _images_near(folder: Path) -> dict[str, Path]:
    """Return the images that belong to a folder of XML files, by name and by name without its ending."""
    beside = [other for other in sorted(folder.parent.iterdir()) if other.name.lower() in IMAGE_FOLDERS]
    inside = [other for other in sorted(folder.iterdir()) if other.name.lower() in IMAGE_FOLDERS]
    found: dict[str, Path] = {}
    for place in (folder, *inside, *beside):
        for path in list_images(place, recursive=place != folder):
            found.setdefault(path.name, path)
            found.setdefault(path.stem, path)
    return found
