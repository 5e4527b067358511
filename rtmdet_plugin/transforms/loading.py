"""Loading a picture and its annotations in one step, no larger than the pipeline needs it.

mmdet's `LoadImageFromFile` and `LoadAnnotations`, one after the other. What differs:

- *A JPEG that the pipeline shrinks to half its size or less is decoded at 1/2, 1/4 or 1/8*, which takes a
  fraction of the time and memory; boxes and masks follow.
- *The picture must have the size that the annotation file says*, because the boxes would miss their objects
  otherwise. One that was turned by its EXIF tag is taken as it is stored, if that is the size which fits.
- *Boxes come as plain arrays*, which spares a hundred small tensor operations a sample. mmdet's transforms accept
  them.
- *Errors name the file.*

16-bit, grayscale, RGBA and CMYK pictures come out as 8-bit BGR, as with mmdet.
"""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmengine import fileio
from torch.utils.data import get_worker_info

from .boxes import place_boxes
from .checks import check_image_scale

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""OpenCV's flag for decoding at 1/n."""

JPEG = b'\xff\xd8\xff'


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
            ValueError: where the file is no picture, or has another size than `height` and `width` say.
            FileNotFoundError: where there is no such file.
        """
        # Each worker has a core; threads of OpenCV's own would fight for it.
        if get_worker_info() is not None and cv2.getNumThreads() > 1:
            cv2.setNumThreads(1)
        path = results['img_path']
        data = fileio.get(path, backend_args=self.backend_args)
        expected = (results['height'], results['width']) if 'height' in results and 'width' in results else None
        img = decode(data, path, expected, self.img_scale)
        shape = results['ori_shape'] = expected or img.shape[:2]
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


def decode(
    data: bytes, path: str, expected: tuple[int, int] | None = None, img_scale: tuple[int, int] | None = None
) -> np.ndarray:
    """Decode a picture as 8-bit BGR.

    Args:
        data: content of the file.
        path: its name, for messages.
        expected: (height, width) that the picture must have, before it is made smaller. Without it, it is not made
            smaller.
        img_scale: (width, height) that a smaller form must still fill in one direction.

    Returns:
        The picture. (H, W, 3), with sides of `expected` divided by 1, 2, 4 or 8, rounded up.

    Raises:
        ValueError: where `data` is no picture, or one of another size.
    """
    part = 1
    if expected is not None and img_scale is not None and data[:3] == JPEG:
        shrink = max(expected[0] / img_scale[1], expected[1] / img_scale[0])
        part = max(part for part in REDUCED if part <= max(shrink, 1))
    img = _imdecode(data, path, REDUCED[part])
    if expected is None:
        return img
    shape = tuple(-(-side // part) for side in expected)
    if img.shape[:2] == shape[::-1] != shape:
        # Turned by the EXIF tag, while the boxes were drawn on the picture as it is stored.
        img = _imdecode(data, path, REDUCED[part] | cv2.IMREAD_IGNORE_ORIENTATION)
    if img.shape[:2] != shape:
        found = _imdecode(data, path, cv2.IMREAD_COLOR).shape
        raise ValueError(
            f'{path}: has {found[1]}x{found[0]} pixels (width x height), its annotation says '
            f'{expected[1]}x{expected[0]}; accepted: the same size, or its boxes would miss their objects.'
        )
    return img


def _imdecode(data: bytes, path: str, flag: int) -> np.ndarray:
    img = cv2.imdecode(np.frombuffer(data, np.uint8), flag) if data else None
    if img is None:
        raise ValueError(f'{path}: {len(data)} bytes that are no picture; accepted: what OpenCV can decode.')
    return img
