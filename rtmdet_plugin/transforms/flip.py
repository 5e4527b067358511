"""Random horizontal flip that returns a contiguous image.

mmdet's `RandomFlip` returns a view with a negative stride, which slows down every later step: `Pad` takes 1.3 ms
instead of 0.1. OpenCV's flip of 640x640 pixels takes 0.05 ms.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
from mmdet.registry import TRANSFORMS

from .boxes import flip_boxes
from .checks import check_probability
from .random_transform import RandomSource, RandomTransform
from .sample import Sample


@TRANSFORMS.register_module()
class RTMRandomFlip(RandomTransform):
    """Mirror image, boxes and masks left to right.

    Sets `flip` and `flip_direction`; the latter is None if the sample isn't flipped.

    Args:
        prob: probability of the flip.
        rng: source of all random numbers, see `RandomTransform`.

    Raises:
        ValueError: if `prob` isn't a number from 0 to 1.
    """

    def __init__(self, prob: float = 0.5, *, rng: RandomSource | None = None) -> None:
        super().__init__(rng)
        self.prob = check_probability('prob', prob)

    def transform(self, results: dict) -> dict:
        """Flip the sample with probability `prob`."""
        results['flip'] = self.rng.random() < self.prob
        results['flip_direction'] = 'horizontal' if results['flip'] else None
        if not results['flip']:
            return results
        sample = Sample.from_results(results)
        img = sample.img
        return replace(
            sample,
            img=cv2.flip(img, 1).reshape(img.shape),
            boxes=flip_boxes(sample.boxes, img.shape[1]),
            masks=None if sample.masks is None else sample.masks.flip(),
        ).write_to(results)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(prob={self.prob})'
