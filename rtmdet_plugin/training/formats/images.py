"""Find the folder of a dataset's images, and read their sizes from their headers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import imagesize

from rtmdet_runtime.image_files import UNSUPPORTED

from ...errors import RefusedError
from .split_names import split_name

PROBED = 50
"""Number of file names that are looked for in each candidate for an image folder."""


class SampleError(ValueError):
    """One image can't be used; the message names the file, and the line if there is one."""


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) in pixels as viewers show the image: rotated by its EXIF orientation.

    Raises:
        SampleError: if the file doesn't exist, or its header can't be read.
    """
    if path.suffix.lower() in UNSUPPORTED:
        raise SampleError(f'{path} must be an image that OpenCV can decode, got {path.suffix}; convert it to .jpg')
    if not path.is_file():
        raise SampleError(f'{path} must be an image, got no such file')
    try:
        width, height = imagesize.get(path, exif_rotation=True)
    except OSError as error:
        raise SampleError(f'{path} must be an image that can be read: {error.strerror or error}') from None
    except Exception as error:  # imagesize raises errors of any kind on damaged headers
        raise SampleError(f'{path} must be an image with a size in its header, got an error: {error}') from None
    if min(width, height) < 1:
        raise SampleError(f'{path} must be an image with a size in its header, got none')
    return width, height


def checked_size(path: Path, annotated: tuple[int, int], source: str) -> tuple[int, int]:
    """Return the annotated size of an image, or its own if the annotation has none.

    Args:
        path: image file.
        annotated: (width, height) in pixels; a value below 1 means that it isn't known.
        source: file, and line, of the annotation, for the error.

    Raises:
        SampleError: if the sizes differ, in either orientation, or the image can't be read.
    """
    found = image_size(path)
    if min(annotated) < 1:
        return found
    if sorted(found) != sorted(annotated):
        width, height = found
        raise SampleError(
            f'{source}: width and height must be those of the image {path}, {width}x{height}, got '
            f'{annotated[0]}x{annotated[1]}; otherwise its boxes would miss their objects'
        )
    return annotated


def subfolders(folder: Path, depth: int) -> list[Path]:
    """Return a folder and the folders in it down to a depth, sorted within each level; hidden ones are skipped."""
    if depth == 0 or not folder.is_dir():
        return [folder]
    inner = sorted(
        Path(entry.path) for entry in os.scandir(folder) if not entry.name.startswith('.') and entry.is_dir()
    )
    return [folder, *(place for path in inner for place in subfolders(path, depth - 1))]


def image_folder(names: Sequence[str], places: Iterable[Path], split: str, source: Path) -> Path:
    """Return the folder that the file names of a split are relative to.

    The folder with the most of the first names is taken; of several, one that is named like the split in the name of
    the annotation file, or else like the split, then the first.

    Args:
        names: file names as in the annotations.
        places: candidates in the order of preference; they and their subfolders, two levels deep, are searched.
        split: 'train', 'val' or 'test'.
        source: annotation file.

    Raises:
        RefusedError: if no candidate has any of the files.
    """
    candidates = list(dict.fromkeys(folder for place in places for folder in subfolders(place, 2)))
    probes = names[:PROBED]
    hits = {folder: sum((folder / name).is_file() for name in probes) for folder in candidates}
    wanted = split_name(source.stem) or split
    best = max(candidates, key=lambda folder: (hits[folder], split_name(folder.name) == wanted))
    if probes and not hits[best]:
        raise RefusedError(
            f'{source} must name images in {candidates[0]} or its subfolders, got {names[0]!r}, which is in none of '
            f'them; move the images there, or correct the names'
        )
    return best
