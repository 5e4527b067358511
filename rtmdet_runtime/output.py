"""Result files that appear whole or not at all, and a look beforehand at whether they can be written."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path


def check_writable(path: Path) -> None:
    """See that a file can be written, before the work that it is for; nothing is left behind.

    Raises:
        OSError: where it is something else than a file, or its folder can't be made or written to.
    """
    if path.exists() and not path.is_file():
        raise OSError(f'{path} can not be written: it is no file; accepted: the name of a file')
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f'{path} can not be written: {folder}: {error.strerror}') from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under its name when all of it is there; its folder is made if need be, a link to it stays one.

    Raises:
        OSError: where it can't be written; a file that was there before is as it was.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, because a file moves in one step only within a file system.
    with tempfile.TemporaryDirectory(prefix='.unfinished-', dir=path.parent) as work:
        partial = Path(work) / path.name
        partial.write_bytes(content)
        os.replace(partial, path)


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all.

    Raises:
        OSError: see `write_whole`.
    """
    write_whole(path, (json.dumps(content, indent=1) + '\n').encode())
