"""Find the config and the best checkpoint in the work directory of a training."""

from __future__ import annotations

from pathlib import Path

from .latest import BEST, POINTER, damage, latest_usable


def is_work_dir(folder: Path) -> bool:
    """Return whether a training has written checkpoints to a folder."""
    return (folder / POINTER).is_file() or any(folder.glob(BEST))


def config_of_work_dir(folder: Path) -> Path:
    """Return the complete config that mmengine wrote to a work directory.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several.
    """
    files = sorted(folder.glob('*.py'))
    if not files:
        raise FileNotFoundError(
            f'{folder} must be the work directory of a training, which has its config, got no file that ends in .py'
        )
    if len(files) > 1:
        raise ValueError(
            f'{folder} must have one config, got {", ".join(file.name for file in files)}; choose one with --config'
        )
    return files[0]


def best_or_last(folder: Path) -> Path:
    """Return the checkpoint with the best validation, of several metrics the newest; else the last checkpoint.

    Damaged files are skipped.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        RefusedError: if all of them are damaged.
    """
    best = sorted(folder.glob(BEST), key=lambda path: path.stat().st_mtime, reverse=True)
    found = next((path for path in best if damage(path) is None), None) or latest_usable(folder)
    if found is None:
        raise FileNotFoundError(f'{folder} must have a checkpoint ({BEST}, epoch_*.pth), got none')
    return Path(found)
