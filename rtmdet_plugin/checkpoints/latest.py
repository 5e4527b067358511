"""The checkpoint that `--resume` takes: the last one, or the newest older one that is whole.

mmengine takes whatever `last_checkpoint` names, and starts from scratch where there is no such file.
"""

import logging
import zipfile
from pathlib import Path

from mmengine.logging import print_log

from ..errors import RefusedError
from .atomic_file import write_atomically

POINTER = 'last_checkpoint'
INTERRUPTED = 'interrupted.pth'
"""Where a run that was asked to stop leaves its state."""
RESUMABLE = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
"""Files that hold a whole state of training; `best_*.pth` holds weights only."""
BEST = 'best_*.pth'


def latest_usable(work_dir: str | Path) -> str | None:
    """Path of the checkpoint to resume from, or None where the run has written none yet.

    Each damaged file on the way is named in a warning.

    Raises:
        RefusedError: if there are checkpoints and all of them are damaged.
    """
    named = pointed_to(work_dir)
    if named is not None and '://' in named:  # a storage that isn't a local disk; its reader will tell
        return named
    damaged = []
    for path in candidates(work_dir):
        problem = damage(path)
        if problem is None:
            if damaged:
                print_log(
                    f'Resuming from the newest checkpoint that is whole: {path}', 'current', level=logging.WARNING
                )
            return str(path)
        damaged.append(f'{path} ({problem})')
        print_log(f'Checkpoint not usable: {damaged[-1]}', 'current', level=logging.WARNING)
    if damaged:
        raise RefusedError(
            f'nothing to resume from in {work_dir}, not usable: {"; ".join(damaged)}. '
            'To start from scratch, choose another --work-dir'
        )
    return None


def candidates(work_dir: str | Path) -> list[Path]:
    """Checkpoints of a run, the one that `last_checkpoint` names first, then by age, the newest first."""
    folder, text = Path(work_dir), pointed_to(work_dir)
    named = []
    if text is not None:
        # The second is for a work_dir that was moved.
        named = [path for path in (Path(text), folder / Path(text).name) if path.exists()][:1] or [Path(text)]
    folders = dict.fromkeys([folder, *(path.parent for path in named)])
    others = {path.resolve(): path for place in folders for pattern in RESUMABLE for path in place.glob(pattern)}
    for path in named:
        others.pop(path.resolve(), None)
    return named + sorted(others.values(), key=lambda path: path.stat().st_mtime, reverse=True)


def left_by_earlier_run(folder: str | Path, filename_tmpl: str) -> list[Path]:
    """List the checkpoints in a folder that a new run there would replace, by name.

    Args:
        folder: the work directory, or the one that checkpoints go to.
        filename_tmpl: name of a checkpoint, with `{}` for the number of the epoch or step.
    """
    patterns = (*RESUMABLE, BEST, filename_tmpl.replace('{}', '*'))
    return sorted({path for pattern in patterns for path in Path(folder).glob(pattern)})


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None. All of it is read; torch itself checks no sums."""
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
            names = archive.namelist()
    except Exception as error:  # zipfile raises nearly anything on random bytes
        return str(error) or type(error).__name__
    if altered is not None:
        return f'{altered} in it was altered'
    if not any(name.endswith('/data.pkl') for name in names):
        return 'not written by torch.save'
    return None


def pointed_to(work_dir: str | Path) -> str | None:
    """What `last_checkpoint` names; None where it isn't there, or empty."""
    pointer = Path(work_dir) / POINTER
    return (pointer.read_text().strip() or None) if pointer.is_file() else None


def point_to(work_dir: str | Path, path: str | Path) -> None:
    """Let `last_checkpoint` name `path`."""
    write_atomically(Path(work_dir) / POINTER, str(path).encode())
