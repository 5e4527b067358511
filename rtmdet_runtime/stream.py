"""Run a detector on a stream of images: reading, network and the use of its results overlap, and keep their order.

Each step runs in a thread and is a few batches ahead of the next one, so memory doesn't grow with the stream. Steps
between reading and writing, such as tracking or tiling, take and give the same iterators.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import warnings
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from .choices import TILE_OVERLAP
from .detections import Detections
from .image import Placement
from .messages import needed_by, one_line
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
LONG = 32
"""Number of batches after which several calls of the network run at a time. For them, the model is opened again, which
takes as long as a few calls. Later streams of the detector start so."""
LARGE = 1 << 26
"""Number of bytes from which on an image is large."""
MAX_PROBLEMS = 64
"""Number of problems after which a group is yielded before it has all of its images."""
POLL = 0.1
"""Seconds after which a step that waits checks whether it must end."""
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
    def one_by_one(self) -> bool:
        """Whether its call must not run at the same time as others.

        The result of a camera's image is wanted as soon as possible, and several large images need much memory.
        """
        items = [entry for entry in self.entries if isinstance(entry, Item)]
        return any(item.image.size > LARGE or (item.video is not None and item.video.live) for item in items)


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
    size = detector.backend.batch or batch_size
    # A batch keeps the threads busy too, and several batches need much memory.
    calls = Calls(detector, detector.streaming.streams if size == 1 else 1)
    prepared = ahead(_prepared(detector, items, size), calls.stopped, LONGEST_READ)
    submitted = ahead(calls.submitted(prepared), calls.stopped, LONGEST_CALL, calls.streams + AHEAD)
    with ending(submitted, calls.stopped):
        for batch, outputs in submitted:
            arrays, number = outputs.result(), 0
            calls.used()
            for entry in batch.entries:
                if isinstance(entry, Problem):
                    yield entry
                    continue
                found = detector.postprocess([output[number] for output in arrays], batch.placements[number])
                number += 1
                yield entry, with_origin(found, entry)


def detect_in_tiles(tiled: TiledDetector, items: Iterator[Item | Problem]) -> Generator[Result | Problem, None, None]:
    """Yield each image with its detections, and each problem, in their order; see `detect`."""
    stopped = threading.Event()
    read = ahead((item for item in items), stopped, LONGEST_READ)
    with ending(read, stopped):
        for entry in read:
            yield entry if isinstance(entry, Problem) else (entry, with_origin(tiled.predict(entry.image), entry))


@contextlib.contextmanager
def ending(step: Generator, stopped: threading.Event) -> Iterator[None]:
    """End all steps of a stream, of which `step` is the last one, with the block."""
    try:
        yield
    finally:
        stopped.set()
        step.close()


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


class Calls:
    """Calls of the network, one at a time, or several in a long stream.

    Args:
        detector: the model.
        streams: number of calls at a time in a long stream.

    Attributes:
        stopped: set when the stream ends.
    """

    def __init__(self, detector: RTMDetector, streams: int) -> None:
        self.detector, self.streams = detector, streams
        self.stopped, self._unused, self._changed = threading.Event(), 0, threading.Condition()

    def submitted(
        self, batches: Generator[Batch, None, None]
    ) -> Generator[tuple[Batch, Future[list[np.ndarray]]], None, None]:
        """Yield each batch with the future outputs of the network; the user calls `used` for each."""
        first = 0 if self.detector.streaming.is_open else LONG
        one, several = ThreadPoolExecutor(1), ThreadPoolExecutor(self.streams)
        opening: Future[Backend | None] | None = None
        try:
            with contextlib.closing(batches):
                for number, batch in enumerate(batches):
                    if number >= first and self.streams > 1 and opening is None and not batch.one_by_one:
                        opening = several.submit(self._open)
                    backend = opening.result() if opening is not None and opening.done() else None
                    if backend is None or batch.one_by_one:
                        self._wait(1 + AHEAD)
                        yield batch, one.submit(_run, self.detector.backend, batch)
                    else:
                        self._wait(self.streams + AHEAD)
                        yield batch, several.submit(_run, backend, batch)
        finally:
            for executor in (one, several):
                executor.shutdown(cancel_futures=self.stopped.is_set())

    def used(self) -> None:
        """Let the next call start, because the outputs of one are used."""
        with self._changed:
            self._unused -= 1
            self._changed.notify()

    def _wait(self, limit: int) -> None:
        """Wait until fewer calls than `limit` are running, or have outputs that aren't used yet; count one more."""
        with self._changed:
            while self._unused >= limit and not self.stopped.is_set():
                self._changed.wait(POLL)
            self._unused += 1

    def _open(self) -> Backend | None:
        """Open the model for several calls at a time; warn and return None if that fails."""
        try:
            return self.detector.streaming.open()
        except Exception as error:
            warnings.warn(f'one image at a time is predicted, because {one_line(error)}', stacklevel=2)
            return None


def _run(backend: Backend, batch: Batch) -> list[np.ndarray]:
    """Return the outputs of the network for a batch, which may have no image."""
    return backend(batch.inputs) if batch.placements else []


def ahead(
    items: Generator[T, None, None], stopped: threading.Event, longest_end: float, count: int = AHEAD
) -> Generator[T, None, None]:
    """Yield the items of a generator that runs in a thread, up to `count` items in advance.

    Its error is raised after the items before it.

    Args:
        items: the other generator. It is closed when it has ended, or after its current item when `stopped` is set.
        stopped: set before this generator is closed. All steps of the stream end soon after, also one that waits.
        longest_end: maximum number of seconds to wait for the current item at the end.
        count: number of items in advance.
    """
    ready: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(count)

    def put(there: bool, item: T | BaseException | None) -> None:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                return ready.put((there, item), timeout=POLL)

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
    except GeneratorExit:  # by `ending`, or because the next step has failed and its error must still be raised
        raise
    except BaseException:  # Ctrl-C
        stopped.set()
        raise
    finally:
        thread.join(longest_end)
    if error is not None:
        raise error
