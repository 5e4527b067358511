"""A terminal that shows results: mmengine, mmdet and pycocotools print some hundred lines around them."""

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
    """Drop what is printed on standard output, and Python's warnings; a log file still gets what is logged."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


@contextlib.contextmanager
def show_warnings() -> Iterator[None]:
    """Show what mmengine's current logger reports as a warning or an error on standard error, such as bad samples."""
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
    """Show a bar on standard error if that is a terminal; the function that is given takes how many steps are done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal) as bar:
        task = bar.add_task('Testing', total=total)
        yield lambda done: bar.update(task, completed=done)


class ProgressHook(Hook):
    """Report the batches that a Runner has tested.

    Args:
        report: takes how many batches are done.
    """

    def __init__(self, report: Callable[[int], None]) -> None:
        self.report = report

    def after_test_iter(self, runner: Runner, batch_idx: int, *args: object, **kwargs: object) -> None:
        """Report how many batches are done."""
        self.report(batch_idx + 1)
