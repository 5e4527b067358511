"""Draw a grid of augmented training samples with their boxes, to inspect the data before training.

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
"""Space between two samples, in pixels."""


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


def draw_sample(packed: dict, classes: tuple[str, ...]) -> np.ndarray:
    """Draw one sample with its boxes and class names.

    Args:
        packed: result of `PackDetInputs`: `inputs`, uint8 BGR of (3, H, W), and `data_samples`.
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


def draw_samples(dataset, count: int = 9, seed: int = 0) -> np.ndarray:
    """Draw a grid of `count` samples.

    Args:
        dataset: dataset to draw from, see `training_set`.
        count: number of samples, at least 1; without repeats if the dataset has as many.
        seed: seed of the choice of samples and of their augmentation.

    Returns:
        The grid, BGR, uint8. (H, W, 3)

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
    return grid([draw_sample(packed, classes) for packed in drawn])


def _boxes(instances) -> list[tuple[list[int], int]]:
    boxes = instances.bboxes
    boxes = np.asarray(getattr(boxes, 'tensor', boxes)).round().astype(int)
    return [(box.tolist(), int(label)) for box, label in zip(boxes, instances.labels, strict=True)]


def image_files(dataset) -> list[str]:
    """Return the image files of a dataset, through its wrappers."""
    return [leaf.get_data_info(i)['img_path'] for leaf in leaf_datasets(dataset) for i in range(len(leaf))]
