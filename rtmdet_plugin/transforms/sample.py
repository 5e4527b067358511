"""A labelled image as the mixing transforms see it, and the geometric steps that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mmcv
import numpy as np
import torch
from mmdet.structures.bbox import BaseBoxes, HorizontalBoxes

from .outline_masks import OutlineMasks

# Annotations that are tied to one image's pixels and that mixing would silently leave unchanged.
UNMIXABLE_KEYS = ('gt_seg_map', 'gt_keypoints', 'proposals')


@dataclass(frozen=True)
class Sample:
    """An image with its objects, in plain arrays.

    Attributes:
        img: pixels. (H, W, C) or (H, W)
        boxes: xyxy in pixels of `img`, float32. (N, 4)
        labels: class of each box. (N,)
        ignore_flags: True for a box that marks a region to ignore, such as a crowd. (N,)
        masks: N masks, or None if the pipeline loads none.
        img_id: number or name of the image in the dataset, or None if unknown.
    """

    img: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    ignore_flags: np.ndarray
    masks: OutlineMasks | None = None
    img_id: int | str | None = None

    @classmethod
    def from_results(cls, results: dict) -> Sample:
        """Read the sample from a pipeline's dict; arrays are shared, not copied, and mmdet's masks become outlines.

        Raises:
            ValueError: if a key is missing, there is an annotation that can't be mixed, or the boxes aren't
        """
        needed = ('img', 'gt_bboxes', 'gt_bboxes_labels', 'gt_ignore_flags')
        if missing := [key for key in needed if key not in results]:
            raise ValueError(
                f'The sample must have {list(needed)}, got no {missing}; put LoadImageFromFile and '
                'LoadAnnotations(with_bbox=True) before mixing.'
            )
        if unmixable := [key for key in UNMIXABLE_KEYS if results.get(key) is not None]:
            raise ValueError(
                f'The sample must have no annotations but boxes, labels, ignore flags and gt_masks, got {unmixable}, '
                'which mixing can not transform with the image; do not load them.'
            )
        boxes, masks = results['gt_bboxes'], results.get('gt_masks')
        if isinstance(boxes, HorizontalBoxes):
            boxes = boxes.tensor.numpy()
        elif not isinstance(boxes, np.ndarray) or boxes.shape[1:] != (4,):
            raise ValueError(
                f'gt_bboxes must be HorizontalBoxes or an array (N, 4) of xyxy, got {type(boxes).__name__} of shape '
                f'{tuple(boxes.shape)}.'
            )
        return cls(
            img=results['img'],
            boxes=np.asarray(boxes, dtype=np.float32),
            labels=results['gt_bboxes_labels'],
            ignore_flags=results['gt_ignore_flags'],
            masks=None if masks is None else OutlineMasks.of(masks),
            img_id=results.get('img_id'),
        )

    def write_to(self, results: dict) -> dict:
        """Write the sample into a pipeline's dict and return that dict; other keys stay.

        Boxes keep the type that the dict has: an array or mmdet's `HorizontalBoxes`.
        """
        boxed = isinstance(results.get('gt_bboxes'), BaseBoxes)
        results['img'] = self.img
        results['img_shape'] = self.img.shape[:2]
        results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(self.boxes)) if boxed else self.boxes
        results['gt_bboxes_labels'] = self.labels
        results['gt_ignore_flags'] = self.ignore_flags
        if self.masks is not None:
            results['gt_masks'] = self.masks
        return results

    def frozen(self) -> Sample:
        """Return the sample with read-only arrays: the image becomes read-only, and the others are copied."""
        return Sample(
            img=_frozen(self.img),
            boxes=_read_only(self.boxes),
            labels=_read_only(self.labels),
            ignore_flags=_read_only(self.ignore_flags),
            masks=self.masks,
            img_id=self.img_id,
        )

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        parts = [self.img, self.boxes, self.labels, self.ignore_flags, *([] if self.masks is None else [self.masks])]
        return sum(part.nbytes for part in parts)

    def select(self, keep: np.ndarray) -> Sample:
        """Return the same image with only the objects for which `keep` (N,) is True."""
        return replace(
            self,
            boxes=self.boxes[keep],
            labels=self.labels[keep],
            ignore_flags=self.ignore_flags[keep],
            masks=None if self.masks is None else self.masks[keep],
        )


def with_own_image(results: dict) -> dict:
    """Return a pipeline's dict with a copy of its image, for a sample whose image a cache has made read-only."""
    return {**results, 'img': results['img'].copy()}


