"""Mosaic, random resize and random crop in one step that renders only the pixels of the crop.

It stands for `RTMCachedMosaic`, `RandomResize` (to the mosaic's size, with `keep_ratio`) and `RandomCrop`. All random
choices come first: partners and centre, resize factor, position of the crop. Then each of the four images is
resampled once, and only the part that the crop shows. The mosaic's canvas (1280x1280 for 640 px) and its
enlargement (up to 2560x2560) are never built, and an image outside the crop isn't resampled at all.

Difference from the chain of three steps: pixels are sampled once instead of up to three times, and lie within half a
pixel of the chain's (see render.py). Boxes are the chain's up to float32 rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS

from .mosaic import RTMCachedMosaic, mosaic_parts
from .random_transform import RandomSource
from .resize_crop import RTMRandomResizeCrop
from .sample import Sample, shrink_to_fit


@TRANSFORMS.register_module()
class RTMCachedMosaicResizeCrop(BaseTransform):
    """Crop a randomly resized mosaic of each sample and three earlier ones.

    Needs `img`, `gt_bboxes`, `gt_bboxes_labels` and `gt_ignore_flags`; changes them, `img_shape` and, if present,
    `gt_masks`; sets `scale_factor`.

    Args:
        img_scale: (width, height) of the cell that an image is fitted into; half the size of the mosaic.
        ratio_range: range of the factor that the mosaic is resized by.
        crop_size: (width, height) of the crop. A smaller mosaic isn't cropped.
        center_ratio_range: range of the centre's x and y as a fraction of `img_scale`; both are drawn independently.
        bbox_clip_border: clip boxes to the border of the crop.
        pad_val: colour outside the images: a number, or one per channel of three.
        prob: probability of mixing; otherwise only the sample itself is resized, to the size that the mosaic would
            have, and cropped. It is still cached.
        max_cached_images: size of the cache, at least 4.
        random_pop: drop a random sample from the full cache; otherwise the oldest.
        recompute_bbox: replace boxes by those around what the crop shows of the masks, if there are masks.
        allow_negative_crop: return a crop that shows no object, as a background image.
        rng: source of all random numbers, see `RandomTransform`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        ratio_range: Sequence[float] = (0.1, 2.0),
        crop_size: Sequence[int] = (640, 640),
        center_ratio_range: Sequence[float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float | Sequence[float] = 114.0,
        prob: float = 1.0,
        max_cached_images: int = 40,
        random_pop: bool = True,
        recompute_bbox: bool = False,
        allow_negative_crop: bool = False,
        *,
        rng: RandomSource | None = None,
    ) -> None:
        # The two steps hold the settings and the cache and draw; their own rendering isn't used.
        self.mosaic = RTMCachedMosaic(
            img_scale, center_ratio_range, bbox_clip_border, pad_val, prob, max_cached_images, random_pop, rng=rng
        )
        self.canvas_size = 2 * self.mosaic.img_scale[0], 2 * self.mosaic.img_scale[1]
        self.resize_crop = RTMRandomResizeCrop(
            self.canvas_size, ratio_range, crop_size, bbox_clip_border, recompute_bbox, allow_negative_crop, rng=rng
        )

    def transform(self, results: dict) -> dict | None:
        """Cache the sample, mix, resize and crop it.

        Returns:
            The crop; `None` if it shows no object, unless that is allowed, or the cache holds no other sample yet, so
            that the dataset draws again.
        """
        mosaic = self.mosaic
        sample = shrink_to_fit(Sample.from_results(results), *mosaic.img_scale)
        others = mosaic.cache.add(sample, mosaic.rng)
        if mosaic.rng.random() >= mosaic.prob:
            return self.resize_crop.transform(results)
        if others == 0:
            return None
        params = mosaic.draw(mosaic.cache.partners(sample, others))
        samples = [sample, *(mosaic.cache[place] for place in params.partners)]
        crop = self.resize_crop.draw(self.canvas_size)
        parts = mosaic_parts(samples, params.center, mosaic.img_scale)
        mixed = self.resize_crop.render(parts, crop, mosaic.pad_val)
        if mixed is None:
            return None
        results['scale_factor'] = crop.zoom
        return mixed.write_to(results)

    def __repr__(self) -> str:
        mosaic, crop = self.mosaic, self.resize_crop
        return (
            f'{type(self).__name__}(img_scale={mosaic.img_scale}, ratio_range={crop.ratio_range}, '
            f'crop_size={crop.crop_size}, center_ratio_range={mosaic.center_ratio_range}, '
            f'bbox_clip_border={mosaic.bbox_clip_border}, pad_val={mosaic.pad_val}, prob={mosaic.prob}, '
            f'max_cached_images={mosaic.cache.max_size}, random_pop={mosaic.cache.random_pop}, '
            f'recompute_bbox={crop.recompute_bbox}, allow_negative_crop={crop.allow_negative_crop})'
        )
