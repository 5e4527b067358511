"""Decoding a picture, or saying why it can't be used.

OpenCV tells nothing but "no picture", and some of its versions not even that: a JPEG that ends early comes out with
its rest in grey. So the end of the file is looked for first.
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
"""OpenCV's flag for decoding at 1/n."""

JPEG = b'\xff\xd8\xff'
JPEG_END = b'\xff\xd9'
PNG = b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'


class BadPictureError(RefusedError):
    """A picture that can't be used; the message names the file, what is wrong, and what is accepted."""


def decode(
    data: bytes,
    path: str,
    expected: tuple[int, int] | None = None,
    img_scale: tuple[int, int] | None = None,
    exif: str = 'as_annotated',
) -> np.ndarray:
    """Decode a picture as 8-bit BGR.

    Args:
        data: content of the file.
        path: its name, for messages.
        expected: (height, width) that the picture must have, before it is made smaller. Without it, it is not made
            smaller.
        img_scale: (width, height) that a smaller form must still fill in one direction.
        exif: which way up, where the file has an EXIF tag that turns or mirrors it. `'turned'`: as the tag says, as
            viewers show it. `'stored'`: as it is in the file. `'as_annotated'`: turned, unless only the stored
            picture has the size that is expected.

    Returns:
        The picture. (H, W, 3), with sides of `expected` divided by 1, 2, 4 or 8, rounded up.

    Raises:
        BadPictureError: where `data` is no picture, only the beginning of one, a picture of another size, or one with
            more pixels than `check_pixels` accepts.
        RefusedError: if the limit on pixels isn't a number.
    """
    check_whole(data, path)
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
        raise BadPictureError(
            f'{path}: has {found[1]}x{found[0]} pixels (width x height), its annotation says '
            f'{expected[1]}x{expected[0]}; accepted: the same size, or its boxes would miss their objects.'
        )
    return img


def check_whole(data: bytes, path: str) -> None:
    """Refuse a JPEG or PNG that ends early, which takes microseconds; OpenCV finds it in the other formats.

    What follows the end of the picture doesn't matter.

    Raises:
        BadPictureError: where the mark of the end is missing.
    """
    if data.startswith(JPEG):
        whole = data.rfind(JPEG_END, _start_of_scan(data)) >= 0
    elif data.startswith(PNG):
        whole = data.rfind(PNG_END) >= 0
    else:
        return
    if not whole:
        raise BadPictureError(
            f'{path}: {len(data)} bytes without the end of the picture (cut off?); accepted: a whole file.'
        )


def _start_of_scan(data: bytes) -> int:
    """Where a JPEG's pixels begin; its length where they don't. A thumbnail before them has an end of its own."""
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xDA:
            return place
        if marker == 0xFF:  # fill
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
        raise BadPictureError(
            f'{path}: OpenCV can not decode it ({opencv_reason(error)}); accepted: a picture that it can.'
        ) from None
    except PixelLimitError as error:  # a setting is at fault, not the image
        raise RefusedError(str(error)) from None
    except ValueError as error:  # more pixels than we allow
        raise BadPictureError(str(error)) from None
    if img is None:
        raise BadPictureError(f'{path}: {len(data)} bytes that are no picture; accepted: what OpenCV can decode.')
    return img
