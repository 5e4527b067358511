"""The strength of a training pipeline's augmentation."""

from __future__ import annotations

from typing import NamedTuple

from mmengine.config import Config

from .pipelines import step_name


class Augmentation(NamedTuple):
    """How strongly training images are scaled and mixed."""

    smallest: float
    """Smallest random scale of an image; 1 fits it into the input size."""
    largest: float
    """Largest random scale."""
    mixup: float
    """Share of the images of stage 1 with MixUp."""


def augmentation_of(config: Config) -> Augmentation | None:
    """Return the augmentation of a config's training pipeline; None if it has no mosaic and MixUp of this package."""
    pipeline = ((config.get('train_dataloader') or {}).get('dataset') or {}).get('pipeline') or ()
    steps = {step_name(step): step for step in pipeline}
    mosaic, mixup = steps.get('RTMCachedMosaicResizeCrop'), steps.get('RTMCachedMixUp')
    if mosaic is None or mixup is None:
        return None
    smallest, largest = mosaic.get('ratio_range', (0.1, 2.0))
    return Augmentation(smallest, largest, mixup.get('prob', 1.0))
