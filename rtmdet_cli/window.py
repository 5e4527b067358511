"""The window of `rtmdet predict --show`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtmdet_runtime.detections import Detections

NAME = 'rtmdet predict'
KEYS_TO_END = (ord('q'), 27)
"""Keys that end `--show`: q and Escape."""
POLL_MS = 50


def check_display() -> None:
    """Raise a `ValueError` if there is no display for --show."""
    if sys.platform == 'linux' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise ValueError('--show needs a display, got neither DISPLAY nor WAYLAND_DISPLAY; use --out FOLDER')


class Window:
    """Show images with their detections, until the user presses a key of `KEYS_TO_END` or closes the window."""

    def __init__(self) -> None:
        self._visible = False

    def show(self, found: Detections) -> bool:
        """Show the detections of an image; return False if the user wants to end.

        Raises:
            ValueError: if this OpenCV can't show windows.
        """
        import cv2

        try:
            cv2.imshow(NAME, found.plot())
            return self._is_open(1)
        except cv2.error:
            raise ValueError('--show needs an OpenCV with windows: pip install opencv-python') from None

    def wait(self) -> None:
        """Wait until the user wants to end."""
        while self._is_open(POLL_MS):  # not a single call, which Ctrl-C would not end
            pass

    def _is_open(self, milliseconds: int) -> bool:
        import cv2

        key = cv2.waitKey(milliseconds) & 0xFF
        try:
            visible = cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # Qt's answer after the window is closed
            visible = False
        before, self._visible = self._visible, visible  # not every kind of window says that it is visible
        return key not in KEYS_TO_END and (visible or not before)
