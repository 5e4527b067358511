"""The steps of a stream run ahead of each other, keep the order, pass errors on, and end together."""

import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.sources import read_sources
from rtmdet_runtime.sources.item import Item, Problem, Video
from rtmdet_runtime.stream import AHEAD, LONG, MAX_PROBLEMS, _groups, detect

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')


def image(value: int = 50) -> np.ndarray:
    return np.full((64, 96, 3), value, np.uint8)


@pytest.fixture
def detector(constant_model) -> RTMDetector:
    return RTMDetector(constant_model([[0, 0, 32, 32]], [[0.9, 0]]))


@pytest.mark.parametrize('batch_size', [1, 2, 3, 10])
def test_order_is_kept_with_problems_in_between(detector, batch_size, tmp_path):
    sources = [
        image(0),
        tmp_path / 'none.png',
        image(1),
        image(2),
        tmp_path / 'none.png',
        image(3),
        tmp_path / 'none.png',
    ]
    found = list(detect(detector, read_sources(sources), batch_size))
    values = [entry.line[-13:] if isinstance(entry, Problem) else int(entry[0].image[0, 0, 0]) for entry in found]
    assert values == [0, 'no such image', 1, 2, 'no such image', 3, 'no such image']
    assert all(len(entry[1]) == 1 and entry[1].image is entry[0].image for entry in found if isinstance(entry, tuple))
    assert list(detect(detector, iter([]), batch_size)) == []


def test_only_a_few_images_are_read_in_advance(detector):
    """Steps overlap, and memory doesn't grow if the results are used slowly."""
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield next(iter(read_sources([image()])))

    results = detect(detector, items(), 2)
    next(results)
    time.sleep(0.3)
    assert 2 < len(read) <= 2 * (2 * AHEAD + 5)
    results.close()


def test_an_error_comes_after_the_images_before_it(detector):
    def items():
        yield from read_sources([image(), image(), image()])
        raise ValueError('broken')

    results = detect(detector, items(), 2)
    assert [isinstance(next(results)[0], Item) for _ in range(3)] == [True] * 3
    with pytest.raises(ValueError, match='broken'):
        next(results)


def test_problems_do_not_collect(tmp_path):
    (tmp_path / 'bad.png').write_text('no image')
    group = next(_groups(read_sources([tmp_path / 'bad.png'] * 200), 3))
    assert len(group) == 3 + MAX_PROBLEMS
    assert all(problem.error.__traceback__ is problem.error.__context__ is None for problem in group)


def test_an_error_of_the_network_is_raised(detector, monkeypatch):
    def fail(inputs):
        raise ValueError('no network')

    monkeypatch.setattr(detector, 'backend', type('Failing', (), dict(batch=None, __call__=staticmethod(fail)))())
    with pytest.raises(ValueError, match='no network'):
        list(detect(detector, read_sources([image()]), 1))


class SeveralCalls:
    """A backend whose copy for streams answers only when all of its calls run at the same time."""

    batch, streams, opened = None, 2, 0

    def __init__(self, backend):
        self.backend, self.meeting, self.met = backend, threading.Barrier(self.streams, timeout=10), []

    def for_streams(self):
        self.opened += 1

        def call(inputs):
            self.meeting.wait()
            self.met.append(inputs)
            return self.backend(inputs)

        return call

    def __call__(self, inputs):
        return self.backend(inputs)


@pytest.fixture
def several(detector, monkeypatch) -> SeveralCalls:
    backend = SeveralCalls(detector.backend)
    monkeypatch.setattr(detector, 'backend', backend)
    return backend


def test_a_long_stream_runs_several_calls_at_a_time(detector, several):
    images = [image(number) for number in range(LONG + 2 * several.streams)]
    found = list(detect(detector, read_sources([images]), 1))
    assert [int(item.image[0, 0, 0]) for item, _ in found] == list(range(len(images)))
    assert several.opened == 1
    met = len(several.met)
    assert met == 2 * several.streams
    list(detect(detector, read_sources([images]), 1))
    assert several.opened == 1 and len(several.met) == met + len(images), 'the next stream starts so'


@pytest.mark.parametrize(('count', 'batch_size'), [(LONG, 1), (4 * LONG, 2)])
def test_short_streams_and_batches_have_one_call_at_a_time(detector, several, count, batch_size):
    assert len(list(detect(detector, read_sources([[image()] * count]), batch_size))) == count
    assert several.opened == 0


def test_the_frames_of_a_camera_do_not_wait_for_each_other(detector, several):
    camera = Video(Fraction(30), Fraction(1, 1000), live=True)
    frames = (Item(image(), 'camera 0', Path('camera_0.mp4'), None, camera, number) for number in range(LONG + 5))
    assert len(list(detect(detector, frames, 1))) == LONG + 5
    assert several.opened == 0


def test_an_error_after_many_images_comes_after_all_of_them(detector, several):
    def items():
        yield from read_sources([[image()] * (LONG + several.streams)])
        raise ValueError('broken')

    results = detect(detector, items(), 1)
    assert len([next(results) for _ in range(LONG + several.streams)]) == LONG + several.streams
    with pytest.raises(ValueError, match='broken'):
        next(results)


def test_a_stream_that_is_left_ends_its_threads(detector):
    ended = []

    def items():
        try:
            while True:
                yield from read_sources([image()])
        finally:
            ended.append(True)

    before = threading.active_count()
    results = detect(detector, items(), 1)
    next(results)
    assert threading.active_count() == before + 3  # reading, calls, and the network's call
    results.close()
    assert threading.active_count() == before and ended == [True]


def test_a_stream_that_waits_for_an_image_ends_soon(detector):
    """Standard input, or a camera, may give the next image in an hour."""
    left = threading.Event()

    def items():
        yield from read_sources([image()])
        left.wait(60)

    results = detect(detector, items(), 1)
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5
    left.set()
