"""Show progress on standard error: a bar in a terminal; otherwise a line when a step begins."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from operator import length_hint

import click


@contextlib.contextmanager
def show_progress() -> Iterator[Callable[..., Iterable]]:
    """Give a function that yields items and shows how many are done: `track(items, description=...)`."""
    if not sys.stderr.isatty():
        yield _say
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        yield progress.track


def _say(items: Iterable, description: str, total: int | None = None) -> Iterable:
    count = length_hint(items) if total is None else total
    click.echo(f'{description}: {count}', err=True)
    return items
