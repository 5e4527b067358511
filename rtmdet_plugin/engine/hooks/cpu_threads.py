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
        reason: number of threads and why, for the report before the first step; '' on other devices.
    """

    reason = ''

    def before_train(self, runner: Runner) -> None:
        """Choose the number of threads, unless a checkpoint has."""
        self._choose(runner)

    def before_val(self, runner: Runner) -> None:
        """Choose the number of threads, if this isn't a training."""
        self._choose(runner)

    def before_test(self, runner: Runner) -> None:
        """Choose the number of threads."""
        self._choose(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the number of threads."""
        checkpoint['meta'][KEY] = torch.get_num_threads()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Use the number of threads of the checkpoint if the run is resumed on a machine with as many cores."""
        threads = checkpoint.get('meta', {}).get(KEY)
        free_choice = on_cpu(runner) and 'OMP_NUM_THREADS' not in os.environ
        if runner._resume and free_choice and threads in range(1, available_cores() + 1):
            torch.set_num_threads(threads)
            self.reason = f'{threads}; as in the checkpoint, so that the run continues exactly'
            runner.logger.info(f'CPU threads: {self.reason}. OMP_NUM_THREADS changes this.')

    def _choose(self, runner: Runner) -> None:
        """Set PyTorch's number of threads once, and log it if it isn't PyTorch's default."""
        if self.reason or not on_cpu(runner):
            return
        threads = torch.get_num_threads()
        if 'OMP_NUM_THREADS' in os.environ:
            self.reason = f'{threads}; OMP_NUM_THREADS is set'
        elif threads == 1:
            self.reason = "1; PyTorch's default"
        elif (cores := measure_cores(SECONDS)).free >= threads:
            self.reason = f'{threads}; enough cores are free'
        else:
            torch.set_num_threads(cores.free)
            limit = f'{cores.available} may be used, ' if cores.available < cores.present else ''
            self.reason = f'{cores.free}; of {cores.present} cores, {limit}other programs use {cores.used:.1f}'
            runner.logger.info(f'CPU threads: {self.reason}. OMP_NUM_THREADS changes this.')


def on_cpu(runner: Runner) -> bool:
    """Return whether a run has weights, and has them on the CPU; a model that mmdeploy exported has none."""
    weight = next(unwrapped(runner).parameters(), None)
    return weight is not None and weight.device.type == 'cpu'
