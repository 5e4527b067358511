"""Live streams: late images are skipped, and a silent server is reported."""

import socket
import time
from pathlib import Path

import numpy as np
import pytest

from rtmdet_runtime.sources import newest as module
from rtmdet_runtime.sources.item import Item, Problem
from rtmdet_runtime.sources.newest import newest

pytest.importorskip('av', reason='av is not installed')

from rtmdet_runtime.sources import read_sources, video  # noqa: E402

IMAGE = np.zeros((4, 4, 3), np.uint8)


def stream(seconds: float, left: list):
    """Yield 20 images and a problem, with a pause after each image."""
    try:
        for number in range(20):
            yield Item(IMAGE, 'x', Path('x.mp4'), frame=number)
            time.sleep(seconds)
        yield Problem(ValueError('broken'))
    finally:
        left.append(True)


def test_late_images_are_skipped(monkeypatch):
    monkeypatch.setattr(module, 'WAITING', 3)
    numbers = []
    for entry in newest(stream(0.005, [])):
        numbers.append(entry.frame if isinstance(entry, Item) else entry.line)
        time.sleep(0.03)
    *frames, problem = numbers
    assert problem == 'broken' and frames == sorted(set(frames)) and frames[0] == 0 and frames[-1] >= 16
    assert len(frames) < 12, 'as many as were used in time'


def test_no_image_of_a_short_burst_is_skipped(monkeypatch):
    monkeypatch.setattr(module, 'WAITING', 20)
    entries = newest(stream(0, []))
    first = next(entries)
    time.sleep(0.05)
    assert [entry.frame for entry in (first, *entries) if isinstance(entry, Item)] == list(range(20))


def test_a_stream_that_is_left_or_fails():
    left = []
    images = newest(stream(0.05, left))
    next(images)
    images.close()
    assert left == [True]

    def failing():
        yield Item(IMAGE, 'x', Path('x.mp4'))
        raise OSError('gone')

    images = newest(failing())
    next(images)
    with pytest.raises(OSError, match='gone'):
        next(images)


def test_a_server_that_says_nothing(monkeypatch):
    limits, open_stream = [], video.av.open

    def opened(*args, **settings):
        limits.append(settings.get('timeout'))
        return open_stream(*args, **settings)

    monkeypatch.setattr(video.av, 'open', opened)
    monkeypatch.setattr(video, 'TIMEOUT', 0.3)
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = f'127.0.0.1:{server.getsockname()[1]}/x'
        (problem,) = read_sources([f'rtsp://user:secret@{address}'])
    assert problem.line == f'rtsp://{address} must be a video that FFmpeg can read, got no video for 0.3 s'
    assert limits == [None], "PyAV's limit calls Python while it waits, and crashed processes that ended meanwhile"
