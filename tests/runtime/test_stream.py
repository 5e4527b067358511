"""The steps of a stream run ahead of each other, keep the order, pass errors on, and end together."""

import _thread
import itertools
import threading
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtmdet_runtime import RTMDetector, stream
from rtmdet_runtime.backends import streams_of
from rtmdet_runtime.sources import read_sources
from rtmdet_runtime.sources.item import Item, Problem, Video
from rtmdet_runtime.stream import AHEAD, LONG, MAX_PROBLEMS, _groups, detect
from rtmdet_runtime.tracking import with_low_scores

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


class CountedCalls:
    """A backend that records how many of its calls run at the same time."""

    batch, size, precision = None, None, 'float32'

    def __init__(self, backend):
        self.backend, self.info = backend, backend.info
        self.running, self.most, self.lock = 0, 0, threading.Lock()

    def __call__(self, inputs):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.01)
        outputs = self.backend(inputs)
        with self.lock:
            self.running -= 1
        return outputs


class SeveralCalls(CountedCalls):
    """The same, with another one for several calls at a time."""

    streams, opened, error = 3, 0, None

    def for_streams(self):
        self.opened += 1
        if self.error:
            raise self.error
        self.of_streams = CountedCalls(self.backend)
        return self.of_streams


@pytest.fixture
def several(detector) -> SeveralCalls:
    return SeveralCalls(detector.backend)


def numbers(results) -> list[int]:
    return [int(item.image[0, 0, 0]) for item, _ in results]


def frames(count: int):
    camera = Video(Fraction(30), Fraction(1, 1000), live=True)
    return (Item(image(200), 'camera 0', Path('camera_0.mp4'), None, camera, number) for number in range(count))


def test_a_long_stream_runs_several_calls_at_a_time(several):
    detector = RTMDetector(several)
    images = [image(number) for number in range(LONG + 20)]
    assert numbers(detect(detector, read_sources([images]), 1)) == list(range(len(images)))
    assert (several.opened, several.most, several.of_streams.most) == (1, 1, several.streams)
    several.of_streams.most = 0
    assert numbers(detect(with_low_scores(detector), read_sources([images[:20]]), 1)) == list(range(20))
    assert (several.opened, several.of_streams.most) == (1, several.streams), 'the next stream starts so'


@pytest.mark.parametrize(('count', 'batch_size'), [(LONG, 1), (2 * LONG + 4, 2)])
def test_short_streams_and_batches_have_one_call_at_a_time(several, count, batch_size):
    assert len(list(detect(RTMDetector(several), read_sources([[image()] * count]), batch_size))) == count
    assert (several.opened, several.most) == (0, 1)


def test_frames_of_a_camera_and_large_images_are_predicted_one_by_one(several, monkeypatch):
    detector = RTMDetector(several)
    assert len(list(detect(detector, frames(LONG + 5), 1))) == LONG + 5
    assert (several.opened, several.most) == (0, 1)
    monkeypatch.setattr(stream, 'LARGE', 1000)
    assert len(list(detect(detector, read_sources([[image()] * (LONG + 5)]), 1))) == LONG + 5
    assert (several.opened, several.most) == (0, 1)


def test_images_after_a_camera_run_several_at_a_time(several):
    items = itertools.chain(frames(LONG), read_sources([[image(number) for number in range(20)]]))
    assert numbers(detect(RTMDetector(several), items, 1)) == [200] * LONG + list(range(20))
    assert several.of_streams.most == several.streams


def test_a_model_that_can_not_be_opened_again(several):
    """The stream goes on with one call at a time, and nothing is lost."""
    several.error = OSError('no such model')
    images = [image(number) for number in range(LONG + 10)]
    with pytest.warns(UserWarning, match='one image at a time is predicted, because no such model'):
        assert numbers(detect(RTMDetector(several), read_sources([images]), 1)) == list(range(len(images)))
    assert (several.opened, several.most) == (1, 1)


@pytest.mark.parametrize('change', ['replaced', 'deleted'])
def test_a_model_file_that_has_changed_is_not_opened_again(detector, tmp_path, change):
    path = tmp_path / 'model.onnx'
    content = path.read_bytes()
    path.unlink()
    if change == 'replaced':
        path.write_bytes(content + b' ')
    with pytest.raises(OSError, match='model.onnx'):
        detector.backend.for_streams()


@pytest.mark.parametrize(('threads', 'expected'), [(1, (1, 1)), (8, (8, 1)), (12, (6, 2)), (15, (7, 2)), (64, (8, 8))])
def test_threads_are_divided_among_the_calls(threads, expected):
    assert streams_of(threads) == expected


def test_an_error_after_many_images_comes_after_all_of_them(several):
    def items():
        yield from read_sources([[image()] * (LONG + 20)])
        raise ValueError('broken')

    results = detect(RTMDetector(several), items(), 1)
    assert len([next(results) for _ in range(LONG + 20)]) == LONG + 20
    with pytest.raises(ValueError, match='broken'):
        next(results)


def test_an_error_of_a_step_comes_after_the_images_before_it(detector, monkeypatch):
    """For example, no thread can be started any more."""

    def full(*args):
        raise RuntimeError('no more threads')

    def items():
        yield from read_sources([image(0), image(1)])
        monkeypatch.setattr(stream.ThreadPoolExecutor, 'submit', full)
        yield from read_sources([image(2)])

    results = detect(detector, items(), 1)
    with pytest.raises(RuntimeError, match='no more threads'):
        list(results)


def test_a_stream_that_is_left_ends_its_threads(detector):
    ended = []

    def items():
        try:
            while True:
                yield from read_sources([image()])
        finally:
            ended.append(True)

    before = set(threading.enumerate())
    results = detect(detector, items(), 1)
    next(results)
    started = set(threading.enumerate()) - before
    assert len(started) == 3, 'reading, calls, and the call that runs'
    results.close()
    assert not any(thread.is_alive() for thread in started) and ended == [True]


@pytest.mark.parametrize('interrupted', [False, True])
def test_a_stream_that_waits_for_an_image_ends_soon(detector, interrupted):
    """Standard input, or a camera, may give the next image in an hour."""
    left = threading.Event()

    def items():
        yield from read_sources([image()])
        left.wait(60)

    results = detect(detector, items(), 1)
    next(results)
    start = time.monotonic()
    if interrupted:
        threading.Timer(0.3, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            next(results)
    else:
        results.close()
    assert time.monotonic() - start < 5
    left.set()
