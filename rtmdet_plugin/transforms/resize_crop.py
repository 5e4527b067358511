"""Random resize and random crop in one step that renders only the pixels of the crop.

Random choices and boxes are those of mmdet's `RandomResize` (with `keep_ratio`) followed by `RandomCrop` (with
absolute `crop_size`). Differences: all choices are drawn first, and the image is resampled only within the crop;
pixels lie within half a pixel of mmdet's (see render.py). Masks are outlines, see outline_masks.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.registry import TRANSFORMS

from .checks import check_image_scale, check_range
from .random_transform import RandomSource, RandomTransform
from .render import Crop, Part, render
from .sample import Sample


@TRANSFORMS.register_module()
class RTMRandomResizeCrop(RandomTransform):
    """Resize by a random factor and crop at a random position.

    Needs `img`, `gt_bboxes`, `gt_bboxes_labels` and `gt_ignore_flags`; changes them, `img_shape` and, if present,
    `gt_masks`; sets `scale_factor`. An image smaller than the crop isn't cropped.

    Args:
        scale: (width, height) that the image is fitted into at factor 1: its longer side into the longer one, its
            shorter side into the shorter one.
        ratio_range: range of the factor.
        crop_size: (width, height) of the crop.
        bbox_clip_border: clip boxes to the border.
        recompute_bbox: replace boxes by those around what the crop shows of the masks, if there are masks.
        allow_negative_crop: return a crop that shows no object, as a background image.
        rng: source of all random numbers, see `RandomTransform`.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        scale: Sequence[int],
        ratio_range: Sequence[float],
        crop_size: Sequence[int],
        bbox_clip_border: bool = True,
        recompute_bbox: bool = False,
        allow_negative_crop: bool = False,
        *,
        rng: RandomSource | None = None,
    ) -> None:
        super().__init__(rng)
        self.scale = check_image_scale('scale', scale)
        self.ratio_range = check_range('ratio_range', ratio_range)
        self.crop_size = check_image_scale('crop_size', crop_size)
        self.bbox_clip_border = bbox_clip_border
        self.recompute_bbox = recompute_bbox
        self.allow_negative_crop = allow_negative_crop

    def draw(self, size: tuple[int, int]) -> Crop:
        """Draw the factor and the crop's position for an image of (width, height)."""
        ratio = self.rng.uniform(*self.ratio_range)
        width, height = resized(size, (int(self.scale[0] * ratio), int(self.scale[1] * ratio)))
        crop_width, crop_height = min(self.crop_size[0], width), min(self.crop_size[1], height)
        offset = self.rng.randint(0, width - crop_width), self.rng.randint(0, height - crop_height)
        return Crop((width / size[0], height / size[1]), offset, (crop_width, crop_height))

    def render(self, parts: Sequence[Part], crop: Crop, pad_val: float | Sequence[float]) -> Sample | None:
        """Render a crop with the settings for its boxes; see `render.render`."""
        return render(parts, crop, pad_val, self.bbox_clip_border, self.recompute_bbox, self.allow_negative_crop)

    def transform(self, results: dict) -> dict | None:
        """Resize and crop the sample.

        Returns:
            The crop; `None` if it shows no object, unless that is allowed, so that the dataset draws again.
        """
        sample = Sample.from_results(results)
        size = sample.img.shape[1::-1]
        crop = self.draw(size)
        cropped = self.render([Part(sample, (0, 0), size)], crop, 0)  # it lies inside the image: no padding is visible
        if cropped is None:
            return None
        results['scale_factor'] = crop.zoom
        return cropped.write_to(results)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(scale={self.scale}, ratio_range={self.ratio_range}, crop_size={self.crop_size}, '
            f'bbox_clip_border={self.bbox_clip_border}, recompute_bbox={self.recompute_bbox}, '
            f'allow_negative_crop={self.allow_negative_crop})'
        )


def resized(size: tuple[int, int], scale: tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) of an image fitted into `scale`: longer side into longer, shorter into shorter."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return max(int(size[0] * factor + 0.5), 1), max(int(size[1] * factor + 0.5), 1)
