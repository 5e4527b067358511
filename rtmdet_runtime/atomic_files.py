"""Write files atomically: if the process is killed or the disk is full, the old file or no file remains.

The content is written under another name in the same folder, because a rename is atomic only within a file system, and
renamed at the end. `write_atomically` is for the state of a training, which can't be recreated. `unfinished` is for
results, for other programs that write the files, and for files that belong together.
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
    """Write a file atomically and flush it to the disk, so that a power cut can't lose it.

    Args:
        path: file to write. Its folder is created if necessary; a link to a file is replaced with the file.
        content: content of the file.

    Raises:
        OSError: if it can't be written, for example because the disk is full; an earlier file is then unchanged.
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
    """Remove files that interrupted calls of `write_atomically` have left in a folder."""
    for partial in Path(folder).glob(f'.*{PARTIAL}'):
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush a rename to the disk; some file systems can't do this, which is ignored: the file is renamed anyway."""
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
    """Give temporary files to write; they are moved to `paths` at the end, unless there is an error before.

    They aren't flushed to the disk, because a result that a power cut loses can be created again.

    Args:
        paths: files in one folder, which is created if necessary. If a path is a link, its target is written. The last
            path must be the main file, which refers to the others: it is removed before the first file is moved, and
            moved last, so that a kill in between leaves no model instead of an old graph with new weights.

    Raises:
        OSError: see `check_writable`; before anything is written.
    """
    for path in paths:
        check_writable(path.resolve())
    with _moved_at_the_end(paths) as written:
        yield written


@contextlib.contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; it is moved to `path` at the end, see `unfinished`.

    Raises:
        FileExistsError: if `path` exists and isn't an empty folder.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f'{path} must be a new or an empty folder, got an existing one; choose another name')
    with _moved_at_the_end([path]) as (folder,):
        folder.mkdir()
        yield folder


@contextlib.contextmanager
def _moved_at_the_end(paths: Sequence[Path]) -> Iterator[list[Path]]:
    targets = [path.resolve() for path in paths]
    with naming(paths[-1]), contextlib.ExitStack() as stack:
        work = {folder: Path(stack.enter_context(_work_folder(folder))) for folder in {t.parent for t in targets}}
        written = [work[targets[0].parent] / path.name for path in paths]
        yield written
        ready = [work[target.parent] / path.name for path, target in zip(paths, targets, strict=True)]
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
    """Check that a file can be written, before its content is computed; the check leaves no file.

    Raises:
        OSError: if the path isn't a file, or its folder can't be created or written to.
    """
    try:
        exists = path.stat() is not None
    except (FileNotFoundError, NotADirectoryError):
        exists = False
    except OSError as error:  # a link to itself, a folder that can't be entered
        raise OSError(f'{path} can not be written: {error.strerror}') from None
    if exists and not path.is_file():
        raise OSError(f'{path} can not be written: it must be a file, got something else; choose another name')
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
    """Add the name of the file to the error of a full disk, which has none.

    Raises:
        OSError: with the name of the file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(f'{path} can not be written: {error.strerror}') from None
