"""MixUp: average an image with one from a cache of earlier samples, and keep the objects of both.

Arguments are those of mmdet's `CachedMixUp`; for the same random numbers, pixels and boxes are the same. Differences:

- *No sample stays unmixed because the cache is empty*: if it holds no other sample yet, `None` is returned, which
  makes mmengine's `BaseDataset` draw another index. A sample is returned unmixed only if `max_iters` draws find
  no partner with a box, as in mmdet.
- *No sample is mixed with itself*, as cached in an earlier epoch, unless the cache holds no other image.
- *`flip_ratio` is the probability of a flip*; in mmdet it is the probability of no flip.
- *Grayscale* images of (H, W) and (H, W, 1) work; mmdet always builds three channels and fails.
- *Every crop of the partner can be drawn*, including the last one at its right and lower edge.
- *The dtype stays.* mmdet casts the result to uint8, whatever the input's dtype.
- *Masks stay on their objects*: mmdet flips masks on the partner's width but boxes on the canvas's, and cuts
  masks to the result's size before it moves them. They are outlines, see outline_masks.py.
- The draws are a separate value (`MixUpParams`); `mixup` is a pure function of them.

Source: MixUp for detection as in YOLOX, arXiv 2107.08430; cached as in RTMDet, arXiv 2212.07784.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from mmdet.registry import TRANSFORMS

from .boxes import clip_boxes, flip_boxes, inside, place_boxes
from .checks import check_at_least, check_image_scale, check_pad_value, check_probability, check_range
from .random_transform import RandomSource, RandomTransform
from .sample import Sample, blank, check_compatible, fit_scale, join, paste, resize, with_own_image
from .sample_cache import SampleCache


class MixUpParams(NamedTuple):
    """The random choices of one MixUp."""

    partner: int
    """Index of the partner in the cache."""
    ratio: float
    """Scale factor of the partner's canvas."""
    flip: bool
    """Whether the partner's canvas is mirrored."""
    offset: tuple[int, int]
    """(x, y) of the crop within the partner's canvas, in pixels."""


def scaled_canvas(img_scale: tuple[int, int], ratio: float) -> tuple[int, int]:
    """Return (width, height) of the partner's canvas scaled by `ratio`; each at least one pixel."""
    return max(int(img_scale[0] * ratio), 1), max(int(img_scale[1] * ratio), 1)


def mixup(
    sample: Sample,
    partner: Sample,
    params: MixUpParams,
    img_scale: tuple[int, int],
    pad_val: float | Sequence[float] = 114.0,
    clip: bool = True,
) -> Sample:
    """Average `sample` with `partner`, which is first fitted into a canvas, scaled, flipped and cropped.

    Args:
        sample: sample that determines the size of the result; not modified.
        partner: sample to mix in; not modified.
        params: the draws; `params.partner` isn't used.
        img_scale: (width, height) of the canvas that `partner` is fitted into, at its top left corner.
        pad_val: colour around `partner`.
        clip: clip the partner's boxes to its canvas and to the result.

    Returns:
        An image of `sample`'s size, and the objects of both samples that lie on it at least partly.
    """
    check_compatible((sample, partner))
    shape = sample.img.shape[:2]
    offset_x, offset_y = -params.offset[0], -params.offset[1]

    fit = fit_scale(partner.img, *img_scale)
    img = resize(partner.img, int(partner.img.shape[1] * fit), int(partner.img.shape[0] * fit))
    canvas = _on_canvas(img, (img_scale[1], img_scale[0]), 0, 0, pad_val)
    width, height = scaled_canvas(img_scale, params.ratio)
    if (height, width) != canvas.shape[:2]:
        # float64, then truncated to integers, as in mmdet: resizing uint8 would make some pixels one level brighter
        canvas = resize(canvas.astype(np.float64), width, height).astype(canvas.dtype)
    if params.flip:
        canvas = cv2.flip(canvas, 1).reshape(canvas.shape)  # a flipped view would make averaging four times as slow
    other = _on_canvas(canvas, shape, offset_x, offset_y, pad_val)

    scale = fit * params.ratio
    boxes = place_boxes(partner.boxes, (scale, scale), (0, 0))
    if clip:
        clip_boxes(boxes, (height, width))
    if params.flip:
        boxes = flip_boxes(boxes, width)
    boxes = place_boxes(boxes, (1, 1), (offset_x, offset_y))
    if clip:
        clip_boxes(boxes, shape)
    masks = partner.masks
    if masks is not None:
        masks = masks.place((scale, scale), (0, 0), (height, width))
        masks = (masks.flip() if params.flip else masks).place((1, 1), (offset_x, offset_y), shape)

    moved = Sample(other, boxes, partner.labels, partner.ignore_flags, masks)
    mixed = join(_average(sample.img, other), (sample, moved))
    return mixed.select(inside(mixed.boxes, shape))


