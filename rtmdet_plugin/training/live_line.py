"""What `rtmdet train` shows of a run: a live line in a terminal, otherwise mmengine's log without its longest messages.

The log file is complete in both cases.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

ONLY_IN_FILE = re.compile(
    r'\s*-*\s*System environment|Config:|paramwise_options|Hooks will be executed|.* will be deprecated in future'
    r'|Distributed training is not used'
)
"""Beginnings of messages that have hundreds of lines, or say nothing about the run."""
SHOWN_BY_LINE = re.compile(
    r'Epoch\(train\)|Epoch\(val\).* eta: |Exp name:|Saving checkpoint|The (previous )?best checkpoint'
    r'|Evaluating (bbox|segm)|(bbox|segm)_mAP_copypaste|(Epoch|Validation after epoch) \d+: 0 bad samples'
)
"""Beginnings of messages that say what the live line shows."""
AP = ('coco/segm_mAP', 'coco/bbox_mAP')
"""Metrics, of which the first one that is there is shown."""
SMOOTHED = 10
"""Number of steps over which times are averaged."""


class TerminalRunner(Runner):
    """mmengine's Runner that shows `ONLY_IN_FILE` only in the log file."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Return the logger of the run."""
        logger = super().build_logger(*args, **kwargs)
        for handler in terminal_handlers(logger):
            handler.addFilter(lambda record: not ONLY_IN_FILE.match(record.getMessage()))
        return logger


def terminal_handlers(logger: logging.Logger) -> list[logging.StreamHandler]:
    """Return the handlers that don't write to a file."""
    return [
        handler
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]


def terminal() -> Console | None:
    """Return a console for standard output if it is a terminal that can show a live line."""
    console = Console(file=sys.stdout)  # fixed, because a validation replaces sys.stdout
    return console if sys.stdout.isatty() and not console.is_dumb_terminal else None


@contextlib.contextmanager
def live_line(runner: Runner) -> Iterator[None]:
    """Show a live line while a run trains, if standard output is a terminal; other output is printed above it.

    Of several processes, only the first one shows it.

    Args:
        runner: a run that hasn't begun.
    """
    console = terminal()
    if console is None or not is_main_process():
        yield
        return
    bar = [BarColumn(10)] if console.width >= 110 else []
    columns = *bar, TextColumn('epoch {task.fields[epoch]} · {task.fields[text]}')
    # No refreshing thread: processes that load images are forked while it could hold the lock of standard output.
    progress = Progress(*columns, console=console, auto_refresh=False, redirect_stderr=sys.stderr.isatty())
    line = LiveLine(progress)
    with contextlib.ExitStack() as stack:
        line.attempt(progress.start)
        stack.callback(line.attempt, progress.stop)
        for handler in terminal_handlers(runner.logger):
            stack.callback(handler.setStream, handler.stream)
            handler.setStream(sys.stdout)  # now that of the progress bar
            handler.addFilter(_not_on_line)
            stack.callback(handler.removeFilter, _not_on_line)
        runner.register_hook(line, 'VERY_LOW')
        stack.callback(line.unmuted.close)
        yield


def _not_on_line(record: logging.LogRecord) -> bool:
    return not SHOWN_BY_LINE.match(record.getMessage())


class LiveLine(Hook):
    """Update a progress bar: epoch, loss, AP, images per second, share of the data time, time left, memory.

    Args:
        progress: bar whose columns use the fields `epoch` and `text`.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task('', total=None, epoch='', text='starting')
        self._scores: list[float] = []
        self._gone = False
        self.unmuted = contextlib.ExitStack()
        """Closing it shows standard output again, which a validation hides."""

    def before_val_epoch(self, runner: Runner) -> None:
        """Hide what pycocotools prints; the log has all of its numbers."""
        self.unmuted.enter_context(contextlib.redirect_stdout(io.StringIO()))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Show the numbers of the last steps."""
        logged = runner.message_hub.log_scalars
        if data_batch is None or not {'train/time', 'train/data_time'} <= logged.keys():  # of mmengine's timer
            return
        time, data_time = (logged[f'train/{name}'].mean(SMOOTHED) for name in ('time', 'data_time'))
        # RTMRuntimeInfoHook reads the loss from a GPU only in steps that are logged.
        loss = [f'loss {logged["train/loss"].current():.3f}'] if 'train/loss' in logged else []
        images = len(data_batch['inputs']) * runner.world_size
        left = timedelta(seconds=round(time * (runner.max_iters - runner.iter - 1)))
        parts = [*loss, *self._ap(), f'{left} left', f'{images / time:.1f} img/s', f'data {data_time / time:.0%}']
        self._show(runner, runner.iter + 1, ' · '.join([*parts, f'{_memory():.1f} GB']))

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Show how far the validation is."""
        parts = [f'validation {batch_idx + 1}/{len(runner.val_dataloader)}', *self._ap()]
        self._show(runner, runner.iter, ' · '.join(parts))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the AP."""
        self.unmuted.close()
        score = next((metrics[name] for name in AP if name in metrics), -1) if metrics else -1
        if score >= 0:  # it is -1 without objects
            self._scores.append(score)

    def _ap(self) -> list[str]:
        return [f'AP {self._scores[-1]:.3f} (best {max(self._scores):.3f})'] if self._scores else []

    def _show(self, runner: Runner, step: int, text: str) -> None:
        epoch = f'{min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}'
        self._progress.update(self._task, completed=step, total=runner.max_iters, epoch=epoch, text=text)
        self.attempt(self._progress.refresh)

    def attempt(self, draw: Callable[[], None]) -> None:
        """Draw, unless the terminal has gone or can't show the characters: that must not end the training."""
        if not self._gone:
            try:
                draw()
            except (OSError, ValueError):
                self._gone = True


def _memory() -> float:
    """Return the peak memory in GB: of the GPU, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == 'darwin' else 1024) / 1e9
