"""The average of an image and of one from a cache of earlier samples, with the objects of both.

Same arguments and, for the same draws, the same pixels and boxes as mmdet's `CachedMixUp`. What differs:

- *No sample goes unmixed because the cache is cold*: where there is no other sample yet, `None` is
  returned, which makes mmengine's `BaseDataset` draw another index. Only where `max_iters` draws find no
  partner with a box does a sample pass as it is, as in mmdet.
- *No sample is mixed with its own picture*, as an earlier epoch left it in the cache, where there are others.
- *`flip_ratio` is the probability of a flip*; in mmdet it is the probability of none.
- *Grayscale* images of (H, W) and (H, W, 1) work; mmdet builds three channels for each and fails.
- *Every crop of the partner can be drawn*, the last one at its right and lower edge included.
- *The dtype stays.* mmdet casts the result to uint8, whatever came in.
- *Masks stay on their objects*: mmdet flips masks on the partner's width but boxes on the canvas's, and cuts
  masks to the result's size before it moves them.
- The draws are a value of their own (`MixUpParams`); `mixup` is a pure function of them.

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
from .sample import Sample, blank, check_alike, fit_scale, join, paste, place_masks, resize
from .sample_cache import SampleCache


class MixUpParams(NamedTuple):
    """The draws of one MixUp."""

    partner: int
    """Place in the cache."""
    ratio: float
    """Scale of the partner's canvas."""
    flip: bool
    """Whether the partner's canvas is mirrored."""
    offset: tuple[int, int]
    """(x, y) of the crop out of the partner's canvas, in pixels."""


def scaled_canvas(img_scale: tuple[int, int], ratio: float) -> tuple[int, int]:
    """(width, height) of the partner's canvas after it was scaled by `ratio`; at least one pixel."""
    return max(int(img_scale[0] * ratio), 1), max(int(img_scale[1] * ratio), 1)


def mixup(
    sample: Sample,
    partner: Sample,
    params: MixUpParams,
    img_scale: tuple[int, int],
    pad_val: float | Sequence[float] = 114.0,
    clip: bool = True,
) -> Sample:
    """Average `sample` with `partner`, which is fitted into a canvas, scaled, flipped and cropped first.

    Args:
        sample: gives the size of the result; unchanged.
        partner: unchanged.
        params: the draws; `params.partner` isn't looked at.
        img_scale: (width, height) of the canvas that `partner` is fitted into, at its top left corner.
        pad_val: colour around `partner`.
        clip: cut the partner's boxes at the border of its canvas and of the result.

    Returns:
        An image of `sample`'s size, and the objects of both that lie on it at least in part.
    """
    check_alike((sample, partner))
    shape = sample.img.shape[:2]
    offset_x, offset_y = -params.offset[0], -params.offset[1]

    fit = fit_scale(partner.img, *img_scale)
    img = resize(partner.img, int(partner.img.shape[1] * fit), int(partner.img.shape[0] * fit))
    canvas = _framed(img, img_scale[::-1], 0, 0, pad_val)
    width, height = scaled_canvas(img_scale, params.ratio)
    if (height, width) != canvas.shape[:2]:
        # float64 and then cut to integers, as in mmdet: resized as uint8, some pixels would be one brighter
        canvas = resize(canvas.astype(np.float64), width, height).astype(canvas.dtype)
    if params.flip:
        canvas = cv2.flip(canvas, 1).reshape(canvas.shape)  # a view would make the average four times as slow
    other = _framed(canvas, shape, offset_x, offset_y, pad_val)

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
        size = tuple(max(round(side * params.ratio), 1) for side in img.shape[:2])
        masks = place_masks(masks, size, scale, (offset_x, offset_y), shape, width if params.flip else None)

    moved = Sample(other, boxes, partner.labels, partner.ignore_flags, masks)
    mixed = join(_average(sample.img, other), (sample, moved))
    return mixed.select(inside(mixed.boxes, shape))


@TRANSFORMS.register_module()
class RTMCachedMixUp(RandomTransform):
    """MixUp of each sample with an earlier one.

    Needs `img`, `gt_bboxes`, `gt_bboxes_labels` and `gt_ignore_flags`; changes them, `img_shape`
    and, where there, `gt_masks`. Size and dtype of the image stay.

    Args:
        img_scale: (width, height) that the partner is made to fit, with its proportions kept.
        ratio_range: range of the factor by which it is scaled after that.
        flip_ratio: probability that it is mirrored.
        pad_val: colour around it: a number, or one for each of three channels.
        max_iters: number of draws in which a partner with boxes must be found; without one the sample passes
            as is.
        bbox_clip_border: cut the partner's boxes at the border.
        max_cached_images: size of the cache, at least 2.
        random_pop: a random sample leaves the full cache; otherwise the oldest.
        prob: probability of mixing; otherwise the sample passes as it is (and is cached all the same).
        rng: source of all draws, see `RandomTransform`.

    Raises:
        ValueError: where an argument is out of its range.
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
        """Draw one MixUp.

        Args:
            places: the partner is at one of these places of the cache, at least one.
            shape: (height, width) of the image that it is mixed into.

        Returns:
            The draws; `None` where no partner with a box was found.
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
        """Cache the sample, and mix it.

        Returns:
            The mixed sample; `None` where the cache holds no other sample yet, so that the dataset draws
            again.
        """
        sample = Sample.from_results(results)
        others = self.cache.add(sample, self.rng)
        if self.rng.random() >= self.prob:
            return results
        if others == 0:
            return None
        params = self.draw(self.cache.partners(sample, others), sample.img.shape[:2])
        if params is None:
            return results
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


def _framed(img: np.ndarray, shape: tuple[int, int], x: int, y: int, pad_val: float | Sequence[float]) -> np.ndarray:
    """`img` at (x, y) of a canvas of `pad_val`; itself, uncopied, where it covers all of it. (H, W[, C])"""
    if img.shape[:2] == tuple(shape) and x == y == 0:
        return img
    canvas = blank(img, *shape, pad_val)
    paste(canvas, img, x, y)
    return canvas


def _average(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean of two images in their dtype, rounded down. (H, W[, C])"""
    if first.dtype == np.uint8:
        # OpenCV rounds to the nearest and halves to the even number; a quarter less makes that "down" for each sum.
        return cv2.addWeighted(first, 0.5, second, 0.5, -0.25).reshape(first.shape)
    return (0.5 * first.astype(np.float32) + 0.5 * second.astype(np.float32)).astype(first.dtype)
