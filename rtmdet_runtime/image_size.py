"""Read the size of an image from its header, and refuse to decode an image that would fill the memory.

OpenCV can't read the size without decoding the image. Its own limit, 2^30 pixels, allows 6 GB, and is read from the
environment only when OpenCV is imported. It still applies to formats and damaged headers that imagesize can't read.
"""

from __future__ import annotations

import io
import os
import struct

import imagesize

VARIABLE = 'RTMDET_MAX_PIXELS'
"""Environment variable with the maximum number of pixels of an image."""
MAX_PIXELS = 180_000_000
"""Default limit. Decoding takes 6 bytes per pixel in most formats, 9 for BMP and 12 for GIF: 1.1 to 2.2 GB."""
OS2_HEADER = 12
"""Size of the BMP header of OS/2, whose sides have 16 bits."""
OPENCV_VARIABLE = 'OPENCV_IO_MAX_IMAGE_PIXELS'


class PixelLimitError(RuntimeError):
    """`RTMDET_MAX_PIXELS` isn't a number of pixels. This is no `ValueError`, which would count as a bad image."""


def max_pixels() -> int:
    """Return the maximum number of pixels of an image; an empty environment variable counts as unset.

    Raises:
        PixelLimitError: if the environment variable isn't a number of pixels.
    """
    text = os.environ.get(VARIABLE) or str(MAX_PIXELS)
    if not text.isdecimal() or int(text) < 1:
        raise PixelLimitError(
            f'environment variable {VARIABLE} must be an integer of at least 1, got {text!r}; correct or unset it'
        )
    return int(text)


def check_pixels(data: bytes, name: object, part: int = 1) -> None:
    """Refuse an image that has too many pixels.

    Args:
        data: content of the image file.
        name: name of the file for the error.
        part: the image is decoded at 1 / `part` of its width and height.

    Raises:
        ValueError: if it would have more than `max_pixels`.
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
    """Return the width and height in the header of an image file, or None if they can't be read."""
    # imagesize reads the sides of a GIF as signed numbers, and those of OS/2's BMP as 32 bits.
    if data.startswith((b'GIF87a', b'GIF89a')) and len(data) >= 10:
        return struct.unpack_from('<HH', data, 6)
    if data.startswith(b'BM') and len(data) >= 22 and struct.unpack_from('<I', data, 14) == (OS2_HEADER,):
        return struct.unpack_from('<HH', data, 18)
    size = imagesize.get(io.BytesIO(data), exif_rotation=False)
    return size if min(size) > 0 else None
