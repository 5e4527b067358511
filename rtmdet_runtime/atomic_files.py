"""Files that are written atomically: a kill or a full disk at any moment leaves the old file, or none.

The content is written to another name in the same folder, because a file moves in one step only within a file system,
and renamed at the end. `write_atomically` is for the state of a training, which can't be made again; `unfinished` for
results, for programs that write files themselves, and for files that belong together.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PARTIAL = '.partial'


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file atomically and bring it to the disk, so that a power cut can't lose it.

    Args:
        path: the file to write; its folder is made if need be, and a link to a file is replaced by the file.
        content: all of the file.

    Raises:
        OSError: if it can't be written, such as on a full disk; a file that was there before stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}{PARTIAL}')
    try:
        with open(partial, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before the rename, or a power cut could leave the new name without its content
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_partial_files(folder: str | Path) -> None:
    """Remove what killed calls of `write_atomically` have left in a folder."""
    for partial in Path(folder).glob(f'.*{PARTIAL}'):
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Bring a rename to the disk; some file systems can't, and the rename is in place anyway."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unfinished(*paths: Path) -> Iterator[list[Path]]:
    """Give files to write in place of `paths`; they are moved there at the end, unless an error comes before it.

    They aren't brought to the disk at once: what a power cut loses can be made again.

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
    """Give a folder to fill in place of `path`; see `unfinished`.

    Raises:
        FileExistsError: if there is something already; an empty folder is nothing.
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


def check_writable(path: Path) -> None:
    """See that a file can be written, before the work that it is for; nothing is left behind.

    Raises:
        OSError: if it is something else than a file, or its folder can't be made or written to.
    """
    try:
        exists = path.stat() is not None
    except (FileNotFoundError, NotADirectoryError):
        exists = False
    except OSError as error:  # a link to itself, a folder that can't be entered
        raise OSError(f'{path} can not be written: {error.strerror}') from None
    if exists and not path.is_file():
        raise OSError(f'{path} can not be written: it is no file, but must be one; choose another name')
    if exists and not os.access(path, os.W_OK):
        raise OSError(f'{path} can not be written: it is write-protected')
    folder = next(parent for parent in path.resolve().parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f'{path} can not be written: {folder}: {error.strerror}') from None


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Give an error of a full disk, which knows no name, that of the file that was being written.

    Raises:
        OSError: it names the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(f'{path} can not be written: {error.strerror}') from None
