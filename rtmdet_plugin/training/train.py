"""Train on a folder: prepare a run, and run mmengine's Runner on it."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import torch

from rtmdet_plugin_startup import call_and_wait

from ..checkpoints.latest import candidates
from ..checkpoints.load_model import load_config
from ..checkpoints.work_dir import best_or_last
from ..config.changes import apply_changes
from ..errors import log_traceback
from ..report.write import report_training
from .options import Options
from .prepare import Prepared, prepare


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

    A traceback of an error is written to the log.

    Raises:
        RefusedError: if the run is refused.
        SystemExit: after a signal, or if a process of several has failed.
    """
    if prepared.options.gpus > 1:
        _run_with_torchrun(prepared)
        return
    from mmdet.utils import setup_cache_size_limit_of_dynamo

    from .live_line import TerminalRunner, live_line

    setup_cache_size_limit_of_dynamo()
    os.environ.setdefault('LOCAL_RANK', '0')
    config = load_config(prepared.config)
    config.launcher = 'none'
    apply_changes(config, prepared.options.changes, '--set')
    if config.get('visualizer'):  # mmengine reuses that of an earlier run in this process, with its folder, by its name
        config.visualizer.name = uuid.uuid4().hex
    if prepared.options.resume and candidates(prepared.work_dir):  # otherwise it was killed before its first checkpoint
        config.resume, config.load_from = True, None
    threads = torch.get_num_threads()
    try:
        runner = TerminalRunner.from_cfg(config)
        with live_line(runner):
            runner.train()
    except Exception as error:
        if log := log_traceback(error):
            print(f'The traceback is in {log}', file=sys.stderr)
        raise
    finally:
        torch.set_num_threads(threads)  # RTMCPUThreadsHook sets another number


def _run_with_torchrun(prepared: Prepared) -> None:
    """Start mmdet's training script in a process for each GPU."""
    import mmdet

    options = prepared.options
    script = Path(str(mmdet.__file__)).parent / '.mim' / 'tools' / 'train.py'
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={options.gpus}']
    command += [str(script), str(prepared.config), '--launcher', 'pytorch']
    command += ['--resume'] if options.resume else []
    call_and_wait(command + (['--cfg-options', *options.changes] if options.changes else []))
