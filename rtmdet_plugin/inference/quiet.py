"""Show only results in the terminal; mmengine, mmdet and pycocotools print hundreds of other lines."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator

from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from rich.console import Console
from rich.progress import Progress


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress standard output and Python's warnings; log files remain complete."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


@contextlib.contextmanager
def show_warnings() -> Iterator[None]:
    """Show warnings and errors of mmengine's current logger on standard error, such as bad samples."""
    logger = MMLogger.get_current_instance()
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter('%(levelname)s: %(message)s'))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error if it is a terminal; give a function that takes the number of finished steps."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal) as bar:
        task = bar.add_task('Testing', total=total)
        yield lambda done: bar.update(task, completed=done)


class ProgressHook(Hook):
    """Report the number of batches that a Runner has tested.

    Args:
        report: function that takes this number.
    """

    def __init__(self, report: Callable[[int], None]) -> None:
        self.report = report

    def after_test_iter(self, runner: Runner, batch_idx: int, *args: object, **kwargs: object) -> None:
        """Report the number of tested batches."""
        self.report(batch_idx + 1)
