"""On Ctrl-C or SIGTERM (spot machines, schedulers), finish the step, save, and exit with the usual exit code.

The state is saved to `interrupted.pth`, from which `--resume` continues exactly; the next regular checkpoint removes
that file. During a validation the run stops after the current batch, and the resumed run repeats the validation first.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed
from mmdet.registry import HOOKS
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ....checkpoints.latest import INTERRUPTED, point_to
from ...runner.epoch_based_train_loop import RTMEpochBasedTrainLoop
from ..built_loops import built_loops
from ..checkpoint import ATOMIC
from ..pipeline_switch import restart_workers
from ..runtime_info import RTMRuntimeInfoHook

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_REQUEST_SECONDS = 1.0
"""Signals within this time count as one: a launcher forwards a signal that the terminal has sent to all processes."""


@HOOKS.register_module()
class RTMGracefulStopHook(Hook):
    """Stop the training after the step in which SIGINT or SIGTERM arrives.

    A second Ctrl-C ends the run immediately. With several processes all stop after the same step, whichever received
    the signal; they stop before or after a validation, not during it. A loop that can't resume within an epoch
    (mmengine's EpochBasedTrainLoop) stops at the epoch's end.

    Raises:
        SystemExit: with the code 130 (SIGINT) or 143 (SIGTERM).
    """

    priority = 'LOWEST'  # after all hooks that act on a step: EMA, schedulers, the regular checkpoint

    def __init__(self) -> None:
        self._signal = 0
        self._since = 0.0
        self._within_epoch = True
        self._group: Any = None
        self._handlers: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """Install the signal handlers; from here on there is a state to save."""
        loop = runner.train_loop
        self._within_epoch = isinstance(loop, RTMEpochBasedTrainLoop) or not isinstance(loop, EpochBasedTrainLoop)
        for loader in _loaders(runner):
            loader.worker_init_fn = IgnoreGroupSignals(loader.worker_init_fn)
        if get_world_size() > 1:
            # On the CPU, to avoid waiting for the GPUs' queues in each step.
            self._group = torch.distributed.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            self._handlers = {number: signal.signal(number, self._on_signal) for number in SIGNALS}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save the position within the epoch, in regular checkpoints too."""
        if isinstance(runner.train_loop, RTMEpochBasedTrainLoop):
            checkpoint['meta'].update(runner.train_loop.position())

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore the position within the epoch; mmengine itself restores the numbers of epochs and iterations."""
        loop = built_loops(runner).get('train')
        if runner._resume and isinstance(loop, RTMEpochBasedTrainLoop):
            loop.resume_at(checkpoint.get('meta', {}))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop within the epoch, unless gradients are being accumulated."""
        between = self._within_epoch and runner.optim_wrapper.should_update()
        if between and not self.end_of_epoch(runner.train_dataloader, batch_idx) and self._stop_requested():
            self._stop(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def before_train_epoch(self, runner: Runner) -> None:
        """Stop between two epochs."""
        if self._stop_requested():
            self._stop(runner, epoch=runner.epoch, iteration=runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Stop between an epoch and its validation."""
        if self._stop_requested():
            self._stop_validation(runner)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop within a validation, but not with several processes, whose numbers of batches may differ."""
        if self._group is None and self._signal:
            self._stop_validation(runner)

    def after_train(self, runner: Runner) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: only record it, because it may interrupt any code."""
        now = time.monotonic()
        if not self._signal:
            self._signal, self._since = number, now
            os.write(2, b'\nStopping after this step, with a checkpoint; Ctrl-C again stops at once, without.\n')
        elif number == signal.SIGINT and now - self._since > SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _stop_requested(self) -> bool:
        """Return whether any process received a signal; all processes must call this at the same points."""
        if self._group is not None:
            number = torch.tensor(self._signal)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, group=self._group)
            if agreed := int(number):  # keep a signal that arrived while this process was waiting here
                self._signal = agreed
            return agreed != 0
        return self._signal != 0

    def _stop_validation(self, runner: Runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # the model holds the averaged weights during a validation
                hook.after_val_epoch(runner)
        if isinstance(runner.train_loop, RTMEpochBasedTrainLoop):
            runner.train_loop.validation_missed = True
        self._stop(runner, epoch=runner.epoch, iteration=runner.iter)

    def _stop(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Save a checkpoint and end the process.

        Args:
            runner: the run.
            epoch: number of finished epochs.
            iteration: number of finished iterations.
        """
        for hook in runner.hooks:
            if isinstance(hook, RTMRuntimeInfoHook):
                hook.flush(runner)
        path = Path(runner.work_dir, INTERRUPTED)
        meta = dict(epoch=epoch, iter=iteration)
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, backend_args=ATOMIC)
        if is_main_process():
            point_to(runner.work_dir, path)
        if self._group is not None:
            torch.distributed.barrier(self._group)  # a launcher may end all processes when the first one ends
        name = signal.Signals(self._signal).name
        runner.logger.warning(f'{name}: stopped after iteration {iteration}; --resume continues from {path}')
        for loader in _loaders(runner):
            restart_workers(loader)
        raise SystemExit(128 + self._signal)


@dataclass
class IgnoreGroupSignals:
    """A `worker_init_fn` that makes a worker ignore signals that are sent to its process group.

    The main process handles such signals, and ends its workers itself. A worker whose main process has ended ends by
    itself.

    Args:
        init: the loader's own `worker_init_fn`, which is called as well.
    """

    init: Callable[[int], None] | None

    def __call__(self, worker_id: int) -> None:
        """Set up the worker's signals; the loader calls this first in each worker."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # For SIGTERM, PyTorch has replaced the parent's handler with its own, which ends a worker with exit code 0.
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS
            # torchrun and schedulers send SIGTERM to process groups. A thread can find the sender, a handler can't.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_exit_on_sigterm_from_parent, daemon=True).start()
        if self.init is not None:
            self.init(worker_id)


def _exit_on_sigterm_from_parent() -> None:
    """Wait for a SIGTERM from the main process, and exit with code 0, as PyTorch's own handler does.

    multiprocessing terminates the remaining workers when the main process ends. PyTorch considers a worker that was
    killed by a signal as failed, and raises an error in the main process.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _loaders(runner: Runner) -> list:
    loops = (runner.train_loop, runner.val_loop)
    return [loop.dataloader for loop in loops if loop is not None]
