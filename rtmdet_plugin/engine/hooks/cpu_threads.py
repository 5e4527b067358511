"""Leave a core of the CPU to the processes that load images.

A training step is thousands of parallel regions, and each waits for its slowest thread. With as many threads as cores,
which is PyTorch's default, a thread that shares its core with a loader process delays all others: on two cores with a
loader and two other busy processes, a step of nano took 9.3 s with two threads and 2.1 s with one (0.85 s with two on
idle cores).
"""

from __future__ import annotations

import os

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .unwrapped import unwrapped


@HOOKS.register_module()
class RTMCPUThreadsHook(Hook):
    """Train on a CPU with one thread less than there are cores, if other processes load the images.

    The environment variable OMP_NUM_THREADS takes precedence. torchrun sets it to 1.
    """

    def before_train(self, runner: Runner) -> None:
        """Set PyTorch's number of threads, and log it."""
        workers = runner.train_dataloader.num_workers
        if 'OMP_NUM_THREADS' in os.environ or not workers or next(unwrapped(runner).parameters()).is_cuda:
            return
        threads = min(torch.get_num_threads(), max(1, available_cores() - 1))
        torch.set_num_threads(threads)
        runner.logger.info(
            f'CPU threads: {threads}; of {available_cores()} cores, one is left to the {workers} processes that load '
            'images. OMP_NUM_THREADS changes this.'
        )


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
