"""Read the frames of a camera with OpenCV."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2

from .item import Item, Video

MILLISECOND = Fraction(1, 1000)


def read_camera(number: int, every: int) -> Iterator[Item]:
    """Yield every N-th frame of a camera, until it gives no more.

    Args:
        number: number of the camera, from 0.
        every: N.

    Raises:
        OSError: if there is no such camera, or it gives no frame.
    """
    log = cv2.utils.logging
    before = log.setLogLevel(log.LOG_LEVEL_SILENT)  # OpenCV would report each of its own attempts
    try:
        camera = cv2.VideoCapture(number)
    finally:
        log.setLogLevel(before)
    count = 0
    try:
        video = Video(Fraction(camera.get(cv2.CAP_PROP_FPS) or 30).limit_denominator(1001), MILLISECOND, True)
        start = time.monotonic()
        while True:
            seen, image = camera.read()
            if not seen:
                break
            if count % every == 0:
                pts = round(1000 * (time.monotonic() - start))
                yield Item(image, f'camera {number}', Path(f'camera_{number}.mp4'), None, video, count, pts)
            count += 1
    finally:
        camera.release()
    if not count:
        raise OSError(f'camera {number} must be connected and not in use, got no frame from it')
