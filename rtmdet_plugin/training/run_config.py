"""Run mmengine's Runner on the config of `rtmdet train`, in one process.

torchrun starts this module in a process for each GPU: `python -m rtmdet_plugin.training.run_config CONFIG`.
"""

from __future__ import annotations

import argparse
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import torch
from mmdet.utils import setup_cache_size_limit_of_dynamo

from ..checkpoints.latest import candidates
from ..checkpoints.load_model import load_config
from ..config.changes import apply_changes
from ..errors import log_traceback
from .live_line import TerminalRunner, live_line


def run_config(config_file: Path, *, resume: bool, changes: Sequence[str], launcher: str = 'none') -> None:
    """Train; a traceback of an error is written to the log.

    Args:
        config_file: config with a work directory.
        resume: whether to resume from the newest checkpoint of the work directory. Without one, because the run was
            killed before, it starts again.
        changes: changes of the config as `key=value`.
        launcher: 'none', or 'pytorch' in a process of torchrun.

    Raises:
        RefusedError: if the run is refused.
        SystemExit: after a signal.
    """
    setup_cache_size_limit_of_dynamo()
    os.environ.setdefault('LOCAL_RANK', '0')
    config = load_config(config_file)
    config.launcher = launcher
    apply_changes(config, changes, '--set')
    if config.get('visualizer'):  # mmengine reuses that of an earlier run in this process, with its folder, by its name
        config.visualizer.name = uuid.uuid4().hex
    if resume and candidates(config.work_dir):
        config.resume, config.load_from = True, None
    threads = torch.get_num_threads()
    try:
        runner = TerminalRunner.from_cfg(config)
        with live_line(runner):
            runner.train()
    except Exception as error:
        if (log := log_traceback(error)) and launcher == 'none':  # otherwise the excepthook prints it
            print(f'The traceback is in {log}', file=sys.stderr)
        raise
    finally:
        torch.set_num_threads(threads)  # RTMCPUThreadsHook sets another number


def main() -> None:
    """Read the arguments that `rtmdet train` passes through torchrun."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', type=Path)
    parser.add_argument('--resume', action='store_true')
    parser.add_argument('--set', dest='changes', action='append', default=[])
    args = parser.parse_args()
    run_config(args.config, resume=args.resume, changes=args.changes, launcher='pytorch')


if __name__ == '__main__':
    main()
