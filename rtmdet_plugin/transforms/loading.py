"""Load an image and its annotations in one step, at no higher resolution than the pipeline needs.

It replaces mmdet's `LoadImageFromFile` followed by `LoadAnnotations`. Differences:

- *A JPEG that the pipeline shrinks to half its size or less is decoded at 1/2, 1/4 or 1/8*, which takes a
  fraction of the time and memory; boxes and masks are scaled accordingly.
- *The image must have the size that the annotation file states*, because its boxes would miss their objects
  otherwise. If only the image without its EXIF rotation has that size, the rotation is ignored.
- *A truncated JPEG or PNG is refused.*
- *Masks are outlines* (see outline_masks.py) of polygons and run-length codes alike. With `poly2mask=False` mmdet
  ignores run-length codes; with True it draws each polygon at full resolution.
- *Boxes are plain arrays*, which saves a hundred small tensor operations per sample. mmdet's transforms accept
  them.
- *Errors name the file.*

As in mmdet, 16-bit, grayscale, RGBA and CMYK images become 8-bit BGR.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmengine import fileio
from torch.utils.data import get_worker_info

from ..kept_memory import keep_freed_memory
from .boxes import place_boxes
from .checks import check_image_scale
from .decoding import BadImageError, decode
from .outline_masks import OutlineMasks
from .outlines import box_outline, outline_of

GREY = 114
"""The configs' padding value."""


def load_image(results: dict, img_scale: tuple[int, int] | None = None, backend_args: dict | None = None) -> np.ndarray:
    """Load the image of a sample as 8-bit BGR.

    Args:
        results: sample with `img_path`; `height` and `width`, if known; and two keys that `RTMCocoDataset` adds:
            `exif`, the orientation (see `decode`), and `blank`, True for a grey image of `height` and `width` instead
            of the file's.
        img_scale: (width, height) to decode for, see `decode`; None for the full size.
        backend_args: arguments of mmengine's file backend.

    Returns:
        The image. (H, W, 3)

    Raises:
        BadImageError: if the file is no image, is truncated, or has another size than `height` and `width`.
        OSError: if the file can't be read; FileNotFoundError if it doesn't exist.
    """
    # Each worker has one core; OpenCV's own threads would compete for it.
    if get_worker_info() is not None and cv2.getNumThreads() > 1:
        cv2.setNumThreads(1)
    keep_freed_memory()
    if results.get('blank', False):
        return np.full((int(results['height']), int(results['width']), 3), GREY, np.uint8)
    expected = (int(results['height']), int(results['width'])) if 'height' in results and 'width' in results else None
    path = results['img_path']
    data = bytes(fileio.get(path, backend_args=backend_args))  # some backends return a view
    return decode(data, path, expected, img_scale, results.get('exif', 'as_annotated'))


@TRANSFORMS.register_module()
class RTMLoadImageFromFile(LoadImageFromFile):
    """Read `img_path` into `img`, `img_shape` and `ori_shape`, at full size.

    It refuses the same files as `RTMLoadImageAndAnnotations` and treats EXIF rotation in the same way, so that
    evaluation sees the images as training does. mmdet's loader does neither.

    Args:
        to_float32: return float32 instead of uint8.
        backend_args: arguments of mmengine's file backend.
    """

    def __init__(self, to_float32: bool = False, backend_args: dict | None = None) -> None:
        super().__init__(to_float32, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        """Load the image.

        Raises:
            BadImageError: see `load_image`.
            OSError: if the file can't be read.
        """
        img = load_image(results, backend_args=self.backend_args)
        results['img'] = img.astype(np.float32) if self.to_float32 else img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    @classmethod
    def in_place_of(cls, loader: Any) -> Any:
        """Return this loader with the settings of `loader`, if that is mmdet's; otherwise `loader` itself.

        A `LoadImageFromFile` that reads something else than colour with OpenCV, or that ignores bad files, stays too.
        """
        plain = type(loader) is LoadImageFromFile and not loader.ignore_empty and not loader.file_client_args
        if not plain or (loader.color_type, loader.imdecode_backend) != ('color', 'cv2'):
            return loader
        return cls(loader.to_float32, loader.backend_args)


@TRANSFORMS.register_module()
class RTMLoadImageAndAnnotations(BaseTransform):
    """Read `img_path` and `instances` into an image and arrays.

    Sets `img`, `img_shape`, `ori_shape`, `gt_bboxes`, `gt_bboxes_labels`, `gt_ignore_flags` and, if masks are loaded,
    `gt_masks`.

    Args:
        img_scale: (width, height) of the largest size at which the pipeline uses the complete image, with its aspect
            ratio kept; the image is decoded at no lower resolution. None for the full size.
        with_mask: load masks too. An object whose mask can't be drawn is ignored; objects that are ignored, such as
            crowds, get their box as mask.
        backend_args: arguments of mmengine's file backend.

    Raises:
        ValueError: if `img_scale` isn't two positive integers.
    """

    def __init__(
        self,
        img_scale: tuple[int, int] | None = None,
        with_mask: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        self.img_scale = None if img_scale is None else check_image_scale('img_scale', img_scale)
        self.with_mask = with_mask
        self.annotations = LoadAnnotations(with_bbox=True, box_type=None, backend_args=backend_args)
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load the sample.

        Raises:
            BadImageError: see `load_image`; also if a run-length code is damaged.
            OSError: if the file can't be read.
        """
        img = load_image(results, self.img_scale, self.backend_args)
        has_size = 'height' in results and 'width' in results
        shape = results['ori_shape'] = (results['height'], results['width']) if has_size else img.shape[:2]
        results['img'] = img
        results['img_shape'] = img.shape[:2]
        results = self.annotations(results)
        if self.with_mask:
            results['gt_masks'] = _load_masks(results, shape)
        if img.shape[:2] != shape:
            scale = img.shape[1] / shape[1], img.shape[0] / shape[0]
            results['gt_bboxes'] = place_boxes(results['gt_bboxes'], scale, (0, 0))
            if self.with_mask:
                results['gt_masks'] = results['gt_masks'].resize(img.shape[:2])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(img_scale={self.img_scale}, with_mask={self.with_mask}, '
            f'backend_args={self.backend_args})'
        )


def _load_masks(results: dict, shape: tuple[int, int]) -> OutlineMasks:
    """Return the masks of a sample on its image of (height, width); set the ignore flags of those that can't be drawn.

    Raises:
        BadImageError: if a run-length code is damaged.
    """
    outlines, flags = [], results['gt_ignore_flags']
    for place, instance in enumerate(results.get('instances', ())):
        try:
            outline = None if flags[place] else outline_of(instance.get('mask'), shape)
        except ValueError as error:
            raise BadImageError(
                f'{results["img_path"]}: mask of the object with the box {instance["bbox"]}: {error}'
            ) from error
        flags[place] = outline is None
        outlines.append(outline or box_outline(instance['bbox']))
    return OutlineMasks.on_image(outlines, shape)
