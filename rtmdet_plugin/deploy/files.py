"""Output files that appear whole or not at all."""

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
        paths: files in one folder, which is made if need be. The last one is the one by which the others are found.
            Of several, it is removed before the first one moves, and moves last: a kill in between leaves no model,
            rather than an old graph with new weights.
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