def join(img: np.ndarray, parts: Sequence[Sample]) -> Sample:
    """Combine the objects of all `parts`, in order, on one image `img`."""
    masks = [part.masks for part in parts if part.masks is not None]
    return Sample(
        img=img,
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        ignore_flags=np.concatenate([part.ignore_flags for part in parts]),
        masks=OutlineMasks.cat(masks) if masks else None,
    )


def check_compatible(samples: Sequence[Sample]) -> None:
    """Refuse samples that can't share a canvas.

    Raises:
        ValueError: if channels or dtype differ, or only some samples have masks.
    """
    kinds = {(s.img.shape[2:], s.img.dtype.str, type(s.masks).__name__) for s in samples}
    if len(kinds) > 1:
        raise ValueError(
            f'Samples to mix must agree in (channels, dtype, masks), got {sorted(map(str, kinds))}; set color_type of '
            'LoadImageFromFile and with_mask of LoadAnnotations alike for all.'
        )


def blank(like: np.ndarray, height: int, width: int, pad_val: float | Sequence[float]) -> np.ndarray:
    """Return a canvas of `pad_val`, (height, width[, C]), with the channels and dtype of `like`.

    Raises:
        ValueError: if `pad_val` is a sequence whose length isn't the number of channels.
    """
    channels = like.shape[2:]
    if isinstance(pad_val, Sequence) and (len(pad_val),) != channels:
        raise ValueError(f'pad_val must be one number for an image of shape {like.shape}, got {pad_val!r}.')
    # Filling with a number of another type takes twice as long.
    return np.full((height, width, *channels), np.asarray(pad_val, like.dtype))


def fit_scale(img: np.ndarray, width: int, height: int) -> float:
    """Return the factor by which `img` just fits into width x height."""
    return min(height / img.shape[0], width / img.shape[1])


def resize(img: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize bilinearly; keep (H, W, 1) three-dimensional and each side at least one pixel long.

    Returns:
        The resized image; `img` itself if it has that size already.
    """
    width, height = max(width, 1), max(height, 1)
    if (height, width) == img.shape[:2]:
        return img
    return mmcv.imresize(img, (width, height)).reshape(height, width, *img.shape[2:])


def shrink_to_fit(sample: Sample, width: int, height: int) -> Sample:
    """Shrink `sample` to fit width x height, with its aspect ratio kept; return it unchanged if it fits already."""
    scale = fit_scale(sample.img, width, height)
    if scale >= 1:
        return sample
    # the small term prevents 640 / w * w from being truncated to 639
    height, width = (max(int(side * scale + 1e-6), 1) for side in sample.img.shape[:2])
    masks = None if sample.masks is None else sample.masks.place((scale, scale), (0, 0), (height, width))
    img = resize(sample.img, width, height)
    return replace(sample, img=img, boxes=sample.boxes * np.float32(scale), masks=masks)


def paste(canvas: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    """Write `patch` (h, w[, C]) into `canvas` (H, W[, C]) with its top left corner at (x, y).

    Pixels outside the canvas are dropped; x and y may be negative.
    """
    rows, patch_rows = _overlap(y, patch.shape[0], canvas.shape[0])
    columns, patch_columns = _overlap(x, patch.shape[1], canvas.shape[1])
    canvas[rows, columns] = patch[patch_rows, patch_columns]


def _overlap(offset: int, length: int, limit: int) -> tuple[slice, slice]:
    """Intersect [offset, offset + length) with [0, limit); return slices of [0, limit) and of [0, length)."""
    start = max(offset, 0)
    stop = max(min(offset + length, limit), start)
    return slice(start, stop), slice(start - offset, stop - offset)


def _frozen(img: np.ndarray) -> np.ndarray:
    """Make an image read-only; return a copy if it isn't all of its memory, which would otherwise be kept with it."""
    owner = img if img.base is None else img.base
    if not isinstance(owner, np.ndarray) or owner.nbytes > img.nbytes or not img.flags.c_contiguous:
        return _read_only(img)
    owner.flags.writeable = img.flags.writeable = False
    return img


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array
