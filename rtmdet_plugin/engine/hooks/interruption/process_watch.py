"""End a run with several processes if they would otherwise wait for each other forever.

torchrun's agent ends the other processes when one has ended, and so does `srun --kill-on-bad-exit=1`, which `mim train
--launcher slurm` uses. This hook needs neither, and reports which process ended. A process that hangs without ending is
detected by the backend's timeout, `env_cfg.dist_cfg.timeout` in seconds.
"""

import os
import socket
import time
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ....errors import RefusedError
from .lifeline import Address, Lifeline

GRACE_SECONDS = 30  # time for the main thread to end by itself, or to finish writing a file


@HOOKS.register_module()
class RTMProcessWatchHook(Hook):
    """End all processes if one has ended, and refuse a run whose processes have different numbers of batches.

    Does nothing in a single process.

    Raises:
        RefusedError: if the processes have different numbers of images or batches.
    """

    # After the checks that refuse a run in all processes alike.
    priority = 'LOW'

    def __init__(self) -> None:
        self._lifeline: Lifeline | None = None

    def before_run(self, runner: Runner) -> None:
        """Connect the processes."""
        if get_world_size() == 1:
            return
        self._logger = runner.logger
        self._lifeline = Lifeline(get_rank(), self._end)
        main = get_rank() == 0
        host = os.environ.get('MASTER_ADDR') or socket.gethostname()
        address: list[Any] = [self._lifeline.listen(host) if main else None]
        broadcast_object_list(address)
        if not main:
            try:
                self._lifeline.join(Address(*address[0]))
            except OSError as error:
                runner.logger.warning(
                    f'Process {get_rank()} cannot reach {address[0][0]}:{address[0][1]} ({error}). If a process '
                    'ends, the others will notice only after the timeout of the backend.'
                )

    def before_train(self, runner: Runner) -> None:
        """Compare the numbers of images and batches of all processes."""
        loader = runner.train_dataloader
        for what, count in (('images', len(loader.dataset)), ('batches', len(loader))):
            counts = all_gather_object(count)
            if len(set(counts)) > 1:
                raise RefusedError(
                    f'The processes have different numbers of training {what}, {counts} in the order of their ranks, '
                    'and would wait for each other forever. Use the same annotation file on all machines, and a '
                    'sampler that gives each process the same number (DefaultSampler with round_up=True).'
                )

    def after_run(self, runner: Runner) -> None:
        """Close the connections, because processes may end from now on."""
        if self._lifeline is not None:
            self._lifeline.close()

    def _end(self, lost: str) -> None:
        """End this process; its main thread may be waiting inside the backend, which no exception can interrupt."""
        self._logger.error(
            f'{lost[0].upper()}{lost[1:]}, and the others cannot continue without it. Check its output; a process that '
            'was killed prints none, and the cause is often memory (dmesg) or a time limit. Continue with --resume.'
        )
        time.sleep(GRACE_SECONDS)
        os._exit(1)
