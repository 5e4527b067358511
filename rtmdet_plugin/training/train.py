"""Train on a folder: prepare a run, and run mmengine's Runner on it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from rtmdet_plugin_startup import call_and_wait

from ..checkpoints.work_dir import best_or_last
from ..report.write import report_training
from .options import Options
from .prepare import Prepared, prepare
from .run_config import run_config


def train(data: str | Path, *, dry_run: bool = False, **options: Any) -> Path:
    """Train a detector on a dataset, like the command `rtmdet train`.

    Prints what was chosen and why, and the `mim` command that does the same run.

    Args:
        data: a folder, a data.yaml, an annotation file, or a config; with `resume`, the work directory of a run.
        dry_run: whether to stop after writing the config; missing weights are downloaded before.
        options: fields of `Options`.

    Returns:
        The work directory.

    Raises:
        FileNotFoundError: if a file doesn't exist.
        RefusedError: if the data can't be used, an option has a wrong value, or the run is refused.
        SystemExit: if the run is stopped by a signal, after its state has been saved.
        TypeError: if there is no such option.
    """
    prepared = prepare(data, Options(**options))
    print(f'{prepared.report}\n\nThe same run with mim:\n\n    {prepared.command}\n', flush=True)
    if not dry_run:
        run(prepared)
        report_training(prepared.work_dir)
        with contextlib.suppress(OSError, ValueError):  # a config may save none
            best = best_or_last(prepared.work_dir)
            print(f'Checkpoint: {best}')
            if best.stem.endswith('_epoch_0'):
                print('No epoch was better than the weights that the training started from.')
    return prepared.work_dir


def run(prepared: Prepared) -> None:
    """Run a prepared training: in this process, or with torchrun if it has several GPUs.

    Raises:
        RefusedError: if the run is refused.
        SystemExit: after a signal, or if a process of several has failed.
    """
    options = prepared.options
    if options.gpus == 1:
        run_config(prepared.config, resume=options.resume, changes=options.changes)
        return
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={options.gpus}']
    command += ['-m', run_config.__module__, str(prepared.config)]
    command += ['--resume'] if options.resume else []
    call_and_wait([*command, *(word for change in options.changes for word in ('--set', change))])
