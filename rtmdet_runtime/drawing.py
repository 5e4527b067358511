"""Draw detections on images, and write the images to files."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from .detections import Detections
from .image import Image
from .output import InputFiles, check_output, write_result

MARK = b'\nDrawn by rtmdet.\n'
"""End of each file that `write_image` writes, ignored by decoders. Only files with this mark are replaced."""

MARGIN = 100
"""Pixels outside an image in which a box is still drawn as it is; OpenCV takes no arbitrary numbers."""
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.5)
"""Font of the names, and its scale."""
JPEG_QUALITY = 85
"""Quality of the images in HTML pages."""


def label_colour(label: int) -> tuple[int, int, int]:
    """Return a bright colour (BGR); hues are spaced by the golden ratio, so that those of near labels differ."""
    hue = int(180 * (label * 0.618034 % 1))
    return tuple(cv2.cvtColor(np.array([[[hue, 220, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist())


def draw(image: Image, detections: Detections) -> Image:
    """Return a copy of an image with boxes, class names and scores drawn on it."""
    image = image.copy()
    rows = zip(detections.boxes, detections.scores, detections.labels, detections.names, strict=True)
    for box, score, label, name in reversed(list(rows)):  # the best ones last, on top
        draw_box(image, box, label_colour(label), f'{name} {score:.2f}')
    return image


def draw_box(
    image: Image, box: Sequence[float] | np.ndarray, colour: tuple[int, int, int], text: str = '', width: int = 2
) -> None:
    """Draw a box with its name on an image, in place.

    Args:
        image: BGR, uint8. (H, W, 3)
        box: xyxy in pixels; it may extend past the image.
        colour: BGR.
        text: name of the class.
        width: width of the lines in pixels.
    """
    height, length = image.shape[:2]
    limits = np.array([length, height, length, height]) + MARGIN
    x1, y1, x2, y2 = np.clip(np.round(box), -MARGIN, limits).astype(int).tolist()
    cv2.rectangle(image, (x1, y1), (x2, y2), colour, width)
    if not text:
        return
    text = text.encode(errors='replace').decode()  # text that isn't valid Unicode would crash OpenCV
    (text_width, text_height), below = cv2.getTextSize(text, *FONT, 1)
    left, base = max(0, min(x1, length - text_width)), max(y1 - below, text_height)
    cv2.rectangle(image, (left, base - text_height), (left + text_width, base + below), colour, cv2.FILLED)
    cv2.putText(image, text, (left, base), *FONT, (0, 0, 0), 1, cv2.LINE_AA)


def jpeg_uri(image: Image) -> str:
    """Return an image, BGR, uint8, (H, W, 3), as a JPEG in a data URI, for an HTML page."""
    content = cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()
    return f'data:image/jpeg;base64,{base64.b64encode(content).decode()}'


def check_drawn(paths: list[Path], folder: Path, inputs: InputFiles) -> None:
    """Check that drawn images can be written without replacing an input, another file or each other.

    Args:
        paths: images to draw on; the drawn images have the same names.
        folder: folder of the drawn images.
        inputs: see `input_files`.

    Raises:
        ValueError: if a name has no ending that OpenCV can write, or two images have the same name.
        ValueError, OSError: see `check_image`.
    """
    taken = {}
    for path in paths:
        if not path.suffix or not cv2.haveImageWriter(f'x{path.suffix}'):
            raise ValueError(
                f'--out {folder}: the name of {path} must end in .bmp, .jpg, .png, .tif, .webp or another ending that '
                f'OpenCV can write, got {path.suffix or "no ending"}; rename the image'
            )
        target = folder / path.name
        check_image(target, inputs, (path.suffix,))
        if taken.setdefault(target.resolve(), path) != path:
            raise ValueError(
                f'--out {folder}: {taken[target.resolve()]} and {path} would be drawn to the same file; '
                'draw the images of one folder at a time'
            )


def check_image(path: Path, inputs: InputFiles, endings: Iterable[str]) -> None:
    """Check that an image can be written without replacing an input or a file that `write_image` did not write.

    Args:
        path: see `check_output`.
        inputs: see `check_output`.
        endings: see `check_output`.

    Raises:
        ValueError: if it would replace a file that `write_image` did not write.
        ValueError, OSError: see `check_output`.
    """
    check_output(path, inputs, endings)
    if path.exists() and not path.read_bytes().endswith(MARK):
        raise ValueError(f'{path} would replace a file that rtmdet did not write; choose another name, or remove it')


def write_image(path: Path, image: Image) -> None:
    """Write an image atomically, in the format of the file's ending, followed by `MARK`.

    Raises:
        ValueError: if the format can't contain the image, for example because of its size.
        OSError: if the file can't be written.
    """
    try:
        encoded, content = cv2.imencode(path.suffix, image)
    except cv2.error:
        encoded = False
    if not encoded:
        raise ValueError(f'{path}: OpenCV can not write an image of {image.shape[:2]} (height, width) in this format')
    write_result(path, content.tobytes() + MARK)
