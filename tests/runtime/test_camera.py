"""A camera, replaced by images in memory."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from rtmdet_runtime.sources import read_sources

FRAMES = [np.full((64, 96, 3), value, np.uint8) for value in range(5)]


@pytest.fixture
def camera(monkeypatch) -> list:
    """The events of a camera with five frames, and whose rate is unknown."""
    events = []

    class Camera:
        def __init__(self, number):
            events.append(number)
            self.frames = iter(FRAMES if number == 0 else [])

        def get(self, what):
            return 0.0

        def read(self):
            image = next(self.frames, None)
            return image is not None, image

        def release(self):
            events.append('released')

    monkeypatch.setattr('cv2.VideoCapture', Camera)
    return events


def test_frames_of_a_camera(camera):
    items = list(read_sources(['0'], every=2))
    assert [int(item.image[0, 0, 0]) for item in items] == [0, 2, 4] and camera == [0, 'released']
    assert [(item.source, item.output, item.frame) for item in items] == [
        ('camera 0', Path('camera_0.mp4'), number) for number in (0, 2, 4)
    ]
    assert items[0].video.rate == 30 and items[0].video.time_base == Fraction(1, 1000)
    assert items[0].pts <= items[1].pts


def test_a_camera_without_frames(camera):
    with pytest.raises(OSError, match='camera 3 must be connected and not in use, got no frame from it'):
        list(read_sources([3]))
    assert camera == [3, 'released']
