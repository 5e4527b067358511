"""Files that appear whole or not at all.

The content is written beside its target under another name, brought to the disk, and renamed: a kill or a full disk at
any moment leaves the old file, or none. For the state of a training, which is lost otherwise; what an export writes
through programs that write files themselves is `export/files.py`'s.
"""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

PARTIAL = '.partial'


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write `content` to `path`, whose folder is made where it isn't there.

    Raises:
        OSError: where it can't be written, such as on a full disk; `path` is as it was then.
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
    """Remove what writes that were killed have left in `folder`."""
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


@register_backend('rtm_atomic')
class AtomicLocalBackend(LocalBackend):
    """mmengine's backend for local files, with writes that are whole or not at all: `backend_args` of a hook."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj` to `filepath`; see `write_atomically`."""
        write_atomically(filepath, obj)
