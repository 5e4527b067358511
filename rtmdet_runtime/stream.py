"""Run a detector on a stream of images: reading, network and the use of its results overlap, and keep their order.

Each step runs in a thread and is a few batches ahead of the next one, so memory doesn't grow with the stream. Steps
between reading and writing, such as tracking or tiling, take and give the same iterators.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from .choices import TILE_OVERLAP
from .detections import Detections
from .image import Placement
from .messages import needed_by
from .sources.item import Item, Problem
from .tiles import TiledDetector
from .tracking import tracked, with_low_scores

if TYPE_CHECKING:
    from .backends import Backend
    from .detector import RTMDetector

T = TypeVar('T')
Result = tuple[Item, Detections]
AHEAD = 1
"""Number of batches that wait between two steps. Each holds its decoded images, which may be large."""
LONG = 16
"""Number of images after which several calls of the network run at a time. For them, the model is opened again, which
takes as long as a few calls. Later streams of the detector start so."""
MAX_PROBLEMS = 64
"""Number of problems after which a group is yielded before it has all of its images."""
POLL = 0.1
"""Seconds after which a step that waits looks whether it shall end."""
LONGEST_READ, LONGEST_CALL = 0.5, 10.0
"""Seconds to wait for the current work of a step when the stream ends early: reading may wait for a camera or standard
input forever, but the process must not end while a backend computes."""


@dataclass
class Batch:
    """Images for one call of the network, with the problems between them."""

    entries: list[Item | Problem]
    inputs: np.ndarray
    placements: list[Placement]

    @property
    def live(self) -> bool:
        """Whether an image is from a camera, so that each result is wanted as soon as possible."""
        return any(isinstance(entry, Item) and entry.video is not None and entry.video.live for entry in self.entries)


def find(
    detector: RTMDetector,
    items: Iterator[Item | Problem],
    batch_size: int,
    tile: int | None = None,
    overlap: float = TILE_OVERLAP,
    track: bool = False,
) -> Generator[Result | Problem, None, None]:
    """Yield each image with its detections, and each problem, in their order.

    Args:
        detector: the model.
        items: images of `read_sources`.
        batch_size: number of images or tiles that the network gets at once; ignored if the model has a fixed batch
            size.
        tile: width and height of tiles in pixels, see `TiledDetector`; None for complete images.
        overlap: minimum share of a tile that it has in common with the next one.
        track: follow the objects, see `tracked`.

    Raises:
        ImportError, ValueError: see `TiledDetector` and `tracked`.
    """
    if track:
        with needed_by('tracking'):  # before anything is computed or written
            import trackers  # noqa: F401
    used = with_low_scores(detector) if track else detector
    if tile is None:
        results = detect(used, items, batch_size)
    else:
        results = detect_in_tiles(TiledDetector(used, tile, overlap, batch_size), items)
    return tracked(results, detector.info.score_thr) if track else results


def detect(
    detector: RTMDetector, items: Iterator[Item | Problem], batch_size: int
) -> Generator[Result | Problem, None, None]:
    """Yield each image with its detections, and each problem, in their order.

    Args:
        detector: the model.
        items: images of `read_sources`.
        batch_size: number of images that the network gets at once; ignored if the model has a fixed batch size.
    """
    stopped, size = threading.Event(), detector.backend.batch or batch_size
    streams = detector.streams if size == 1 else 1  # a batch keeps the threads busy, and several need much memory
    prepared = ahead(_prepared(detector, items, size), stopped, LONGEST_READ)
    calls = _submitted(detector, streams, prepared, stopped)
    with contextlib.closing(ahead(calls, stopped, LONGEST_CALL, streams)) as submitted:
        for batch, outputs in submitted:
            arrays, number = outputs.result(), 0
            for entry in batch.entries:
                if isinstance(entry, Problem):
                    yield entry
                    continue
                found = detector.postprocess([output[number] for output in arrays], batch.placements[number])
                number += 1
                yield entry, with_origin(found, entry)


def detect_in_tiles(tiled: TiledDetector, items: Iterator[Item | Problem]) -> Generator[Result | Problem, None, None]:
    """Yield each image with its detections, and each problem, in their order; see `detect`."""
    with contextlib.closing(ahead((item for item in items), threading.Event(), LONGEST_READ)) as read:
        for entry in read:
            yield entry if isinstance(entry, Problem) else (entry, with_origin(tiled.predict(entry.image), entry))


def with_origin(found: Detections, item: Item) -> Detections:
    """Return detections with their image and where it is from."""
    if item.video is None:
        return replace(found, source=item.source, image=item.image)
    time = round(float(item.pts * item.video.time_base), 6)
    return replace(found, source=item.source, image=item.image, frame=item.frame, time=time)


def _prepared(detector: RTMDetector, items: Iterator[Item | Problem], size: int) -> Generator[Batch, None, None]:
    for entries in _groups(items, size):
        images = [entry.image for entry in entries if isinstance(entry, Item)]
        yield Batch(entries, *detector.preprocess(images))


def _groups(items: Iterable[Item | Problem], size: int) -> Iterator[list[Item | Problem]]:
    """Yield groups of `size` images, or fewer after many problems; an error comes after the images before it."""
    group: list[Item | Problem] = []
    images = 0
    try:
        for item in items:
            group.append(item)
            images += isinstance(item, Item)
            if images == size or len(group) >= size + MAX_PROBLEMS:
                yield group
                group, images = [], 0
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _submitted(
    detector: RTMDetector, streams: int, batches: Generator[Batch, None, None], stopped: threading.Event
) -> Generator[tuple[Batch, Future[list[np.ndarray]]], None, None]:
    """Yield each batch with the future outputs of the network; in a long stream, several calls run at a time."""
    backend, calls = detector.backend, ThreadPoolExecutor(1)
    change = 0 if 'streaming_backend' in vars(detector) else LONG
    try:
        with contextlib.closing(batches):
            for number, batch in enumerate(batches):
                if number == change and streams > 1 and not batch.live:
                    calls.shutdown()
                    backend, calls = detector.streaming_backend, ThreadPoolExecutor(streams)
                yield batch, calls.submit(_run, backend, batch)
    finally:
        calls.shutdown(cancel_futures=stopped.is_set())


def _run(backend: Backend, batch: Batch) -> list[np.ndarray]:
    """Return the outputs of the network for a batch, which may have no image."""
    return backend(batch.inputs) if batch.placements else []


def ahead(
    items: Generator[T, None, None], stopped: threading.Event, longest_end: float, count: int = AHEAD
) -> Generator[T, None, None]:
    """Yield the items of a generator that runs in a thread, up to `count` items in advance.

    Its error is raised after the items before it. If this generator is closed, the other one ends after its current
    item, for which it waits at most `longest_end` seconds.

    Args:
        items: the other generator.
        stopped: event of the entire stream, set if this generator is closed early. All steps end soon after it is set,
            also one that waits for an image.
        longest_end: see above.
        count: number of items in advance.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(count)

    def put(*entry: bool | T | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put(entry, timeout=POLL)  # pyright: ignore[reportArgumentType]

    def work() -> None:
        try:
            with contextlib.closing(items):
                for item in items:
                    put(True, item)
                    if stopped.is_set():
                        return
            put(False, None)
        except BaseException as error:  # raised again in the other thread
            put(False, error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    error: BaseException | None = None
    try:
        while not stopped.is_set():
            try:
                there, item = ready.get(timeout=POLL)
            except queue.Empty:
                continue
            if not there:
                error = item  # pyright: ignore[reportAssignmentType]
                break
            yield item  # pyright: ignore[reportReturnType]
    except BaseException:  # the stream is left, or interrupted
        stopped.set()
        raise
    finally:
        thread.join(longest_end)
    if error is not None:
        raise error
