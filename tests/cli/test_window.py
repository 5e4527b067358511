"""The window of `rtmdet predict --show`, with OpenCV's functions replaced."""

import cv2
import numpy as np
import pytest

from rtmdet_cli.window import Window
from rtmdet_runtime.detections import Detections

FOUND = Detections(
    np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), image=np.zeros((8, 8, 3), np.uint8), classes=('cat',)
)


@pytest.fixture
def screen(monkeypatch) -> dict:
    """What the user and the window do: keys that are pressed, and whether it is visible."""
    state = dict(keys=[], visible=[])
    monkeypatch.setattr(cv2, 'imshow', lambda name, image: None)
    monkeypatch.setattr(cv2, 'waitKey', lambda milliseconds: state['keys'].pop(0))
    monkeypatch.setattr(cv2, 'getWindowProperty', lambda name, what: visibility(state['visible'].pop(0)))
    return state


def visibility(value: int | None) -> int:
    if value is None:
        raise cv2.error('NULL guiReceiver')
    return value


@pytest.mark.parametrize(
    ('keys', 'visible'),
    [
        ([-1, ord('x'), ord('q')], [1, 1, 1]),
        ([-1, -1, 27], [1, 1, 1]),
        ([-1, -1, -1], [1, 1, 0]),  # closed
        ([-1, -1, -1], [1, 1, None]),  # closed, in Qt
        ([-1, -1, -1], [0, 1, 0]),  # it takes a moment to appear
        ([-1, -1, 27], [-1, -1, -1]),  # a kind of window that doesn't say whether it is visible
    ],
)
def test_a_key_or_closing_ends(screen, keys, visible):
    screen.update(keys=keys.copy(), visible=visible.copy())
    window = Window()
    assert [window.show(FOUND) for _ in range(3)] == [True, True, False]
    screen.update(keys=keys.copy(), visible=visible.copy())
    Window().wait()
    assert not screen['keys'], 'waits as long'


def test_an_opencv_without_windows(monkeypatch):
    def fail(name, image):
        raise cv2.error('not implemented')

    monkeypatch.setattr(cv2, 'imshow', fail)
    with pytest.raises(ValueError, match='--show needs an OpenCV with windows: pip install opencv-python'):
        Window().show(FOUND)
