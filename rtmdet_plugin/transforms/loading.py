"""Loading a picture and its annotations in one step, no larger than the pipeline needs it.

mmdet's `LoadImageFromFile` and `LoadAnnotations`, one after the other. What differs:

- *A JPEG that the pipeline shrinks to half its size or less is decoded at 1/2, 1/4 or 1/8*, which takes a
  fraction of the time and memory; boxes and masks follow.
- *The picture must have the size that the annotation file says*, because the boxes would miss their objects
  otherwise. One that was turned by its EXIF tag is taken as it is stored, if that is the size which fits.
- *A JPEG or PNG that ends early is refused.*
- *Boxes come as plain arrays*, which spares a hundred small tensor operations a sample. mmdet's transforms accept
  them.
- *Errors name the file.*

16-bit, grayscale, RGBA and CMYK pictures come out as 8-bit BGR, as with mmdet.
"""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmengine import fileio
from torch.utils.data import get_worker_info

from .boxes import place_boxes
from .checks import check_image_scale
from .decoding import decode

GREY = 114
"""What the configs pad with."""


def load_picture(
    results: dict, img_scale: tuple[int, int] | None = None, backend_args: dict | None = None
) -> np.ndarray:
    """The picture of a sample, as 8-bit BGR.

    Args:
        results: `img_path`; `height` and `width`, where they are known; and what `RTMCocoDataset` adds: `exif`, which
            way up (see `decode`), and `blank`, for a grey picture of that height and width in place of the file's.
        img_scale: (width, height) that a smaller form must still fill in one direction; None for the full size.
        backend_args: arguments of mmengine's file backend.

    Returns:
        The picture. (H, W, 3)

    Raises:
        BadPictureError: where the file is no picture, is cut off, or has another size than `height` and `width` say.
        OSError: where it can't be read; FileNotFoundError where there is none.
    """
    # Each worker has a core; threads of OpenCV's own would fight for it.
    if get_worker_info() is not None and cv2.getNumThreads() > 1:
        cv2.setNumThreads(1)
    expected = (int(results['height']), int(results['width'])) if 'height' in results and 'width' in results else None
    if results.get('blank', False):
        return np.full((*expected, 3), GREY, np.uint8)
    path = results['img_path']
    data = bytes(fileio.get(path, backend_args=backend_args))  # some backends give a view
    return decode(data, path, expected, img_scale, results.get('exif', 'as_annotated'))


@TRANSFORMS.register_module()
class RTMLoadImageFromFile(LoadImageFromFile):
    """Read `img_path` into `img`, `img_shape` and `ori_shape`, at full size.

    Differs from mmdet's in what it refuses, and in which way up it takes a picture with an EXIF tag: as
    `RTMLoadImageAndAnnotations` does, so that evaluation sees what was trained on.

    Args:
        to_float32: give float32 instead of uint8.
        backend_args: arguments of mmengine's file backend.
    """

    def __init__(self, to_float32: bool = False, backend_args: dict | None = None) -> None:
        super().__init__(to_float32, backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        """Load the picture.

        Raises:
            BadPictureError: see `load_picture`.
            OSError: where the file can't be read.
        """
        img = load_picture(results, backend_args=self.backend_args)
        results['img'] = img.astype(np.float32) if self.to_float32 else img
        results['img_shape'] = results['ori_shape'] = img.shape[:2]
        return results

    @classmethod
    def in_place_of(cls, loader: object) -> object:
        """This loader instead of mmdet's `LoadImageFromFile` of the same settings; any other transform as it is.

        One that reads other than colours with OpenCV, or that lets bad files pass, stays too.
        """
        plain = type(loader) is LoadImageFromFile and not loader.ignore_empty and not loader.file_client_args
        if not plain or (loader.color_type, loader.imdecode_backend) != ('color', 'cv2'):
            return loader
        return cls(loader.to_float32, loader.backend_args)


@TRANSFORMS.register_module()
class RTMLoadImageAndAnnotations(BaseTransform):
    """Read `img_path` and `instances` into an image and arrays.

    Sets `img`, `img_shape`, `ori_shape`, `gt_bboxes`, `gt_bboxes_labels`, `gt_ignore_flags` and, with
    masks, `gt_masks`.

    Args:
        img_scale: (width, height) of the largest form in which the pipeline uses the whole picture, its proportions
            kept; the picture is not made smaller than that. None for the full size, always.
        with_mask: load masks too.
        poly2mask: make bitmaps of polygons.
        backend_args: arguments of mmengine's file backend.

    Raises:
        ValueError: where `img_scale` isn't two positive integers.
    """

    def __init__(
        self,
        img_scale: tuple[int, int] | None = None,
        with_mask: bool = False,
        poly2mask: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        self.img_scale = None if img_scale is None else check_image_scale('img_scale', img_scale)
        self.annotations = LoadAnnotations(
            with_bbox=True, with_mask=with_mask, poly2mask=poly2mask, box_type=None, backend_args=backend_args
        )
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load the sample.

        Raises:
            BadPictureError: see `load_picture`.
            OSError: where the file can't be read.
        """
        img = load_picture(results, self.img_scale, self.backend_args)
        whole = 'height' in results and 'width' in results
        shape = results['ori_shape'] = (results['height'], results['width']) if whole else img.shape[:2]
        results['img'] = img
        results['img_shape'] = img.shape[:2]
        results = self.annotations(results)
        if img.shape[:2] != shape:
            scale = img.shape[1] / shape[1], img.shape[0] / shape[0]
            results['gt_bboxes'] = place_boxes(results['gt_bboxes'], scale, (0, 0))
            if 'gt_masks' in results:
                results['gt_masks'] = results['gt_masks'].resize(img.shape[:2])
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(img_scale={self.img_scale}, with_mask={self.annotations.with_mask}, '
            f'poly2mask={self.annotations.poly2mask}, backend_args={self.backend_args})'
        )
