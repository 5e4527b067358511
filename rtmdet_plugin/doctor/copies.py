"""Find images that are copies of another one, within a split and across splits."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ..training.similar_images import similar_groups
from .finding import Finding, Item
from .objects import Objects

END = 4096
"""Number of bytes at the end of a file that are compared before its content; the first bytes are often a header."""


class Relation(NamedTuple):
    """How images are related, and what it means within a split and across splits."""

    text: str
    item: str
    """The same, in the text of an item."""
    within: tuple[str, Literal['warning', 'note']]
    """Kind and severity."""
    across: tuple[str, Literal['error', 'warning']]
    effect: str
    """What an image in two splits means."""


COPY = Relation(
    'have the same content as', 'copy of', ('duplicates', 'warning'), ('leak', 'error'), 'AP will be too high'
)
SIMILAR = Relation(
    'look like', 'looks like', ('near-duplicates', 'note'), ('near-leak', 'warning'), 'AP may be too high'
)


def check_copies(splits: Sequence[Objects]) -> Iterator[Finding]:
    """Yield images with exactly the same content."""
    files = [file for objects in splits for file in objects.files]
    yield from _findings(same_content(files), splits, COPY)


def check_similar(splits: Sequence[Objects]) -> Iterator[Finding]:
    """Yield images that look alike, by their thumbnails; copies with exactly the same content are left out."""
    files = [file for objects in splits for file in objects.files]
    sides = [int(side) for objects in splits for side in objects.sizes.min(1)]
    copies = {place for group in same_content(files) for place in group[1:]}
    kept = [place for place in range(len(files)) if place not in copies]
    numbers = similar_groups([Path(files[place]) for place in kept], [sides[place] for place in kept])
    groups: dict[int, list[int]] = {}
    for place, number in zip(kept, numbers.tolist(), strict=True):
        groups.setdefault(number, []).append(place)
    yield from _findings(groups.values(), splits, SIMILAR)


def same_content(files: Sequence[str]) -> list[list[int]]:
    """Return groups of places of files with the same content; files that can't be read are left out.

    Files are told apart by their size, then by their last bytes, and only then by their content.
    """
    status = {}
    for place, file in enumerate(files):
        with contextlib.suppress(OSError):
            status[place] = os.stat(file)
    keys: list[Callable[[int], Hashable]] = [
        lambda place: status[place].st_size,
        lambda place: _digest(files[place], max(0, status[place].st_size - END)),
        lambda place: _digest(files[place]),
    ]
    groups, found = [list(status)], []
    for key in keys:
        groups = [part for group in groups for part in _split(group, key)]
        # Links to one file need not be read.
        links = [len({(status[place].st_dev, status[place].st_ino) for place in group}) == 1 for group in groups]
        found += [group for group, linked in zip(groups, links, strict=True) if linked]
        groups = [group for group, linked in zip(groups, links, strict=True) if not linked]
    return found + groups


def _split(group: list[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Return the parts of a group that agree in a key and have several members; unreadable files are left out."""
    parts: dict[Hashable, list[int]] = {}
    for place in group:
        with contextlib.suppress(OSError):
            parts.setdefault(key(place), []).append(place)
    return [part for part in parts.values() if len(part) > 1]


def _digest(file: str, start: int = 0) -> bytes:
    """Return the hash of a file from `start` on."""
    digest = hashlib.blake2b(digest_size=16)
    with open(file, 'rb') as content:
        content.seek(start)
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.digest()


def _findings(groups: Iterable[list[int]], splits: Sequence[Objects], relation: Relation) -> Iterator[Finding]:
    """Yield a finding for each split, and for each pair of splits, in which an image is related to the first one."""
    files = [(objects.split, file) for objects in splits for file in objects.files]
    related: dict[tuple[str, str], list[Item]] = {}
    for group in groups:
        first_split, first = files[group[0]]
        for split, file in (files[place] for place in group[1:]):
            related.setdefault((first_split, split), []).append(Item(file, f'{relation.item} {first}', other=first))
    for (first_split, split), items in related.items():
        count = f'{len(items)} images {relation.text}'
        if split == first_split:
            kind, severity = relation.within
            yield Finding(kind, severity, f'{split}: {count} another one', items)
        else:
            kind, severity = relation.across
            yield Finding(kind, severity, f'{split}: {count} one of {first_split}, so {relation.effect}', items)