@TRANSFORMS.register_module()
class RTMCachedMixUp(RandomTransform):
    """Mix each sample with an earlier one.

    Needs `img`, `gt_bboxes`, `gt_bboxes_labels` and `gt_ignore_flags`; changes them, `img_shape` and, if present,
    `gt_masks`. The image keeps its size and dtype.

    Args:
        img_scale: (width, height) that the partner is fitted into, with its aspect ratio kept.
        ratio_range: range of the factor by which the fitted partner is scaled.
        flip_ratio: probability that the partner is mirrored.
        pad_val: colour around the partner: a number, or one per channel of three.
        max_iters: number of draws to find a partner with boxes; if all fail, the sample is returned unmixed.
        bbox_clip_border: clip the partner's boxes to the border.
        max_cached_images: size of the cache, at least 2.
        random_pop: drop a random sample from the full cache; otherwise the oldest.
        prob: probability of mixing; a sample that isn't mixed is still cached.
        rng: source of all random numbers, see `RandomTransform`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        ratio_range: Sequence[float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float | Sequence[float] = 114.0,
        max_iters: int = 15,
        bbox_clip_border: bool = True,
        max_cached_images: int = 20,
        random_pop: bool = True,
        prob: float = 1.0,
        *,
        rng: RandomSource | None = None,
    ) -> None:
        super().__init__(rng)
        self.img_scale = check_image_scale('img_scale', img_scale)
        self.ratio_range = check_range('ratio_range', ratio_range)
        self.flip_ratio = check_probability('flip_ratio', flip_ratio)
        self.pad_val = check_pad_value('pad_val', pad_val)
        self.max_iters = check_at_least('max_iters', max_iters, 1)
        self.bbox_clip_border = bbox_clip_border
        self.cache = SampleCache(check_at_least('max_cached_images', max_cached_images, 2), random_pop)
        self.prob = check_probability('prob', prob)

    def draw(self, places: Sequence[int], shape: tuple[int, int]) -> MixUpParams | None:
        """Draw the random choices of one MixUp.

        Args:
            places: indices in the cache to choose the partner from, at least one.
            shape: (height, width) of the image that it is mixed into.

        Returns:
            The choices; `None` if no partner with a box was found.
        """
        for _ in range(self.max_iters):
            partner = self.rng.choice(places)
            if len(self.cache[partner].boxes):
                break
        else:
            return None
        ratio = self.rng.uniform(*self.ratio_range)
        flip = self.rng.random() < self.flip_ratio
        width, height = scaled_canvas(self.img_scale, ratio)
        y = self.rng.randint(0, height - shape[0]) if height > shape[0] else 0
        x = self.rng.randint(0, width - shape[1]) if width > shape[1] else 0
        return MixUpParams(partner, ratio, flip, (x, y))

    def transform(self, results: dict) -> dict | None:
        """Cache the sample and mix it.

        Returns:
            The mixed sample; `None` if the cache holds no other sample yet, so that the dataset draws again.
        """
        sample = Sample.from_results(results)
        others = self.cache.add(sample, self.rng)
        if self.rng.random() >= self.prob:
            return with_own_image(results)
        if others == 0:
            return None
        params = self.draw(self.cache.partners(sample, others), sample.img.shape[:2])
        if params is None:
            return with_own_image(results)
        partner = self.cache[params.partner]
        mixed = mixup(sample, partner, params, self.img_scale, self.pad_val, self.bbox_clip_border)
        return mixed.write_to(results)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(img_scale={self.img_scale}, ratio_range={self.ratio_range}, '
            f'flip_ratio={self.flip_ratio}, pad_val={self.pad_val}, max_iters={self.max_iters}, '
            f'bbox_clip_border={self.bbox_clip_border}, max_cached_images={self.cache.max_size}, '
            f'random_pop={self.cache.random_pop}, prob={self.prob})'
        )


def _on_canvas(img: np.ndarray, shape: tuple[int, int], x: int, y: int, pad_val: float | Sequence[float]) -> np.ndarray:
    """Paste `img` at (x, y) of a canvas of `pad_val`, (H, W[, C]); return `img` itself if it covers the canvas."""
    if img.shape[:2] == tuple(shape) and x == y == 0:
        return img
    canvas = blank(img, *shape, pad_val)
    paste(canvas, img, x, y)
    return canvas


def _average(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the mean of two images in their dtype, rounded down, (H, W[, C])."""
    if first.dtype == np.uint8:
        # OpenCV rounds half to even; subtracting a quarter first makes that rounding down for every sum.
        return cv2.addWeighted(first, 0.5, second, 0.5, -0.25).reshape(first.shape)
    return (0.5 * first.astype(np.float32) + 0.5 * second.astype(np.float32)).astype(first.dtype)
