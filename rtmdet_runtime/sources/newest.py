"""Read a live stream in a thread, so that images are current if they come faster than they are used."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator

from .item import Item, Problem

WAITING = 8
"""Number of images that may wait. It covers short delays: more of a fast stream, or a slow network's first call."""
LONGEST_END = 0.5
"""Seconds to wait for the current image when the stream is left; the next one may never come."""


def newest(entries: Generator[Item | Problem, None, None]) -> Generator[Item | Problem, None, None]:
    """Yield the images of a live stream in their order; when `WAITING` of them wait, skip them for the newest one.

    Without this, results of a stream that is faster than the network would be later and later.

    Args:
        entries: the stream, with a `Problem` only after the last image. It runs in a thread.
    """
    ready: queue.SimpleQueue[Item | Problem | BaseException | None] = queue.SimpleQueue()
    left = threading.Event()

    def work() -> None:
        try:
            with contextlib.closing(entries):
                for entry in entries:
                    if isinstance(entry, Item) and ready.qsize() >= WAITING:
                        with contextlib.suppress(queue.Empty):
                            while True:
                                ready.get_nowait()
                    ready.put(entry)
                    if left.is_set():
                        return
            ready.put(None)
        except BaseException as error:  # raised again in the other thread
            ready.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry
    finally:
        left.set()
        thread.join(LONGEST_END)
