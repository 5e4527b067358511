"""Find image files in folders and by patterns, without a list of all of them."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..image_files import ENDINGS, is_image
from .item import Problem

SORTED_AT_ONCE = 10_000
"""Number of names that are sorted together. A folder with more is read in parts, each of which is sorted."""


def images_in(folder: Path, recursive: bool, outputs: Iterable[Path] = ()) -> Iterator[Path | Problem]:
    """Yield the images in a folder, those of its subfolders after its own; hidden ones are skipped.

    A subfolder that can't be read gives a `Problem`.

    Args:
        folder: the folder.
        recursive: read its subfolders too.
        outputs: see `outputs_in`.

    Raises:
        ValueError: at the end, if there were none.
        OSError: if the folder can't be read.
    """
    found = False
    for path in _walk(folder, recursive, outputs_in(folder, outputs), set()):
        found = True
        yield path
    if not found:
        advice = '' if recursive else '; --recursive (recursive=True) reads its subfolders too'
        raise ValueError(f'{folder} must be a folder with images ({", ".join(sorted(ENDINGS))}), got none{advice}')


def _walk(folder: Path, recursive: bool, outputs: set[Path], seen: set[tuple[int, int]]) -> Iterator[Path | Problem]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:  # a link to a folder above
        return
    seen.add((status.st_dev, status.st_ino))
    subfolders = []
    with os.scandir(folder) as entries:
        visible = (entry for entry in entries if not entry.name.startswith('.'))
        for part in _sorted_parts(visible):
            for entry in part:
                if _is_folder(entry):
                    subfolders.append(entry.name)
                elif is_image(entry.name):
                    yield Path(entry.path)
    if recursive:
        for name in subfolders:
            try:
                if (folder / name).resolve() not in outputs:
                    yield from _walk(folder / name, recursive, outputs, seen)
            except OSError as error:
                yield Problem(error)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; if it has the name of an image, reading it gives the error
        return False


def outputs_in(folder: Path, outputs: Iterable[Path]) -> set[Path]:
    """Return the folders to skip in a folder: those for outputs, unless they contain the folder itself."""
    place = folder.resolve()
    return {path.resolve() for path in outputs} - {place, *place.parents}


def _sorted_parts(entries: Iterable[os.DirEntry]) -> Iterator[list[os.DirEntry]]:
    entries = iter(entries)
    while part := list(itertools.islice(entries, SORTED_AT_ONCE)):
        yield sorted(part, key=lambda entry: entry.name)


def is_pattern(name: str) -> bool:
    """Return whether a name is a pattern such as `images/*.jpg` or `images/**/*.png`, and no existing file."""
    return glob.has_magic(name) and not os.path.exists(name)


def matches(pattern: str, outputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield the files that a pattern matches, `**` in any folder; the names of a part are sorted, see above.

    Args:
        pattern: the pattern.
        outputs: see `outputs_in`.

    Raises:
        ValueError: at the end, if there were none.
    """
    found = False
    skipped = outputs_in(root_of(pattern), outputs)
    names = glob.iglob(pattern, recursive=True)
    while part := sorted(itertools.islice(names, SORTED_AT_ONCE)):
        for name in part:
            if os.path.isfile(name) and (not skipped or skipped.isdisjoint(Path(name).resolve().parents)):
                found = True
                yield Path(name)
    if not found:
        raise ValueError(f'{pattern} must match at least one file, got none')


def root_of(pattern: str) -> Path:
    """Return the folder that all files of a pattern are in."""
    parts = Path(pattern).parts
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), parts[:-1]))
