"""Decode an image, or raise an error that says why it can't be used.

OpenCV only says that it can't decode a file. Some of its versions don't even say that: they decode a truncated JPEG
and fill the missing rows with grey. Therefore the end marker is checked before decoding.
"""

from __future__ import annotations

import cv2
import numpy as np

from rtmdet_runtime.image import opencv_reason
from rtmdet_runtime.image_size import PixelLimitError, check_pixels

from ..errors import RefusedError

EXIF_MODES = ('as_annotated', 'turned', 'stored')

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flag for decoding at 1/n of the size."""

JPEG = b'\xff\xd8\xff'
JPEG_END = b'\xff\xd9'
PNG = b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'


class BadImageError(RefusedError):
    """An image that can't be used; the message names the file, the fault and what is required."""


def decode(
    data: bytes,
    path: str,
    expected: tuple[int, int] | None = None,
    img_scale: tuple[int, int] | None = None,
    exif: str = 'as_annotated',
) -> np.ndarray:
    """Decode an image as 8-bit BGR.

    Args:
        data: content of the file.
        path: name of the file, for error messages.
        expected: (height, width) that the full-size image must have. If None, any size is accepted and the image is
            decoded at full size.
        img_scale: (width, height) to decode for. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as it
            still reaches this width or this height. None for the full size.
        exif: orientation of a file whose EXIF tag rotates or mirrors it. `'turned'`: as the tag says, as viewers
            show it. `'stored'`: ignore the tag. `'as_annotated'`: apply the tag, unless only the stored orientation
            has the expected size.

    Returns:
        The image, (H, W, 3); its sides are those of `expected` divided by 1, 2, 4 or 8, rounded up.

    Raises:
        BadImageError: if `data` is no image, is truncated, has another size than expected, or has more pixels than
            `check_pixels` accepts.
        RefusedError: if the limit on pixels isn't a number.
    """
    check_complete(data, path)
    part = 1
    if expected is not None and img_scale is not None and data.startswith(JPEG):
        shrink = max(expected[0] / img_scale[1], expected[1] / img_scale[0])
        part = max(part for part in REDUCED if part <= max(shrink, 1))
    as_stored = cv2.IMREAD_IGNORE_ORIENTATION if exif == 'stored' else 0
    img = _imdecode(data, path, REDUCED[part] | as_stored, part)
    if expected is None:
        return img
    shape = tuple(-(-side // part) for side in expected)
    if exif == 'as_annotated' and img.shape[:2] == shape[::-1] != shape:
        img = _imdecode(data, path, REDUCED[part] | cv2.IMREAD_IGNORE_ORIENTATION, part)
    if img.shape[:2] != shape:
        found = _imdecode(data, path, cv2.IMREAD_COLOR | as_stored, 1).shape
        raise BadImageError(
            f'{path} must have the size of its annotation, {expected[1]}x{expected[0]} pixels (width x height), got '
            f'{found[1]}x{found[0]}; otherwise its boxes would miss their objects.'
        )
    return img


def check_complete(data: bytes, path: str) -> None:
    """Refuse a truncated JPEG or PNG; this takes microseconds.

    OpenCV detects truncation in the other formats. Data after the end of the image is ignored.

    Raises:
        BadImageError: if the end marker is missing.
    """
    if data.startswith(JPEG):
        complete = data.rfind(JPEG_END, _start_of_scan(data)) >= 0
    elif data.startswith(PNG):
        complete = data.rfind(PNG_END) >= 0
    else:
        return
    if not complete:
        raise BadImageError(
            f'{path} must be a complete image, got {len(data)} bytes without the end of the image (truncated?).'
        )


def _start_of_scan(data: bytes) -> int:
    """Return the offset of a JPEG's pixel data, or the file's length if it has none.

    The search for the end marker starts there because an embedded thumbnail has an end marker of its own.
    """
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xDA:
            return place
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a segment
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], 'big')
    return len(data)


def _imdecode(data: bytes, path: str, flag: int, part: int) -> np.ndarray:
    try:
        check_pixels(data, path, part)
        img = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    except cv2.error as error:  # more pixels than OpenCV allows
        raise BadImageError(
            f'{path} must be an image that OpenCV can decode, got an error: {opencv_reason(error)}.'
        ) from None
    except PixelLimitError as error:  # the setting is at fault, not the image
        raise RefusedError(str(error)) from None
    except ValueError as error:  # more pixels than our limit allows
        raise BadImageError(str(error)) from None
    if img is None:
        raise BadImageError(f'{path} must be an image that OpenCV can decode, got {len(data)} bytes that are no image.')
    return img
