"""Draw augmented training samples with their boxes and masks, to inspect the data before training.

The images are what the model gets: the config's own dataset and pipeline, packed. Boxes and masks have the colour of
their class, and masks the resolution of the loss; boxes that training ignores, such as crowds, are thin and grey.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed

from rtmdet_runtime.drawing import draw_box, draw_mask, label_colour

from ..stride_masks import STRIDE, StrideMasks
from .tree import leaf_datasets

GAP = 8
"""Space between two images of a grid, in pixels."""
GREY = (160, 160, 160)


class Picture(NamedTuple):
    """An image with its boxes drawn on it, BGR, uint8, (H, W, 3), and what it shows."""

    image: np.ndarray
    caption: str


def training_set(config: Config, stage: int):
    """Build the config's training set with the pipeline of stage 1 or 2.

    Raises:
        ValueError: if `stage` is 2 and the config has no stage 2.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    if stage == 2:
        switch = config.get('default_hooks', {}).get('pipeline_switch') or {}
        if not switch.get('switch_pipeline') or not switch.get('num_last_epochs', 1):
            raise ValueError(
                'stage must be 1 for a config without stage 2, got 2; set default_hooks.pipeline_switch in the config.'
            )
        for leaf in leaf_datasets(dataset):
            leaf.pipeline = Compose(switch['switch_pipeline'])
    return dataset


def draw_samples(dataset, count: int = 9, seed: int = 0) -> list[Picture]:
    """Draw `count` samples.

    Args:
        dataset: dataset to draw from, see `training_set`.
        count: number of samples, at least 1; without repeats if the dataset has as many.
        seed: seed of the choice of samples and of their augmentation.

    Raises:
        ValueError: if `count` is below 1.
    """
    if count < 1:
        raise ValueError(f'count must be an integer of at least 1, got {count!r}.')
    set_random_seed(seed)
    # Load some samples first and drop them, so that the caches of mosaic and MixUp hold partners.
    places = np.resize(np.random.permutation(len(dataset)), count + min(20, len(dataset)))
    drawn = [dataset[int(place)] for place in places][-count:]
    classes = dataset.metainfo.get('classes') or ()
    return [draw_sample(packed, classes) for packed in drawn]


def draw_sample(packed: dict, classes: Sequence[str]) -> Picture:
    """Draw one sample with its boxes, class names and masks.

    Args:
        packed: result of `PackDetInputs`: `inputs`, uint8 BGR of (3, H, W), and `data_samples`.
        classes: names by label.
    """
    img = packed['inputs'].numpy().transpose(1, 2, 0)
    sample: DetDataSample = packed['data_samples']
    ignored, objects = sample.ignored_instances, sample.gt_instances
    name = Path(sample.get('img_path', '')).name
    if 'masks' in objects:
        masks = objects.masks  # mmdet's PackDetInputs packs masks of the full resolution
        masks = masks if isinstance(masks, StrideMasks) else StrideMasks.from_full(masks.to_ndarray())
        img = _with_masks(img, masks, objects.labels.tolist())
    return draw_picture(img, _boxes(objects), objects.labels.tolist(), classes, _boxes(ignored), name)


def draw_picture(
    img: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    classes: Sequence[str],
    ignored: Iterable[Sequence[float]] = (),
    name: str = '',
) -> Picture:
    """Draw boxes with class names on a copy of an image.

    Args:
        img: BGR, uint8. (H, W, 3)
        boxes: xyxy in pixels. (N, 4)
        labels: class of each box. (N,)
        classes: names by label.
        ignored: boxes that training ignores.
        name: name of the image, for the caption, which also counts the objects of each class.
    """
    img = np.array(img, order='C')
    for box in ignored:
        draw_box(img, box, GREY, width=1)
    names = [classes[label] if label < len(classes) else str(label) for label in labels]
    for box, label, text in zip(boxes, labels, names, strict=True):
        draw_box(img, box, label_colour(label), text)
    counts = ', '.join(f'{count} {text}' for text, count in Counter(names).items()) or 'no objects'
    return Picture(img, f'{name}: {counts}' if name else counts)


def grid(images: Sequence[np.ndarray]) -> np.ndarray:
    """Arrange images in a nearly square grid on white, (H, W, 3)."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height = max(img.shape[0] for img in images) + GAP
    width = max(img.shape[1] for img in images) + GAP
    canvas = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for place, img in enumerate(images):
        y, x = place // columns * height + GAP, place % columns * width + GAP
        canvas[y : y + img.shape[0], x : x + img.shape[1]] = img
    return canvas


def image_files(dataset) -> list[str]:
    """Return the image files of a dataset, through its wrappers."""
    return [leaf.get_data_info(i)['img_path'] for leaf in leaf_datasets(dataset) for i in range(len(leaf))]


def _with_masks(img: np.ndarray, masks: StrideMasks, labels: Sequence[int]) -> np.ndarray:
    """Return a copy of an image, (H, W, 3), on which masks are half transparent."""
    img = img.copy()
    for pixels, label in zip(masks.pixels.numpy(), labels, strict=True):
        shown = pixels.repeat(STRIDE, 0).repeat(STRIDE, 1)[: img.shape[0], : img.shape[1]]
        # A last row of less than half a stride has no sample.
        draw_mask(img, shown > 0, 0, 0, label_colour(label))
    return img


def _boxes(instances) -> np.ndarray:
    boxes = instances.bboxes
    return np.asarray(getattr(boxes, 'tensor', boxes))
