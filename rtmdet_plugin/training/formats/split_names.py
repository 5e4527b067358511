"""Tell from names which split of a dataset a file or folder is."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ...errors import RefusedError

_WORDS = dict(train='train', training='train', val='val', valid='val', validation='val', test='test', testing='test')
_PATTERN = re.compile(rf'(?<![a-z])({"|".join(_WORDS)})(?![a-z])')


def split_name(name: str) -> str | None:
    """Return 'train', 'val' or 'test' if a name such as `instances_val2017` has exactly one of them; else None."""
    found = {_WORDS[word] for word in _PATTERN.findall(name.lower())}
    return found.pop() if len(found) == 1 else None


def files_by_split(files: Iterable[Path], root: Path, kind: str) -> dict[str, Path]:
    """Return the annotation file of each split.

    A file without a split in its name or the name of its folder holds all images; it is returned as 'train'.

    Args:
        files: annotation files in `root` or its subfolders.
        root: folder of the dataset.
        kind: format, for the error.

    Raises:
        RefusedError: if several files belong to one split, or one file without a split is next to others.
    """
    found: dict[str | None, list[Path]] = {}
    for file in sorted(files):
        folder = file.parent.name if file.parent != root else ''
        found.setdefault(split_name(file.stem) or split_name(folder), []).append(file)
    for split, paths in found.items():
        # COCO's own archive has captions and keypoints of the same images; the boxes are in `instances_*.json`.
        found[split] = [path for path in paths if path.stem.startswith('instances')] or paths
    ambiguous = any(len(paths) > 1 for paths in found.values()) or (None in found and len(found) > 1)
    if ambiguous:
        names = ', '.join(str(path.relative_to(root)) for paths in found.values() for path in paths)
        raise RefusedError(
            f'{root} must have one {kind} file for all images, or one each for train, val and test, got {names}; '
            'give one of these files instead of the folder'
        )
    return {split or 'train': paths[0] for split, paths in found.items()}
