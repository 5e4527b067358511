"""Leave the cores of the CPU to other programs that use them.

A training step is thousands of parallel regions, and each waits for its slowest thread. With as many threads as cores,
which is PyTorch's default, a thread that shares its core with another process delays all others. Two cores, step of
tiny with batch 4 and two processes that load images: 2.3 s with two threads on idle cores; with one core busy, 5.9 s
with two threads and 3.2 s with one (benchmarks/training.py). The processes that load images get no core of their own:
they use a tenth of one, and on idle cores a step with one thread takes 3.7 s.
"""

from __future__ import annotations

import os

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from rtmdet_runtime.cpu_cores import available_cores, measure_cores

from .unwrapped import unwrapped

SECONDS = 0.5
"""Time over which the use of the cores is measured."""
KEY = 'cpu_threads'
"""Name of the number of threads in the `meta` of a checkpoint."""


@HOOKS.register_module()
class RTMCPUThreadsHook(Hook):
    """Run a model on the CPU with as many threads as cores are free when the run starts.

    A resumed run has the number of threads of its checkpoint, because another one would change the last bits of the
    results. The environment variable OMP_NUM_THREADS takes precedence. torchrun sets it to 1.

    Attributes:
        reason: number of threads and why, for the report before the first step; '' if it isn't chosen here.
    """

    reason = ''

    def before_run(self, runner: Runner) -> None:
        """Set PyTorch's number of threads, and log it."""
        if not chosen_here(runner) or torch.get_num_threads() == 1:
            return
        cores = measure_cores(SECONDS)
        if cores.free < cores.available:
            threads = min(torch.get_num_threads(), cores.free)
            self._set(runner, threads, f'other programs use {cores.used:.1f} of {cores.available} cores')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the number of threads."""
        checkpoint['meta'][KEY] = torch.get_num_threads()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Use the number of threads of the checkpoint if the run is resumed on a machine with as many cores."""
        threads = checkpoint.get('meta', {}).get(KEY)
        if runner._resume and chosen_here(runner) and threads in range(1, available_cores() + 1):
            self._set(runner, threads, 'as in the checkpoint, so that the run continues exactly')

    def _set(self, runner: Runner, threads: int, reason: str) -> None:
        torch.set_num_threads(threads)
        self.reason = f'{threads}; {reason}'
        runner.logger.info(f'CPU threads: {self.reason}. OMP_NUM_THREADS changes this.')


def chosen_here(runner: Runner) -> bool:
    """Return whether the number of threads of a run matters, and isn't chosen by the user."""
    return 'OMP_NUM_THREADS' not in os.environ and not next(unwrapped(runner).parameters()).is_cuda
