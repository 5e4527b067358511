"""Read the size of an image from its header and refuse an image that would fill the memory before it is decoded.

OpenCV gives no size without decoding. Its own limit, 2^30 pixels, allows 6 GB, and is read from the environment only
when OpenCV is imported. It still holds for formats and damaged headers that imagesize can't read.
"""

from __future__ import annotations

import io
import os
import struct

import imagesize

VARIABLE = 'RTMDET_MAX_PIXELS'
"""Environment variable: the pixels that an image may have."""
MAX_PIXELS = 180_000_000
"""Default. Decoding takes 6 bytes per pixel in most formats, 9 for BMP and 12 for GIF: 1.1 to 2.2 GB."""
OS2_HEADER = 12
"""Size of the BMP header of OS/2, whose sides have 16 bits."""
OPENCV_VARIABLE = 'OPENCV_IO_MAX_IMAGE_PIXELS'


class PixelLimitError(RuntimeError):
    """The environment variable isn't a number of pixels; no `ValueError`, which would count as a bad image."""


def max_pixels() -> int:
    """Return the pixels that an image may have; an empty environment variable counts as none.

    Raises:
        PixelLimitError: if the environment variable isn't a number of pixels.
    """
    text = os.environ.get(VARIABLE) or str(MAX_PIXELS)
    if not text.isdecimal() or int(text) < 1:
        raise PixelLimitError(
            f'environment variable {VARIABLE} must be a whole number of pixels, 1 or more, got {text!r}; correct or '
            'unset it'
        )
    return int(text)


def check_pixels(data: bytes, name: object, part: int = 1) -> None:
    """Refuse an image that has too many pixels.

    Args:
        data: content of the file.
        name: of the file, for the message.
        part: the image is decoded at 1 / `part` of its width and height.

    Raises:
        ValueError: if it has more than `max_pixels`.
        PixelLimitError: see `max_pixels`.
    """
    size, limit = image_size(data), max_pixels()
    if size is None or size[0] * size[1] <= limit * part**2:
        return
    width, height = size
    raise ValueError(
        f'{name}: an image must have at most {limit:,} pixels, got {width:,} x {height:,} = {width * height:,}; '
        f'set {VARIABLE} to allow more (decoding takes 6 bytes of memory per pixel and more)'
    )


def image_size(data: bytes) -> tuple[int, int] | None:
    """Read the stored width and height of an image from its header; None if it has none that is known."""
    # imagesize reads the sides of a GIF as signed numbers, and those of OS/2's BMP as 32 bits.
    if data.startswith((b'GIF87a', b'GIF89a')) and len(data) >= 10:
        return struct.unpack_from('<HH', data, 6)
    if data.startswith(b'BM') and len(data) >= 22 and struct.unpack_from('<I', data, 14) == (OS2_HEADER,):
        return struct.unpack_from('<HH', data, 18)
    size = imagesize.get(io.BytesIO(data), exif_rotation=False)
    return size if min(size) > 0 else None
