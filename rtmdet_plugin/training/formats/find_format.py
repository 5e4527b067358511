"""Read a dataset in the format that its files have."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtmdet_runtime.image_files import list_images

from ...errors import RefusedError
from . import coco_json, csv_boxes, voc, yolo
from .labelled import Labelled, notes_on

FORMATS = (coco_json, yolo, voc, csv_boxes)
MAX_BAD_SHARE = 0.05
"""Share of images above which a dataset with bad samples is refused; the default of `RTMCocoDataset`."""

SHOWN = 5
"""Number of bad samples that an error lists."""


def read_dataset(data: Path, needed: str | None = 'train') -> Labelled:
    """Read the images and boxes of a dataset, in COCO JSON, YOLO, Pascal VOC or CSV.

    Args:
        data: a folder, a data.yaml, or an annotation file.
        needed: split that it must have; None for any.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        RefusedError: if the format isn't clear, a file is faulty, the needed split is missing, or more than 5 % of the
            images are bad.
    """
    dataset = read_all(data)
    for reason in refusals(dataset, needed):
        raise RefusedError(reason)
    notes = [
        *dataset.notes,
        *map(str, dataset.unused_files),
        *(note for split, part in dataset.splits.items() for note in notes_on(split, part)),
        *alike(dataset.classes),
    ]
    return dataclasses.replace(dataset, notes=notes)


def read_all(data: Path) -> Labelled:
    """Read a dataset as far as possible, also one that can't be used; see `refusals`.

    Args:
        data: a folder, a data.yaml, or an annotation file.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        RefusedError: if the format isn't clear, or a file is faulty.
    """
    if not data.exists():
        raise FileNotFoundError(f'{data}: no such file or folder')
    found = [(module, sources) for module in FORMATS if (sources := module.find(data)) is not None]
    if len(found) > 1:
        names = ' and '.join(f'{module.KIND} ({_name(sources, data)})' for module, sources in found)
        raise RefusedError(f'{data} must have annotations in one format, got {names}; give the file or folder of one')
    if not found:
        raise RefusedError(_nothing_found(data))
    module, sources = found[0]
    dataset = module.read(data, sources)
    in_order = {split: dataset.splits[split] for split in ('train', 'val', 'test') if split in dataset.splits}
    return dataclasses.replace(dataset, splits=in_order)


def refusals(dataset: Labelled, needed: str | None = 'train') -> Iterator[str]:
    """Yield the reasons for which a dataset can't be used: bad samples, no objects, or a missing split.

    Args:
        dataset: the dataset.
        needed: split that it must have; None for any.
    """
    used = sum(len(part.content['images']) for part in dataset.splits.values())
    bad = len(dataset.skipped)
    if bad > MAX_BAD_SHARE * (used + bad):
        shown = '; '.join(list(dataset.skipped.values())[:SHOWN]) + (f'; and {bad - SHOWN} more' if bad > SHOWN else '')
        yield (
            f'{dataset.source} must have at most {MAX_BAD_SHARE:.0%} bad samples, got {bad} of {used + bad}; repair or '
            f'remove them: {shown}'
        )
    if needed is not None and needed not in dataset.splits:
        yield f'{dataset.source} must have a split {needed!r}, got only {", ".join(dataset.splits)}'
    for split, part in dataset.splits.items():
        if not part.content['annotations']:
            yield f'{dataset.source} must have objects in {split}, got {len(part.content["images"])} images without'


def alike(classes: Sequence[str]) -> list[str]:
    """Return a sentence for each group of class names that differ only in case or spaces."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(''.join(name.casefold().split()), []).append(name)
    return [
        f'the classes {" and ".join(map(repr, names))} differ only in case or spaces; if they are one class, correct '
        'the labels'
        for names in groups.values()
        if len(names) > 1
    ]


def _name(sources: object, data: Path) -> str:
    """Return the first file or folder of a format, to name it in an error."""
    if isinstance(sources, yolo.Sources) and sources.file:
        path = sources.file
    elif isinstance(sources, yolo.Sources | voc.Sources):
        first = next(iter(sources.splits.values()))[0]
        path = first.parent if first.suffix == '.xml' else first
    else:
        path = next(iter(sources.values())) if isinstance(sources, dict) else data
    return str(path.relative_to(data)) if path.is_relative_to(data) else str(path)


def _nothing_found(data: Path) -> str:
    if data.is_file():
        return f'{data} must be a folder, a .json, .yaml or .csv file with annotations, or a config, got {data.suffix}'
    images = len(list_images(data, recursive=True))
    return (
        f'{data} must have annotations: COCO JSON (train.json, annotations/*.json), YOLO (data.yaml, or labels/ next '
        f'to images/), Pascal VOC (Annotations/*.xml) or CSV (filename,width,height,class,xmin,...); got {images} '
        'images without'
    )
