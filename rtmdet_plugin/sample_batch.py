"""Samples of a batch, which cross processes and move to the device as a few tensors.

`rtm_collate` makes a `DetSampleBatch`, and `RTMDetDataPreprocessor` moves it.
"""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from .memory_file import join_in_file, sends_files
from .stride_masks import StrideMasks

PARTS = ('gt_instances', 'ignored_instances')
FIELDS = ('bboxes', 'labels')
Joined = dict[str, dict[str, torch.Tensor]]
"""Concatenated boxes (N, 4) and labels (N,) of all images, by part."""


class DetSampleBatch(list):
    """A list of `DetDataSample` that is pickled as a few tensors if its samples hold only boxes, labels and masks.

    The masks are `StrideMasks` of one size, of all `gt_instances` or none.
    """

    def __reduce__(self) -> tuple:
        if not self._is_plain():
            return DetSampleBatch, (list(self),)
        arrays = {part: {key: value.numpy() for key, value in fields.items()} for part, fields in self._join().items()}
        return _from_arrays, ([sample.metainfo for sample in self], self._counts(), arrays, _arrays_of(self._masks()))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> DetSampleBatch:
        """Return the batch on `device`, by one transfer per joined tensor instead of one per tensor of a sample."""
        if not self or not self._is_plain():
            return DetSampleBatch(sample.to(device, non_blocking=non_blocking) for sample in self)
        moved = {
            part: {key: value.to(device, non_blocking=non_blocking) for key, value in fields.items()}
            for part, fields in self._join().items()
        }
        masks = self._masks()
        joined = StrideMasks.cat(masks).to(device, non_blocking=non_blocking) if masks else None
        return _split([sample.metainfo for sample in self], self._counts(), moved, joined)

    def pin_memory(self) -> DetSampleBatch:
        """Return the batch itself: PyTorch pins the images, and its own way for a list would pickle the samples."""
        return self

    def _is_plain(self) -> bool:
        return all(map(_is_plain, self)) and len(set(map(_mask_size, self))) <= 1

    def _counts(self) -> dict[str, list[int]]:
        return {part: [len(sample.get(part).labels) for sample in self] for part in PARTS}

    def _join(self) -> Joined:
        if not self:
            return {}
        return {
            part: {field: torch.cat([getattr(sample.get(part), field) for sample in self]) for field in FIELDS}
            for part in PARTS
        }

    def _masks(self) -> list[StrideMasks]:
        return [sample.gt_instances.masks for sample in self if 'masks' in sample.gt_instances]


def _is_plain(sample: DetDataSample) -> bool:
    """Return whether a sample holds only boxes and labels, as plain tensors, and perhaps masks."""
    return set(sample.keys()) == set(PARTS) and all(
        set(sample.get(part).keys()) - ({'masks'} if part == 'gt_instances' else set()) == set(FIELDS)
        and all(isinstance(sample.get(part).get(field), torch.Tensor) for field in FIELDS)
        and isinstance(sample.get(part).get('masks'), StrideMasks | None)
        for part in PARTS
    )


def _mask_size(sample: DetDataSample) -> torch.Size | None:
    """Return the (height, width) of a plain sample's masks; None if it has no masks."""
    return sample.gt_instances.masks.pixels.shape[1:] if 'masks' in sample.gt_instances else None


def _arrays_of(masks: list[StrideMasks]) -> tuple[torch.Tensor | np.ndarray, np.ndarray] | None:
    """Return the pixels, in a file in memory within a worker, and centers of all masks; None if there are none."""
    if not masks:
        return None
    pixels, centers = [part.pixels for part in masks], torch.cat([part.centers for part in masks]).numpy()
    if sends_files():
        return join_in_file(pixels).view(len(centers), *pixels[0].shape[1:]), centers
    return torch.cat(pixels).numpy(), centers


def _from_arrays(
    metainfos: list[dict],
    counts: dict,
    arrays: dict[str, dict[str, np.ndarray]],
    masks: tuple[torch.Tensor | np.ndarray, np.ndarray] | None,
) -> DetSampleBatch:
    joined = {part: {key: torch.from_numpy(value) for key, value in fields.items()} for part, fields in arrays.items()}
    return _split(metainfos, counts, joined, masks and StrideMasks(*map(torch.as_tensor, masks)))


def _split(
    metainfos: list[dict], counts: dict[str, list[int]], joined: Joined, masks: StrideMasks | None
) -> DetSampleBatch:
    """Return samples whose boxes, labels and masks are slices of the batch's."""
    samples = DetSampleBatch(DetDataSample(metainfo=metainfo) for metainfo in metainfos)
    for part, fields in joined.items():
        slices = [fields[field].split(counts[part]) for field in FIELDS]
        for sample, *values in zip(samples, *slices, strict=True):
            setattr(sample, part, InstanceData(**dict(zip(FIELDS, values, strict=True))))
    if masks is not None:
        ends = np.cumsum(counts['gt_instances'])
        for sample, end in zip(samples, ends.tolist(), strict=True):
            sample.gt_instances.masks = masks[end - len(sample.gt_instances) : end]
    return samples
