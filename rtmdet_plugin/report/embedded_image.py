"""Embed images with the ground truth next to the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from rtmdet_runtime.drawing import jpeg_uri
from rtmdet_runtime.masks import Masks
from rtmdet_runtime.messages import one_line

from ..evaluation.boxes import Boxes
from ..transforms.loading import load_image
from .image_choice import Judged

MAX_SIDE = 1280  # pixels


class DrawnBox(NamedTuple):
    """A box with its text and its mask; lengths in pixels of the image."""

    left: float
    top: float
    width: float
    height: float
    text: str
    kind: str
    """'right', 'missed', 'wrong', or 'ignored'."""
    mask: str
    """Data of an SVG path; '' without mask."""


@dataclass(frozen=True)
class EmbeddedImage:
    """An image in the page."""

    number: int
    """Position of the image, unique in the page."""
    name: str
    width: int
    height: int
    """Size in pixels of the boxes' coordinates."""
    data: str | None
    """JPEG as a data URI; None if it can't be read."""
    problem: str
    """Why it can't be read."""
    objects: list[DrawnBox]
    predictions: list[DrawnBox]
    f1: float
    """Between 0 and 1."""

    @property
    def text_size(self) -> float:
        """Height of the text in pixels of the boxes' coordinates; readable when the image fills a window."""
        return max(self.width, self.height) / 45


def embed(image: int, entry: Mapping, judged: Judged, classes: Sequence[str]) -> EmbeddedImage:
    """Return an image with its boxes.

    Args:
        image: position of the image.
        entry: its entry in COCO's list, with a path as `file_name`.
        judged: boxes of all images.
        classes: class names in the order of the labels.
    """
    data, problem = None, ''
    try:
        data = _jpeg(entry)
    except (OSError, ValueError) as error:
        problem = one_line(error)
    shown, chosen = judged.objects.image == image, judged.detections.image == image
    objects, found = judged.objects[shown], judged.detections[chosen]
    names = np.array(classes, object)
    texts = [f'{name} {score:.2f}' for name, score in zip(names[found.label], found.score, strict=True)]
    kinds = np.select([objects.crowd, judged.missed[shown]], ['ignored', 'missed'], 'right')
    return EmbeddedImage(
        number=image,
        name=Path(entry['file_name']).name,
        width=entry['width'],
        height=entry['height'],
        data=data,
        problem=problem,
        objects=_drawn(objects, names[objects.label].tolist(), kinds.tolist()),
        predictions=_drawn(found, texts, ['wrong' if wrong else 'right' for wrong in judged.wrong[chosen]]),
        f1=float(judged.f1[image]),
    )


def _drawn(boxes: Boxes, texts: Sequence[str], kinds: Sequence[str]) -> list[DrawnBox]:
    masks = [''] * len(boxes) if boxes.mask is None else map(_path, boxes.mask)
    return [
        DrawnBox(left, top, width, height, text, kind, mask)
        for (left, top, width, height), text, kind, mask in zip(
            boxes.xywh.round(1).tolist(), texts, kinds, masks, strict=True
        )
    ]


def _path(mask: Any) -> str:
    """Return a mask, a run-length code of pycocotools, as the data of an SVG path."""
    (polygons,) = Masks.from_arrays(coco_mask.decode(mask)[None].astype(bool)).polygons()
    return ''.join(f'M{" ".join(f"{value:g}" for value in polygon.flat)}Z' for polygon in polygons)


def _jpeg(entry: Mapping) -> str:
    """Return an image as a data URI, no larger than `MAX_SIDE`.

    Raises:
        OSError, ValueError: if it can't be read; see `load_image`.
    """
    pixels = load_image(dict(entry, img_path=entry['file_name']), (MAX_SIDE, MAX_SIDE))
    scale = MAX_SIDE / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return jpeg_uri(pixels)
