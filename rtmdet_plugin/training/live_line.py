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
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
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
    r'Epoch\((train|val)\)|Exp name:|Saving checkpoint|The (previous )?best checkpoint|Evaluating bbox'
    r'|bbox_mAP_copypaste|(Epoch|Validation after epoch) \d+: 0 bad samples'
)
"""Beginnings of messages that say what the live line shows."""
AP = 'coco/bbox_mAP'
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


@contextlib.contextmanager
def live_line(runner: Runner) -> Iterator[None]:
    """Show a live line while a run trains, if standard output is a terminal; other output is printed above it.

    Args:
        runner: a run that hasn't begun.
    """
    console = Console()
    if not console.is_terminal:
        yield
        return
    # No refreshing thread: processes that load images are forked while it could hold the lock of standard output.
    columns = TextColumn('epoch {task.fields[epoch]}'), BarColumn(10), TextColumn('{task.fields[text]}')
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        handlers = [(handler, handler.stream) for handler in terminal_handlers(runner.logger)]
        for handler, _ in handlers:
            handler.setStream(sys.stdout)  # now that of the progress bar
            handler.addFilter(_not_on_line)
        line = LiveLine(progress)
        runner.register_hook(line, 'VERY_LOW')
        try:
            yield
        finally:
            line.unmuted.close()
            for handler, stream in handlers:
                handler.setStream(stream)
                handler.removeFilter(_not_on_line)


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
        self.unmuted = contextlib.ExitStack()
        """Closing it shows standard output again, which a validation hides."""

    def before_val_epoch(self, runner: Runner) -> None:
        """Hide what pycocotools prints; the log has all of its numbers."""
        self.unmuted.enter_context(contextlib.redirect_stdout(io.StringIO()))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Show the numbers of the last steps."""
        logged = runner.message_hub.log_scalars
        time, data_time = (logged[f'train/{name}'].mean(SMOOTHED) for name in ('time', 'data_time'))
        # RTMRuntimeInfoHook reads the loss from a GPU only in steps that are logged.
        loss = [f'loss {logged["train/loss"].current():.3f}'] if 'train/loss' in logged else []
        images = runner.train_dataloader.batch_size * runner.world_size
        left = timedelta(seconds=round(time * (runner.max_iters - runner.iter - 1)))
        parts = [*loss, *self._ap(), f'{images / time:.1f} images/s', f'waiting for data {data_time / time:.0%}']
        self._show(runner, runner.iter + 1, ' · '.join([*parts, f'{left} left', f'{_memory():.1f} GB']))

    def after_val_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Show how far the validation is."""
        parts = [f'validation {batch_idx + 1}/{len(runner.val_dataloader)}', *self._ap()]
        self._show(runner, runner.iter, ' · '.join(parts))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep the AP."""
        self.unmuted.close()
        if metrics and AP in metrics:
            self._scores.append(metrics[AP])

    def _ap(self) -> list[str]:
        return [f'AP {self._scores[-1]:.3f} (best {max(self._scores):.3f})'] if self._scores else []

    def _show(self, runner: Runner, step: int, text: str) -> None:
        epoch = f'{min(runner.epoch + 1, runner.max_epochs)}/{runner.max_epochs}'
        self._progress.update(self._task, completed=step, total=runner.max_iters, epoch=epoch, text=text)
        self._progress.refresh()


def _memory() -> float:
    """Return the peak memory in GB: of the GPU, or of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == 'darwin' else 1024) / 1e9
