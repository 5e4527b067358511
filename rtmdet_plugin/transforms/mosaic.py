"""Mosaic: four images around one point, with three partners from a cache of earlier samples.

Arguments are those of mmdet's `CachedMosaic`; for the same random numbers, pixels and boxes are the same. Differences:

- *No sample stays unmixed because the cache is nearly empty.* mmdet returns samples unmixed until its cache
  holds five. Here a partner may repeat while there are fewer than three other samples. The very first sample
  of a worker has no partner at all; it is cached and `None` is returned, which makes mmengine's
  `BaseDataset` draw another index. So one sample per start of a worker serves only as a partner.
- *Partners are three different samples*, if there are three. mmdet draws each independently, so that one may
  come twice. Neither mixes a sample with itself (mmdet because numpy's `randint` excludes its upper bound).
  Here, the copy of the same image that an earlier epoch left in the cache is excluded too, unless there is no other.
- *Masks have the canvas's (height, width)*; mmdet's have (width, height). They are outlines, see outline_masks.py.
- *Grayscale* images of (H, W) and (H, W, 1) work, and images so thin that a side would round to zero.
- *The cache holds images at the mosaic's scale*, not at the file's.
- The draws are a separate value (`MosaicParams`); `mosaic` is a pure function of them.

Source: mosaic, YOLOv4, arXiv 2004.10934; cached as in RTMDet, arXiv 2212.07784.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mmdet.registry import TRANSFORMS

from .boxes import clip_boxes, inside, place_boxes
from .checks import check_at_least, check_image_scale, check_pad_value, check_probability, check_range
from .random_transform import RandomSource, RandomTransform
from .render import Part
from .sample import (
    Sample,
    blank,
    check_compatible,
    fit_scale,
    join,
    paste,
    resize,
    shrink_to_fit,
    with_own_image,
)
from .sample_cache import SampleCache


class MosaicParams(NamedTuple):
    """The random choices of one mosaic."""

    partners: tuple[int, int, int]
    """Indices in the cache of the top right, bottom left and bottom right images."""
    center: tuple[int, int]
    """(x, y) of the point at which the four images meet, in pixels of the canvas."""


def mosaic(
    samples: Sequence[Sample],
    center: tuple[int, int],
    img_scale: tuple[int, int],
    pad_val: float | Sequence[float] = 114.0,
    clip: bool = True,
) -> Sample:
    """Paste four images around a point of a canvas of twice `img_scale`.

    Args:
        samples: top left, top right, bottom left and bottom right sample; not modified.
        center: (x, y) of the point at which their corners meet.
        img_scale: (width, height) that each image is fitted into, with its aspect ratio kept.
        pad_val: colour outside the images.
        clip: clip boxes to the border of the canvas.

    Returns:
        The canvas, (2 * height, 2 * width[, C]), and the objects that lie on it at least partly, in the order of the
        images.
    """
    check_compatible(samples)
    shape = (2 * img_scale[1], 2 * img_scale[0])
    canvas = blank(samples[0].img, *shape, pad_val)
    moved = []
    for sample, position, size, scale in mosaic_parts(samples, center, img_scale):
        img = resize(sample.img, *size)
        paste(canvas, img, *position)
        boxes = place_boxes(sample.boxes, (scale, scale), position)
        masks = sample.masks
        if masks is not None:
            masks = masks.place((scale, scale), position, shape)
        moved.append(Sample(img, boxes, sample.labels, sample.ignore_flags, masks))

    mixed = join(canvas, moved)
    if clip:
        clip_boxes(mixed.boxes, shape)
    return mixed.select(inside(mixed.boxes, shape))


def mosaic_parts(samples: Sequence[Sample], center: tuple[int, int], img_scale: tuple[int, int]) -> list[Part]:
    """Return the position and size of four images on the canvas; the arguments are those of `mosaic`."""
    parts = []
    for cell, sample in enumerate(samples):
        scale = fit_scale(sample.img, *img_scale)
        width, height = (max(int(side * scale), 1) for side in sample.img.shape[1::-1])
        x = center[0] if cell in (1, 3) else center[0] - width
        y = center[1] if cell in (2, 3) else center[1] - height
        parts.append(Part(sample, (x, y), (width, height), scale))
    return parts


@TRANSFORMS.register_module()
class RTMCachedMosaic(RandomTransform):
    """Make a mosaic of each sample and three earlier ones.

    Needs `img`, `gt_bboxes`, `gt_bboxes_labels` and `gt_ignore_flags`; changes them, `img_shape` and, if present,
    `gt_masks`. The resulting image has the shape (2 * height, 2 * width[, C]) and the dtype of the input.

    Args:
        img_scale: (width, height) of the cell that an image is fitted into; half the size of the result.
        center_ratio_range: range of the centre's x and y as a fraction of `img_scale`; both are drawn independently.
        bbox_clip_border: clip boxes to the border of the result.
        pad_val: colour outside the images: a number, or one per channel of three.
        prob: probability of mixing; a sample that isn't mixed is still cached.
        max_cached_images: size of the cache, at least 4.
        random_pop: drop a random sample from the full cache; otherwise the oldest.
        rng: source of all random numbers, see `RandomTransform`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        center_ratio_range: Sequence[float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float | Sequence[float] = 114.0,
        prob: float = 1.0,
        max_cached_images: int = 40,
        random_pop: bool = True,
        *,
        rng: RandomSource | None = None,
    ) -> None:
        super().__init__(rng)
        self.img_scale = check_image_scale('img_scale', img_scale)
        self.center_ratio_range = check_range('center_ratio_range', center_ratio_range, high=2)
        self.bbox_clip_border = bbox_clip_border
        self.pad_val = check_pad_value('pad_val', pad_val)
        self.prob = check_probability('prob', prob)
        self.cache = SampleCache(check_at_least('max_cached_images', max_cached_images, 4), random_pop)

    def draw(self, places: Sequence[int]) -> MosaicParams:
        """Draw three partners from these indices of the cache (at least one), and the centre."""
        few = len(places) < 3
        first, second, third = self.rng.choices(places, k=3) if few else self.rng.sample(places, 3)
        x, y = (int(self.rng.uniform(*self.center_ratio_range) * side) for side in self.img_scale)
        return MosaicParams((first, second, third), (x, y))

    def transform(self, results: dict) -> dict | None:
        """Cache the sample and mix it.

        Returns:
            The mixed sample; `None` if the cache holds no other sample yet, so that the dataset draws again.
        """
        sample = shrink_to_fit(Sample.from_results(results), *self.img_scale)
        others = self.cache.add(sample, self.rng)
        if self.rng.random() >= self.prob:
            return with_own_image(results)
        if others == 0:
            return None
        params = self.draw(self.cache.partners(sample, others))
        samples = [sample, *(self.cache[place] for place in params.partners)]
        mixed = mosaic(samples, params.center, self.img_scale, self.pad_val, self.bbox_clip_border)
        return mixed.write_to(results)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(img_scale={self.img_scale}, '
            f'center_ratio_range={self.center_ratio_range}, bbox_clip_border={self.bbox_clip_border}, '
            f'pad_val={self.pad_val}, prob={self.prob}, '
            f'max_cached_images={self.cache.max_size}, random_pop={self.cache.random_pop})'
        )
