"""Choose the checkpoint that `--resume` loads: the last one, or the newest undamaged one before it.

mmengine loads the file that `last_checkpoint` names without checking it, and starts from scratch if `last_checkpoint`
is missing.
"""

import logging
import zipfile
from pathlib import Path

from mmengine.logging import print_log

from rtmdet_runtime.atomic_files import write_atomically

from ..errors import RefusedError

POINTER = 'last_checkpoint'
INTERRUPTED = 'interrupted.pth'
"""File in which an interrupted run saves its state."""
RESUMABLE = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
"""Files that hold a complete training state; `best_*.pth` holds weights only."""
BEST = 'best_*.pth'


def latest_usable(work_dir: str | Path) -> str | None:
    """Return the path of the checkpoint to resume from, or None if the run has written none yet.

    Each damaged file that is skipped is named in a warning.

    Raises:
        RefusedError: if there are checkpoints and all of them are damaged.
    """
    named = pointed_to(work_dir)
    if named is not None and '://' in named:  # not on a local disk: its loader reports any damage
        return named
    damaged = []
    for path in candidates(work_dir):
        problem = damage(path)
        if problem is None:
            if damaged:
                print_log(f'Resuming from the newest undamaged checkpoint: {path}', 'current', level=logging.WARNING)
            return str(path)
        damaged.append(f'{path} ({problem})')
        print_log(f'Skipped the damaged checkpoint {damaged[-1]}', 'current', level=logging.WARNING)
    if damaged:
        raise RefusedError(
            f'nothing to resume from in {work_dir}, because all its checkpoints are damaged: {"; ".join(damaged)}. '
            'To start from scratch, choose another --work-dir'
        )
    return None


def candidates(work_dir: str | Path) -> list[Path]:
    """List the checkpoints of a run: the one that `last_checkpoint` names, then the others from newest to oldest."""
    folder, text = Path(work_dir), pointed_to(work_dir)
    named = []
    if text is not None:
        # The second path covers a work directory that was moved.
        named = [path for path in (Path(text), folder / Path(text).name) if path.exists()][:1] or [Path(text)]
    folders = dict.fromkeys([folder, *(path.parent for path in named)])
    others = {path.resolve(): path for parent in folders for pattern in RESUMABLE for path in parent.glob(pattern)}
    for path in named:
        others.pop(path.resolve(), None)
    return named + sorted(others.values(), key=lambda path: path.stat().st_mtime, reverse=True)


def left_by_earlier_run(folder: str | Path, filename_tmpl: str) -> list[Path]:
    """List the checkpoints in a folder that a new run would replace, in alphabetical order.

    The best checkpoint of epoch 0 doesn't count: it has only the weights that the run started from.

    Args:
        folder: the work directory, or the directory that checkpoints are written to.
        filename_tmpl: name of a checkpoint, with `{}` for the number of the epoch or step.
    """
    patterns = (*RESUMABLE, BEST, filename_tmpl.replace('{}', '*'))
    found = {path for pattern in patterns for path in Path(folder).glob(pattern)}
    return sorted(path for path in found if not path.stem.endswith('_epoch_0'))


def damage(path: Path) -> str | None:
    """Describe what is wrong with a checkpoint, or return None.

    The complete file is read and its checksums are verified, which torch itself doesn't do.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
            names = archive.namelist()
    except Exception as error:  # zipfile raises nearly any exception on random bytes
        return str(error) or type(error).__name__
    if altered is not None:
        return f'its entry {altered} was altered'
    if not any(name.endswith('/data.pkl') for name in names):
        return 'not written by torch.save'
    return None


def pointed_to(work_dir: str | Path) -> str | None:
    """Return the path that `last_checkpoint` names, or None if that file is missing or empty."""
    pointer = Path(work_dir) / POINTER
    return (pointer.read_text().strip() or None) if pointer.is_file() else None


def point_to(work_dir: str | Path, path: str | Path) -> None:
    """Write `path` to `last_checkpoint`."""
    write_atomically(Path(work_dir) / POINTER, str(path).encode())
