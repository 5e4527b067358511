"""Checks of image files: their headers, their pixels, their sizes, and whether any annotation names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rtmdet_runtime.cpu_cores import available_cores
from rtmdet_runtime.image_files import list_images

from ..training.formats.images import SampleError, checked_size
from ..transforms.decoding import BadImageError, decode
from .finding import Finding, Item
from .objects import Objects

Track = Callable[..., Iterable[Any]]
"""Function that returns `items` unchanged and may show progress: `track(items, description=..., total=...)`."""


def no_progress(items: Iterable[Any], **_: object) -> Iterable[Any]:
    """Return items without showing progress."""
    return items


def bad_headers(objects: Objects) -> dict[str, str]:
    """Return the reason by file for each image whose header is broken or has another size than its annotation."""
    bad = {}
    for file, (width, height) in zip(objects.files, objects.sizes.astype(int).tolist(), strict=True):
        try:
            checked_size(Path(file), (width, height), file)
        except SampleError as error:
            bad[file] = str(error)
    return bad


def bad_pixels(objects: Objects, skipped: Iterable[str], track: Track) -> dict[str, str]:
    """Return the reason by file for each image that can't be decoded, as training would report it.

    Args:
        objects: images of a split.
        skipped: files that needn't be decoded.
        track: shows progress.
    """
    known = set(skipped)
    todo = [
        (file, (height, width))
        for file, (width, height) in zip(objects.files, objects.sizes.astype(int).tolist(), strict=True)
        if file not in known
    ]
    pool = ThreadPoolExecutor(available_cores())  # OpenCV releases the interpreter lock
    try:
        reasons = track(pool.map(_fault, todo), description=f'Decoding images of {objects.split}', total=len(todo))
        return {file: reason for (file, _), reason in zip(todo, reasons, strict=True) if reason}
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C


def _fault(image: tuple[str, tuple[int, int]]) -> str | None:
    file, shape = image
    try:
        decode(Path(file).read_bytes(), file, shape)
    except (BadImageError, OSError) as error:
        return str(error)
    return None


def check_sizes(objects: Objects) -> Iterator[Finding]:
    """Yield images that are far smaller than the usual one of their split."""
    if not len(objects.sizes):
        return
    sides = objects.sizes.max(1)
    usual = np.median(sides)
    small = sides < usual / 8
    if small.any():
        text = f'{objects.split}: {small.sum()} images are less than an eighth of the usual size, {usual:.0f} px'
        items = [
            Item(objects.files[place], '{:.0f} x {:.0f} px'.format(*objects.sizes[place]))
            for place in np.flatnonzero(small).tolist()
        ]
        yield Finding('small images', 'note', text, items)


def check_background(objects: Objects) -> Iterator[Finding]:
    """Yield the images without objects, unless there is no object at all, which is refused."""
    empty = ~objects.annotated
    if empty.any() and not empty.all():
        items = [Item(objects.files[place]) for place in np.flatnonzero(empty).tolist()]
        text = f'{objects.split}: {len(items)} of {len(empty)} images have no objects; they count as background'
        yield Finding('images without objects', 'warning' if empty.mean() > 0.5 else 'note', text, items)


def check_unlisted(splits: Sequence[Objects], others: Iterable[str]) -> Iterator[Finding]:
    """Yield the images next to those of the dataset that no annotation names.

    Args:
        splits: images of all splits.
        others: other files that are known, such as those of bad samples.
    """
    known = {os.path.abspath(file) for objects in splits for file in objects.files}
    folders = sorted({os.path.dirname(file) for file in known})
    known |= {os.path.abspath(file) for file in others}
    unlisted = [Item(str(path)) for folder in folders for path in list_images(Path(folder)) if str(path) not in known]
    if unlisted:
        text = f'{len(unlisted)} images next to those of the dataset are in no annotation file; they are not used'
        yield Finding('images without annotations', 'note', text, unlisted)
