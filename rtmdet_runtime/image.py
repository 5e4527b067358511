"""Pictures to network inputs, as mmdet's test pipelines of RTMDet do it: read, letterbox, normalise."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from .image_size import OPENCV_VARIABLE, check_pixels
from .info import ModelInfo

Image = np.ndarray
"""Of one picture: BGR, uint8, (H, W, 3)."""


def read_image(source: str | Path | Image) -> Image:
    """A picture from a file, turned as its EXIF data says; an array is checked and passed on.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: if the file isn't an image or has too many pixels (see `check_pixels`), or the array isn't BGR uint8
            (H, W, 3).
        PixelLimitError: see `max_pixels`.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or 0 in source.shape:
            raise ValueError(f'an image has shape {source.shape}, {source.dtype}; accepted: (H, W, 3), uint8, BGR')
        return source
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such image')
    # By way of the bytes, because OpenCV doesn't open names outside ASCII on every system.
    data = path.read_bytes()
    check_pixels(data, path)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:
        raise ValueError(
            f'{path}: OpenCV does not decode it ({opencv_reason(error)}); {OPENCV_VARIABLE} sets how many pixels it '
            'accepts'
        ) from None
    if image is None:
        raise ValueError(f'{path}: not an image that OpenCV reads')
    return image


def opencv_reason(error: cv2.error) -> str:
    """What OpenCV says about an error, in one line."""
    return ' '.join(str(error).split())


def letterbox(
    image: Image, size: tuple[int, int], pad_value: tuple[float, ...], keep_ratio: bool = True
) -> tuple[Image, tuple[float, float]]:
    """Scale a picture into a canvas, at its upper left, and pad right and bottom.

    The same as mmdet's `Resize(keep_ratio=True)` and `Pad`, unless picture and canvas lie otherwise. Then mmdet turns
    the size that it resizes to, but not the one that it pads to: a picture of 480x640 for 640x480 becomes 640x640. Here
    the canvas stays, because the network's input does.

    Args:
        image: BGR, uint8. (H, W, 3)
        size: (height, width) of the canvas in pixels.
        pad_value: for each channel.
        keep_ratio: scale both sides alike; otherwise stretch, without padding.

    Returns:
        The canvas (height, width, 3), and the factors (x, y) from the picture to the canvas.
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
    """Return (value - mean) / std of all 256 values for each channel of an image in BGR: (3, 256)."""
    mean, std = (np.asarray(values, np.float32)[:, None] for values in (info.mean, info.std))
    table = (np.arange(256, dtype=np.float32) - mean) / std
    return table[::-1] if info.to_rgb else table


def write_input(canvas: Image, table: np.ndarray, to_rgb: bool, out: np.ndarray) -> None:
    """Normalise a canvas (H, W, 3) into its place in a batch, `out` (3, H, W)."""
    for channel in range(3):
        np.take(table[channel], canvas[:, :, channel], out=out[2 - channel if to_rgb else channel], mode='clip')
