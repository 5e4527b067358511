"""The size of an image from its header, so that one that would fill the memory is refused before it is decoded.

OpenCV gives no size without decoding. Its own limit, 2^30 pixels, allows 6 GB, and is read from the environment only
when OpenCV is imported. It still holds for the formats that aren't read here, such as JPEG 2000 and AVIF.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

VARIABLE = 'RTMDET_MAX_PIXELS'
"""Environment variable: the pixels that an image may have."""
MAX_PIXELS = 180_000_000
"""Default. Decoding takes 6 bytes per pixel in most formats, 9 for BMP and 12 for GIF: 1.1 to 2.2 GB."""
OPENCV_VARIABLE = 'OPENCV_IO_MAX_IMAGE_PIXELS'

START_OF_SCAN = 0xDA
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
TIFF_NUMBERS = {1: 'B', 3: 'H', 4: 'I', 6: 'b', 8: 'h', 9: 'i', 16: 'Q', 17: 'q'}


def max_pixels() -> int:
    """Return the pixels that an image may have.

    Raises:
        ValueError: if the environment variable isn't a number of pixels.
    """
    text = os.environ.get(VARIABLE, str(MAX_PIXELS))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f'{VARIABLE} must be a whole number of pixels, 1 or more, got {text!r}')
    return int(text)


def check_pixels(data: bytes, name: object, part: int = 1) -> None:
    """Refuse an image that has too many pixels.

    Args:
        data: content of the file.
        name: of the file, for the message.
        part: the image is decoded at 1 / `part` of its width and height.

    Raises:
        ValueError: if it has more than `max_pixels`.
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
    """Read the width and height of a BMP, GIF, JPEG, PNG, TIFF or WebP image; None for anything else."""
    for start, read in READERS.items():
        if data.startswith(start):
            try:
                return read(data)
            except struct.error:  # cut off
                return None
    return None


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker and the place of each segment of a JPEG, up to the start of its scan."""
    place = 2
    # Bytes between segments are skipped, as libjpeg does it.
    while (place := data.find(b'\xff', place)) >= 0 and place + 4 <= len(data):
        marker = data[place + 1]
        if marker in (0x00, 0xFF):  # no marker, fill
            place += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a segment
            place += 2
        else:
            yield marker, place
            if marker == START_OF_SCAN:
                return
            place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')


def _jpeg(data: bytes) -> tuple[int, int] | None:
    for marker, place in jpeg_segments(data):
        if marker in START_OF_FRAME:
            height, width = struct.unpack_from('>HH', data, place + 5)
            return width, height
    return None


def _png(data: bytes) -> tuple[int, int]:
    return struct.unpack_from('>II', data, 16)


def _gif(data: bytes) -> tuple[int, int]:
    return struct.unpack_from('<HH', data, 6)


def _bmp(data: bytes) -> tuple[int, int]:
    (header,) = struct.unpack_from('<I', data, 14)
    width, height = struct.unpack_from('<HH' if header == 12 else '<ii', data, 18)
    return abs(width), abs(height)  # a negative height means that the first row is the upper one


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[8:16]
    if kind == b'WEBPVP8X':
        return tuple(int.from_bytes(data[place : place + 3], 'little') + 1 for place in (24, 27))
    if kind == b'WEBPVP8L':
        (bits,) = struct.unpack_from('<I', data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b'WEBPVP8 ':
        width, height = struct.unpack_from('<HH', data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _tiff(data: bytes) -> tuple[int, int]:
    order = '<' if data.startswith(b'II') else '>'
    big = struct.unpack_from(f'{order}H', data, 2) == (43,)
    place, number, entry, value = (8, 'Q', 20, 12) if big else (4, 'I', 12, 8)
    (directory,) = struct.unpack_from(order + number, data, place)
    counter = order + ('Q' if big else 'H')
    (count,) = struct.unpack_from(counter, data, directory)
    first = directory + struct.calcsize(counter)
    sizes = {256: 0, 257: 0}
    for at in range(first, first + count * entry, entry):
        tag, kind = struct.unpack_from(f'{order}HH', data, at)
        if tag in sizes and kind in TIFF_NUMBERS:
            (length,) = struct.unpack_from(order + TIFF_NUMBERS[kind], data, at + value)
            sizes[tag] = max(sizes[tag], length)
    return sizes[256], sizes[257]


READERS = {
    b'\xff\xd8\xff': _jpeg,
    b'\x89PNG\r\n\x1a\n': _png,
    b'GIF8': _gif,
    b'BM': _bmp,
    b'RIFF': _webp,
    b'II*\0': _tiff,
    b'MM\0*': _tiff,
    b'II+\0': _tiff,
    b'MM\0+': _tiff,
}
"""By what a file begins with."""
