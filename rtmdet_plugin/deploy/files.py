"""Outputs that appear whole or not at all, for programs that write files themselves, and for files that go together.

They aren't brought to the disk at once, as `checkpoints/atomic_file.py` does it with the state of a training: what was
lost in a power cut can be exported again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def unfinished(*paths: Path) -> Iterator[list[Path]]:
    """Paths to write to in place of `paths`; they are moved there at the end, unless an error comes before it.

    Args:
        paths: files or empty folders in one folder, which is made if need be. The last one is the one by which the
            others are found. Of several, it is removed before the first one moves, and moves last: a kill in between
            leaves no model, rather than an old graph with new weights.
    """
    folder = paths[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    # Beside them, because a file moves in one step only within a file system.
    work = Path(tempfile.mkdtemp(prefix='.unfinished-', dir=folder))
    try:
        yield [work / path.name for path in paths]
        if len(paths) > 1:
            paths[-1].unlink(missing_ok=True)
        for path in paths:
            os.replace(work / path.name, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """A folder to fill in place of `path`, see `unfinished`.

    Raises:
        FileExistsError: where there is something already; an empty folder is nothing.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f'{path} exists already and is not an empty folder')
    with unfinished(path) as (folder,):
        folder.mkdir()
        yield folder
