"""Run all checks of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mmengine.config import Config

from rtmdet_runtime.messages import one_line

from ..errors import RefusedError
from ..training.formats import coco_json
from ..training.formats.find_format import MAX_BAD_SHARE, read_all, refusals
from ..training.formats.labelled import STRAY, Labelled
from .boxes import check_boxes
from .classes import check_classes, class_counts
from .config_data import read_config_data
from .copies import check_copies, check_similar
from .finding import Finding, Item, in_order, some
from .images import Track, bad_headers, bad_pixels, check_background, check_sizes, check_unlisted, no_progress
from .masks import check_masks, mask_facts
from .objects import Objects, objects_by_split
from .training_config import fitting_size, usual_size, wants_masks


@dataclass(frozen=True)
class Examination:
    """What was found out about a dataset."""

    facts: dict[str, str]
    """Value by name, such as the number of images."""
    findings: list[Finding]
    """Findings, the most severe ones first."""
    objects: list[Objects] = field(default_factory=list)
    """Images and boxes of each split; empty if the dataset can't be read."""


def examine(
    data: str | Config, model: str = 'tiny', deep: bool = False, speed: bool = False, track: Track = no_progress
) -> Examination:
    """Examine a dataset.

    Args:
        data: a folder, a data.yaml, an annotation file, or a config.
        model: name of the model, unless `data` is a config.
        deep: whether to decode each image, and to compare images with each other.
        speed: whether to measure the data loader and the training step.
        track: shows progress.

    Raises:
        FileNotFoundError: if there is no such file or folder.
    """
    try:
        dataset = read_data(data)
        size = usual_size(data) if isinstance(data, Config) else fitting_size(dataset, model)
    except RefusedError as error:
        return Examination({}, [Finding('unreadable', 'error', str(error))])
    splits = objects_by_split(dataset)
    facts = {**_facts(dataset, splits), 'input size': f'{size} px'}
    findings = list(_findings(dataset, splits, size, deep, track))
    if wants_masks(data, model):
        facts['masks'] = mask_facts(splits)
        for objects, ignored in zip(splits, objects_by_split(dataset, ignored=True), strict=True):
            findings += check_masks(objects, ignored)
    if speed:
        from .speed import speed_of  # it takes a second to import

        try:
            measured = speed_of(data if isinstance(data, Config) else dataset, model)
            facts |= measured.facts()
            findings.append(measured.finding())
        except RefusedError as error:
            findings.append(Finding('speed', 'note', f'it is not measured: {one_line(error)}'))
    return Examination(facts, in_order(findings), splits)


def read_data(data: str | Config) -> Labelled:
    """Read a dataset as far as possible.

    Args:
        data: see `examine`.

    Raises:
        FileNotFoundError: if there is no such file or folder.
        RefusedError: if the format isn't clear, or a file is faulty.
    """
    return read_config_data(data) if isinstance(data, Config) else read_all(Path(data))


def _findings(dataset: Labelled, splits: list[Objects], size: int, deep: bool, track: Track) -> Iterator[Finding]:
    for text in refusals(dataset):
        yield Finding('refused', 'error', f'rtmdet train refuses the data: {text}')
    for text in dataset.notes:
        yield Finding('dataset', 'note', text)
    for unused in dataset.unused_files:
        yield Finding('unused files', 'note', str(unused), [Item(str(file)) for file in unused.files])
    for split, part in dataset.splits.items():
        if part.stray_annotations:
            text = f'{split}: {part.stray_annotations} annotations {STRAY}; they are not used'
            yield Finding('annotations without images', 'warning', text)
    bad = dict(dataset.skipped)
    for objects in splits:
        if dataset.kind == coco_json.KIND:  # the other formats are read with the headers of their images
            bad |= bad_headers(objects)
        if deep:
            bad |= bad_pixels(objects, bad, track)
        yield from check_sizes(objects)
        yield from check_background(objects)
        yield from check_boxes(objects, size)
    if bad:
        total = len(dataset.skipped) + sum(len(objects.files) for objects in splits)
        text = f'{len(bad)} of {total} images or their labels are faulty; training skips them'
        severity = 'warning' if len(bad) <= MAX_BAD_SHARE * total else 'error'
        yield Finding('bad samples', severity, text, [Item(file, reason) for file, reason in bad.items()])
    yield from check_classes(dataset.classes, splits)
    others = [str(file) for unused in dataset.unused_files for file in unused.files]
    others += [item.file for objects in splits for item in objects.unusable]
    yield from check_unlisted(splits, [*bad, *others])
    yield from check_copies(splits)
    if deep:
        yield from check_similar(splits)


def _facts(dataset: Labelled, splits: list[Objects]) -> dict[str, str]:
    sizes = np.concatenate([objects.sizes for objects in splits])
    sizes = sizes[np.argsort(sizes.max(1), kind='stable')].astype(int).tolist()
    shown = [f'{width} x {height}' for width, height in (sizes[0], sizes[len(sizes) // 2], sizes[-1])] if sizes else []
    counts = np.sum([class_counts(objects) for objects in splits], axis=0).tolist()
    return {
        'data': f'{dataset.source} ({dataset.kind})',
        'images': ', '.join(f'{len(objects.files):,} {objects.split}' for objects in splits),
        'objects': ', '.join(f'{len(objects.boxes):,} {objects.split}' for objects in splits),
        'classes': some(f'{name} ({count:,})' for name, count in zip(dataset.classes, counts, strict=True)),
        'image sizes': ', '.join(shown) + ' px (smallest, median, largest)' if shown else 'unknown',
    }
