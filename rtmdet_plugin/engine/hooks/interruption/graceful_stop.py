"""Ctrl-C and SIGTERM (spot machines, schedulers): finish the step, save, end with the usual exit code.

The state goes to `interrupted.pth`, from which `--resume` goes on exactly; the next regular checkpoint removes it. In a
validation the run stops after the batch, and the validation is made up for first when the run goes on.
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
ONE_REQUEST = 1.0
"""Seconds within which several signals are one: a launcher passes on what a terminal has sent to everybody."""


@HOOKS.register_module()
class RTMGracefulStopHook(Hook):
    """Stop the training after the step in which SIGINT or SIGTERM came.

    A second Ctrl-C ends the run at once. With several processes all stop after the same step, whichever got the signal;
    they stop before a validation or after it, not within. A loop that can't go on within an epoch (mmengine's
    EpochBasedTrainLoop) stops at the epoch's end.

    Raises:
        SystemExit: with the code 130 (SIGINT) or 143 (SIGTERM).
    """

    priority = 'LOWEST'  # after everything that a step changes: EMA, schedulers, the regular checkpoint

    def __init__(self) -> None:
        self._signal = 0
        self._since = 0.0
        self._within_epoch = True
        self._group: Any = None
        self._handlers: dict[int, Any] = {}

    def before_train(self, runner: Runner) -> None:
        """From here on there is something to save."""
        loop = runner.train_loop
        self._within_epoch = isinstance(loop, RTMEpochBasedTrainLoop) or not isinstance(loop, EpochBasedTrainLoop)
        for loader in _loaders(runner):
            loader.worker_init_fn = OutliveSignals(loader.worker_init_fn)
        if get_world_size() > 1:
            # On the CPU, so that the GPUs' queues aren't waited for in each step.
            self._group = torch.distributed.new_group(backend='gloo')
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the place within the epoch, in regular checkpoints too."""
        if isinstance(runner.train_loop, RTMEpochBasedTrainLoop):
            checkpoint['meta'].update(runner.train_loop.place())

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Tell the loop where the epoch goes on; mmengine itself reads the counts of epochs and iterations."""
        loop = built_loops(runner).get('train')
        if runner._resume and isinstance(loop, RTMEpochBasedTrainLoop):
            loop.go_on_at(checkpoint.get('meta', {}))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Stop within the epoch, where no gradients wait to be accumulated."""
        between = self._within_epoch and runner.optim_wrapper.should_update()
        if between and not self.end_of_epoch(runner.train_dataloader, batch_idx) and self._asked():
            self._stop(runner, epoch=runner.epoch, iteration=runner.iter + 1)

    def before_train_epoch(self, runner: Runner) -> None:
        """Stop between two epochs."""
        if self._asked():
            self._stop(runner, epoch=runner.epoch, iteration=runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Stop between an epoch and its validation."""
        if self._asked():
            self._stop_validation(runner)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Stop within a validation; several processes may have different numbers of batches, and don't."""
        if self._group is None and self._signal:
            self._stop_validation(runner)

    def after_train(self, runner: Runner) -> None:
        """Signals mean again what they meant before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        """What happens when a signal comes: next to nothing, as it may come anywhere."""
        now = time.monotonic()
        if not self._signal:
            self._signal, self._since = number, now
            os.write(2, b'\nStopping after this step, with a checkpoint; Ctrl-C again stops at once, without.\n')
        elif number == signal.SIGINT and now - self._since > ONE_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _asked(self) -> bool:
        """Whether any process got a signal; all of them ask at the same moments."""
        if self._group is not None:
            number = torch.tensor(self._signal)
            torch.distributed.all_reduce(number, torch.distributed.ReduceOp.MAX, group=self._group)
            if agreed := int(number):  # not otherwise: a signal may have come while this process was waiting here
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
        """Save as of `epoch` and `iteration`, both counted in what is done, and end the process."""
        for hook in runner.hooks:
            if isinstance(hook, RTMRuntimeInfoHook):
                hook.hand_over(runner)
        path = Path(runner.work_dir, INTERRUPTED)
        meta = dict(epoch=epoch, iter=iteration)
        runner.save_checkpoint(runner.work_dir, INTERRUPTED, meta=meta, backend_args=ATOMIC)
        if is_main_process():
            point_to(runner.work_dir, path)
        if self._group is not None:
            torch.distributed.barrier(self._group)  # a launcher may end everybody when the first one ends
        name = signal.Signals(self._signal).name
        runner.logger.warning(f'{name}: stopped after iteration {iteration}; --resume goes on from {path}')
        for loader in _loaders(runner):
            restart_workers(loader)
        raise SystemExit(128 + self._signal)


@dataclass
class OutliveSignals:
    """A worker's first act: a signal to everybody is the main process's business, which ends its workers itself.

    Wraps the loader's own `worker_init_fn`. A worker whose main process is gone ends by itself.
    """

    init: Callable[[int], None] | None

    def __call__(self, worker_id: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # For SIGTERM, PyTorch has put its own handler in the place of the parent's; it ends a worker with exit code 0.
        if hasattr(signal, 'sigwaitinfo'):  # not on macOS
            # torchrun and schedulers send SIGTERM to whole groups. The thread sees who sent it, a handler doesn't.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            threading.Thread(target=_obey_the_parent_alone, daemon=True).start()
        if self.init is not None:
            self.init(worker_id)


def _obey_the_parent_alone() -> None:
    """Wait for a SIGTERM from the main process, and end with exit code 0, as PyTorch's own handler does.

    multiprocessing terminates the workers that are left when the main process ends. PyTorch takes a worker that was
    killed by a signal for a failed one, and raises an error in the main process.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _loaders(runner: Runner) -> list:
    loops = (runner.train_loop, runner.val_loop)
    return [loop.dataloader for loop in loops if loop is not None]
