"""Read, letterbox and normalise images for the network, as mmdet's test pipelines of RTMDet do."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from .image_size import OPENCV_VARIABLE, check_pixels
from .info import ModelInfo

Image = np.ndarray
"""A decoded image: BGR, uint8, (H, W, 3)."""


def read_image(source: str | Path | Image) -> Image:
    """Read an image from a file and rotate it according to its EXIF data; check an array and return it.

    Raises:
        FileNotFoundError: if the file doesn't exist.
        ValueError: if the file isn't an image or has too many pixels (see `check_pixels`), or the array isn't BGR,
            uint8, (H, W, 3).
        PixelLimitError: see `max_pixels`.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise ValueError(f'image must be BGR, uint8, (H, W, 3), got {source.dtype} of shape {source.shape}')
        return source
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such image')
    # Decode from memory: on some systems, OpenCV can't open files whose names aren't ASCII.
    return decode_image(path.read_bytes(), path)


def decode_image(data: bytes, path: object) -> Image:
    """Decode the content of an image file and rotate it according to its EXIF data.

    Args:
        data: content of the file.
        path: name of the file for errors.

    Raises:
        ValueError, PixelLimitError: see `read_image`.
    """
    check_pixels(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise ValueError(
            f'{path} must be an image that OpenCV can decode, got an error: {opencv_reason(error)}; if it has too many '
            f'pixels for OpenCV, raise {OPENCV_VARIABLE}'
        ) from None
    if image is None:
        raise ValueError(f'{path} must be an image that OpenCV can decode, got {len(data)} bytes that are no image')
    return image


def opencv_reason(error: cv2.error) -> str:
    """Return the message of an OpenCV error as one line."""
    return ' '.join(str(error).split())


class Placement(NamedTuple):
    """Where an image is in the network's input, whose upper left corner is its own.

    Attributes:
        scale: factors (x, y) from the image to the input.
        size: (height, width) of the image in pixels.
    """

    scale: tuple[float, float]
    size: tuple[int, int]


def letterbox(
    image: Image, size: tuple[int, int], pad_value: tuple[float, ...], keep_ratio: bool = True
) -> tuple[Image, tuple[float, float]]:
    """Resize an image to fit into the upper left of a canvas, and pad it on the right and at the bottom.

    This equals mmdet's `Resize(keep_ratio=True)` and `Pad`, unless one of image and canvas is portrait and the other
    landscape. Then mmdet swaps the sides of the size that it resizes to, but not of the one that it pads to: an image
    of 480x640 for an input of 640x480 becomes 640x640. Here the canvas keeps the size of the network's input.

    Args:
        image: BGR, uint8. (H, W, 3)
        size: (height, width) of the canvas in pixels.
        pad_value: value of the padding for each channel.
        keep_ratio: scale both sides by the same factor; otherwise stretch the image to the canvas, without padding.

    Returns:
        The canvas (height, width, 3), and the scale factors (x, y) from the image to the canvas.
    """
    height, width = image.shape[:2]
    if keep_ratio:
        scale = min(size[0] / height, size[1] / width)
        new_height, new_width = int(height * scale + 0.5), int(width * scale + 0.5)
        new_height, new_width = max(new_height, 1), max(new_width, 1)
    else:
        new_height, new_width = size
    if (new_height, new_width) != (height, width):
        image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    bottom, right = size[0] - new_height, size[1] - new_width
    if bottom or right:
        image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=pad_value)
    return image, (new_width / width, new_height / height)


def normalization_table(info: ModelInfo) -> np.ndarray:
    """Return (value - mean) / std of all 256 values for each channel of a BGR image: (3, 256)."""
    mean, std = (np.asarray(values, np.float32)[:, None] for values in (info.mean, info.std))
    table = (np.arange(256, dtype=np.float32) - mean) / std
    return table[::-1] if info.to_rgb else table


def write_input(canvas: Image, table: np.ndarray, to_rgb: bool, out: np.ndarray) -> None:
    """Normalise a canvas (H, W, 3) and write it to `out` (3, H, W), its place in a batch."""
    for channel, plane in enumerate(cv2.split(canvas)):
        cv2.LUT(plane, table[channel], dst=out[2 - channel if to_rgb else channel])
