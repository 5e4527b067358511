"""Draw images of a dataset with their boxes and masks: as they are, or as the training gets them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config

from rtmdet_runtime.drawing import draw_mask, label_colour

from ..datasets.preview import Picture, draw_picture, draw_samples, training_set
from ..errors import RefusedError
from ..training.formats.labelled import Labelled
from ..transforms.decoding import BadImageError, decode
from ..transforms.outline_masks import OutlineMasks
from ..transforms.outlines import outline_of
from .objects import Objects, objects_by_split
from .training_config import training_config

SMALLEST, LARGEST = 320, 640
"""Longer side of a drawn image in pixels; smaller ones are enlarged, so that the names of classes can be read."""


def draw_data(dataset: Labelled, split: str, count: int, seed: int, masks: bool) -> list[Picture]:
    """Draw images of a split as they are, with the boxes that are learned, and grey ones that are ignored.

    Images that can't be decoded are left out.

    Args:
        dataset: see `read_data`.
        split: 'train', 'val' or 'test'.
        count: largest number of images.
        seed: seed of the choice.
        masks: whether to draw the objects' masks too.

    Raises:
        RefusedError: if there is no such split, or none of its images can be decoded.
    """
    by_split = {objects.split: objects for objects in objects_by_split(dataset)}
    ignored = {objects.split: objects for objects in objects_by_split(dataset, ignored=True)}
    if split not in by_split:
        raise RefusedError(f'split must be one of {", ".join(by_split)}, got {split!r}')
    objects = by_split[split]
    places = list(range(len(objects.files)))
    random.Random(seed).shuffle(places)
    pictures = []
    for place in places:
        if len(pictures) == count:
            break
        picture = _draw_image(objects, ignored[split], place, masks)
        pictures += [] if picture is None else [picture]
    if not pictures:
        raise RefusedError(f'{split} must have an image that can be decoded, got none of {len(places)}')
    return pictures


def draw_stage(data: Config | Labelled, model: str, stage: int, count: int, seed: int) -> list[Picture]:
    """Draw augmented training samples, as the model gets them.

    Args:
        data: a config, or a dataset.
        model: name of the model whose pipeline is used, unless `data` is a config.
        stage: training stage, 1 or 2.
        count: number of samples.
        seed: seed of the choice of images and of their augmentation.

    Raises:
        RefusedError: if the dataset can't be trained on.
        ValueError: if `stage` is 2 and the config has no stage 2.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = data if isinstance(data, Config) else training_config(data, model, Path(folder))
        return draw_samples(training_set(config, stage), count, seed)


def read_scaled(file: str, size: Sequence[int], largest: int, smallest: int = 0) -> tuple[np.ndarray, float] | None:
    """Decode an image at a size for showing it.

    Args:
        file: image file.
        size: width and height of its annotation in pixels.
        largest: longer side in pixels from which it is shrunk.
        smallest: longer side in pixels below which it is enlarged.

    Returns:
        The image, BGR, uint8, (H, W, 3), and its scale; None if it can't be decoded.
    """
    width, height = size
    try:
        img = decode(Path(file).read_bytes(), file, (height, width), (largest, largest))
    except (BadImageError, OSError):
        return None
    side = max(size)
    scale = largest / side if side > largest else max(1.0, smallest / side)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return cv2.resize(img, shape, interpolation=method), scale


def _draw_image(objects: Objects, ignored: Objects, place: int, masks: bool) -> Picture | None:
    width, height = objects.sizes[place].astype(int).tolist()
    found = read_scaled(objects.files[place], (width, height), LARGEST, SMALLEST)
    if found is None:
        return None
    img, scale = found
    mine = objects.images == place
    for number in np.flatnonzero(mine).tolist() if masks else ():
        pixels = _pixels_of(objects.masks[number], (height, width), img.shape[:2])
        if pixels is not None:
            draw_mask(img, pixels > 0, 0, 0, label_colour(int(objects.labels[number])))
    grey = ignored.boxes[ignored.images == place] * scale
    name = Path(objects.files[place]).name
    return draw_picture(img, objects.boxes[mine] * scale, objects.labels[mine].tolist(), objects.classes, grey, name)


def _pixels_of(mask: Any, shape: tuple[int, int], drawn: tuple[int, int]) -> np.ndarray | None:
    """Return a mask on an image of (height, width) at the size at which that is drawn; None if it can't be used."""
    try:
        outline = outline_of(mask, shape)
    except ValueError:
        return None
    return None if outline is None else OutlineMasks.on_image([outline], shape).resize(drawn).to_ndarray()[0]


def image_paths(dataset: Labelled) -> Sequence[str]:
    """Return the image files of a dataset."""
    return [file for objects in objects_by_split(dataset) for file in objects.files]
