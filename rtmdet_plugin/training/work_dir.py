"""The work directory of `rtmdet train`: a new, numbered folder with the short config and the written annotations."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

INPUT = 'input'
"""Folder in the work directory with the short config and the written annotations.

mmengine writes the complete config to the work directory under the same name, and would replace the short one there.
"""


@contextlib.contextmanager
def new_work_dir(name: str) -> Iterator[Path]:
    """Create `work_dirs/NAME_N` with the first free number, and give its absolute path.

    It is removed again if there is an error in the `with` block.

    Raises:
        OSError: if it or a file in it can't be written; the message names it.
    """
    root = Path('work_dirs').resolve()
    try:
        existed = root.exists()
        folder = _first_free(root, re.sub(r'[^\w-]+', '_', name).strip('_') or 'run')
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            if not existed:
                with contextlib.suppress(OSError):  # another run uses it by now
                    root.rmdir()
            raise
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            f'{root} can not be written: {reason}; free space, change its permissions, or run the command in another '
            'folder'
        ) from None


def _first_free(root: Path, name: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = root / f'{name}_{number}'
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def short_config(work_dir: Path) -> Path:
    """Return the file of the short config in a work directory."""
    return work_dir / INPUT / f'{work_dir.name}.py'


def config_of_run(work_dir: Path) -> Path:
    """Return the complete config that mmengine wrote to a work directory, or the short one if the run never began."""
    for file in (work_dir / f'{work_dir.name}.py', short_config(work_dir)):
        if file.is_file():
            return file
    raise FileNotFoundError(
        f'{work_dir}: no work directory of `rtmdet train`, which has {INPUT}/{work_dir.name}.py; with --resume, give '
        'the work directory instead of the data'
    )
