"""Draw detections on images, and write the images to files."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
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
FONT = (cv2.FONT_HERSHEY_SIMPLEX, 0.45)
"""Font of the names, and its scale."""
LINE = 1.6
"""Width of the lines of boxes in an image of up to `LARGE` pixels; both lines and names grow with larger images."""
LARGE = 1000
"""Longer side of an image, in pixels, above which lines and names grow."""
OPACITY = 0.5
"""Opacity of masks."""
DARK = 110
"""Brightness of a colour below which names on it are white."""
Rectangle = tuple[int, int, int, int]
"""xyxy in pixels."""
JPEG_QUALITY = 85
"""Quality of the images in HTML pages."""


def label_colour(label: int) -> tuple[int, int, int]:
    """Return a bright colour (BGR); hues are spaced by the golden ratio, so that those of near labels differ."""
    hue = int(180 * (label * 0.618034 % 1))
    return tuple(cv2.cvtColor(np.array([[[hue, 220, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist())


def draw(image: Image, detections: Detections) -> Image:
    """Return a copy of an image with masks, boxes, class names and scores drawn on it.

    Names are moved so that they don't cover each other; a name without a free place is left out.
    """
    image = image.copy()
    scale = max(1.0, max(image.shape[:2]) / LARGE)
    colours = [label_colour(label) for label in detections.labels.tolist()]
    if detections.masks is not None:
        for number in reversed(range(len(detections))):  # the best one on top, as below
            draw_mask(image, *detections.masks.cut(number), colours[number])
    for box, colour in reversed(list(zip(detections.boxes, colours, strict=True))):
        draw_box(image, box, colour, width=max(1, round(LINE * scale)))
    taken: list[Rectangle] = []
    names = detections.names
    if detections.ids is not None:
        names = [f'{name} #{number}' for name, number in zip(names, detections.ids.tolist(), strict=True)]
    for box, score, name, colour in zip(detections.boxes, detections.scores, names, colours, strict=True):
        text = f'{name} {score:.2f}'
        free = (place for place in text_places(image, box, text, scale) if not any(overlap(place, t) for t in taken))
        if (place := next(free, None)) is not None:
            taken.append(place)
            draw_text(image, place, text, colour, scale)
    return image


def draw_mask(image: Image, pixels: np.ndarray, x: int, y: int, colour: tuple[int, int, int]) -> None:
    """Tint the pixels of a mask in an image, in place; see `Masks.cut`."""
    part = image[y : y + pixels.shape[0], x : x + pixels.shape[1]]
    for channel, value in enumerate(colour):
        table = np.round(np.arange(256) * (1 - OPACITY) + value * OPACITY).astype(np.uint8)
        plane = part[..., channel]
        plane[pixels] = table[plane[pixels]]


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
    cv2.rectangle(image, *corners(image, box), colour, width)
    if text:
        draw_text(image, next(text_places(image, box, text, 1.0)), text, colour, 1.0)


def corners(image: Image, box: Sequence[float] | np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the upper left and lower right pixel of a box, at most `MARGIN` outside the image."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip(np.round(box), -MARGIN, np.array([width, height] * 2) + MARGIN).astype(int).tolist()
    return (x1, y1), (x2, y2)


def text_places(image: Image, box: Sequence[float] | np.ndarray, text: str, scale: float) -> Iterator[Rectangle]:
    """Yield places for the name of a box within the image: above it, in it, below it, and further above."""
    (x1, y1), (x2, y2) = corners(image, box)
    (width, height), below = cv2.getTextSize(drawable(text), FONT[0], FONT[1] * scale, max(1, round(scale)))
    total = height + below
    for left, top in (
        *((x1, y1 - total), (x2 - width, y1 - total), (x1, y1), (x1, y2)),
        *((x1, y1 - number * total) for number in range(2, 5)),
    ):
        left, top = max(0, min(left, image.shape[1] - width)), max(0, min(top, image.shape[0] - total))
        yield left, top, left + width, top + total


def overlap(one: Rectangle, other: Rectangle) -> bool:
    """Return whether two rectangles have a pixel in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def draw_text(image: Image, place: Rectangle, text: str, colour: tuple[int, int, int], scale: float) -> None:
    """Draw a name on an image, in place; see `text_places`."""
    left, top, right, bottom = place
    thickness = max(1, round(scale))
    below = cv2.getTextSize(drawable(text), FONT[0], FONT[1] * scale, thickness)[1]
    cv2.rectangle(image, (left, top), (right, bottom), colour, cv2.FILLED)
    ink = (0, 0, 0) if np.dot(colour, (0.114, 0.587, 0.299)) > DARK else (255, 255, 255)
    cv2.putText(image, drawable(text), (left, bottom - below), FONT[0], FONT[1] * scale, ink, thickness, cv2.LINE_AA)


def drawable(text: str) -> str:
    """Return a text without what isn't valid Unicode, which would crash OpenCV."""
    return text.encode(errors='replace').decode()


def jpeg_uri(image: Image) -> str:
    """Return an image, BGR, uint8, (H, W, 3), as a JPEG in a data URI, for an HTML page."""
    content = cv2.imencode('.jpg', image, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1].tobytes()
    return f'data:image/jpeg;base64,{base64.b64encode(content).decode()}'


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
    if path.exists() and not _end_of(path).endswith(MARK):
        raise ValueError(f'{path} would replace a file that rtmdet did not write; choose another name, or remove it')


def _end_of(path: Path) -> bytes:
    with open(path, 'rb') as file:
        file.seek(max(0, path.stat().st_size - len(MARK)))
        return file.read()


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
