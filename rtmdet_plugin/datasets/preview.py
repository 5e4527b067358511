"""Draw a grid of augmented training samples with their boxes, to look at the data before a training.

The images are what the model gets: the config's own dataset and pipeline, packed. Boxes have the colour of their class;
boxes that training ignores, such as crowds, are thin and grey.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed

from rtmdet_runtime.drawing import label_colour

from .tree import leaf_datasets

GAP = 8
"""Pixels between two samples."""


def training_set(config: Config, stage: int):
    """Build the config's training set with the pipeline of stage 1 or 2.

    Raises:
        ValueError: if the config has no stage 2.
    """
    init_default_scope(config.get('default_scope', 'mmdet'))
    dataset = DATASETS.build(config.train_dataloader.dataset)
    if stage == 2:
        switch = config.get('default_hooks', {}).get('pipeline_switch') or {}
        if not switch.get('switch_pipeline') or not switch.get('num_last_epochs', 1):
            raise ValueError(
                'stage=2: the config has none; accepted: 1, or a config with default_hooks.pipeline_switch.'
            )
        for leaf in leaf_datasets(dataset):
            leaf.pipeline = Compose(switch.switch_pipeline)
    return dataset


def draw_sample(packed: dict, classes: tuple[str, ...]) -> np.ndarray:
    """Draw one sample.

    Args:
        packed: what `PackDetInputs` gives: `inputs`, uint8 BGR of (3, H, W), and `data_samples`.
        classes: names by label.

    Returns:
        BGR, uint8. (H, W, 3)
    """
    img = np.ascontiguousarray(packed['inputs'].numpy().transpose(1, 2, 0))
    sample: DetDataSample = packed['data_samples']
    for box, _ in _boxes(sample.ignored_instances):
        cv2.rectangle(img, box[:2], box[2:], (160, 160, 160), 1)
    for box, label in _boxes(sample.gt_instances):
        colour = label_colour(label)
        cv2.rectangle(img, box[:2], box[2:], colour, 2)
        name = classes[label] if label < len(classes) else str(label)
        place = box[0] + 3, min(max(box[1] + 14, 12), img.shape[0] - 3)
        cv2.putText(img, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(img, name, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return img


def grid(images: list[np.ndarray]) -> np.ndarray:
    """Lay images out in as square a grid as they fill, on white. (H, W, 3)"""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height = max(img.shape[0] for img in images) + GAP
    width = max(img.shape[1] for img in images) + GAP
    canvas = np.full((rows * height + GAP, columns * width + GAP, 3), 255, np.uint8)
    for place, img in enumerate(images):
        y, x = place // columns * height + GAP, place % columns * width + GAP
        canvas[y : y + img.shape[0], x : x + img.shape[1]] = img
    return canvas


def draw_samples(dataset, count: int = 9, seed: int = 0) -> np.ndarray:
    """Draw a grid of `count` samples.

    Args:
        dataset: see `training_set`.
        count: number of samples, at least 1; drawn without repeats if there are as many.
        seed: of all draws.

    Raises:
        ValueError: if `count` is below 1.
    """
    if count < 1:
        raise ValueError(f'count={count!r}; accepted: an integer of at least 1.')
    set_random_seed(seed)
    # Some samples are drawn for nothing first, so that the caches behind mosaic and MixUp have something to offer.
    places = np.resize(np.random.permutation(len(dataset)), count + min(20, len(dataset)))
    drawn = [dataset[int(place)] for place in places][-count:]
    classes = dataset.metainfo.get('classes') or ()
    return grid([draw_sample(packed, classes) for packed in drawn])


def _boxes(instances) -> list[tuple[list[int], int]]:
    boxes = instances.bboxes
    boxes = np.asarray(getattr(boxes, 'tensor', boxes)).round().astype(int)
    return [(box.tolist(), int(label)) for box, label in zip(boxes, instances.labels, strict=True)]


def image_files(dataset) -> list[str]:
    """Return the image files of a dataset, through its wrappers."""
    return [leaf.get_data_info(i)['img_path'] for leaf in leaf_datasets(dataset) for i in range(len(leaf))]
