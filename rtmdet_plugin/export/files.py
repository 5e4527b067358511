"""Outputs that appear whole or not at all, for programs that write files themselves, and for files that go together.

They aren't brought to the disk at once, as `checkpoints/atomic_file.py` does it with the state of a training: what was
lost in a power cut can be exported again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rtmdet_runtime.output import check_writable, naming


@contextlib.contextmanager
def unfinished(*paths: Path) -> Iterator[list[Path]]:
    """Files to write in place of `paths`; they are moved there at the end, unless an error comes before it.

    Args:
        paths: files in one folder, which is made if need be; a link stays one, and what it leads to is written. The
            last one is the one by which the others are found. Of several, it is removed before the first one moves, and
            moves last: a kill in between leaves no model, rather than an old graph with new weights.

    Raises:
        OSError: see `check_writable`; before anything is written.
    """
    for path in paths:
        check_writable(path.resolve())
    with _moved_at_the_end(paths) as written:
        yield written


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """A folder to fill in place of `path`, see `unfinished`.

    Raises:
        FileExistsError: where there is something already; an empty folder is nothing.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f'{path} exists already and is not an empty folder')
    with _moved_at_the_end([path]) as (folder,):
        folder.mkdir()
        yield folder


@contextlib.contextmanager
def _moved_at_the_end(paths: Sequence[Path]) -> Iterator[list[Path]]:
    targets = [path.resolve() for path in paths]
    with naming(paths[-1]), contextlib.ExitStack() as stack:
        # Beside them, because a file moves in one step only within a file system.
        beside = {folder: Path(stack.enter_context(_work_folder(folder))) for folder in {t.parent for t in targets}}
        written = [beside[targets[0].parent] / path.name for path in paths]
        yield written
        ready = [beside[target.parent] / path.name for path, target in zip(paths, targets, strict=True)]
        for source, target in zip(written, ready, strict=True):
            if source != target:
                shutil.move(source, target)
        if len(targets) > 1:
            targets[-1].unlink(missing_ok=True)
        for source, target in zip(ready, targets, strict=True):
            os.replace(source, target)


def _work_folder(folder: Path) -> tempfile.TemporaryDirectory:
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix='.unfinished-', dir=folder, ignore_cleanup_errors=True)
