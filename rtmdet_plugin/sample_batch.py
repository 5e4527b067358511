"""Samples of a batch, which cross processes and move to the device as a few tensors.

`rtm_collate` makes a `DetSampleBatch`, and `RTMDetDataPreprocessor` moves it.
"""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

PARTS = ('gt_instances', 'ignored_instances')
FIELDS = ('bboxes', 'labels')
Joined = dict[str, dict[str, torch.Tensor]]
"""Concatenated boxes (N, 4) and labels (N,) of all images, by part."""


class DetSampleBatch(list):
    """A list of `DetDataSample` that is pickled as a few tensors if its samples hold only boxes and labels."""

    def __reduce__(self) -> tuple:
        if not self._is_plain():
            return DetSampleBatch, (list(self),)
        arrays = {part: {key: value.numpy() for key, value in fields.items()} for part, fields in self._join().items()}
        return _from_arrays, ([sample.metainfo for sample in self], self._counts(), arrays)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> DetSampleBatch:
        """Return the batch on `device`, by four transfers in all; the samples one by one would need four each."""
        if not self or not self._is_plain():
            return DetSampleBatch(sample.to(device, non_blocking=non_blocking) for sample in self)
        moved = {
            part: {key: value.to(device, non_blocking=non_blocking) for key, value in fields.items()}
            for part, fields in self._join().items()
        }
        return _split([sample.metainfo for sample in self], self._counts(), moved)

    def _is_plain(self) -> bool:
        return all(_is_plain(sample) for sample in self)

    def _counts(self) -> dict[str, list[int]]:
        return {part: [len(sample.get(part).labels) for sample in self] for part in PARTS}

    def _join(self) -> Joined:
        if not self:
            return {}
        return {
            part: {field: torch.cat([getattr(sample.get(part), field) for sample in self]) for field in FIELDS}
            for part in PARTS
        }


def _is_plain(sample: DetDataSample) -> bool:
    """Return whether a sample holds only boxes and labels, as plain tensors."""
    return set(sample.keys()) == set(PARTS) and all(
        set(sample.get(part).keys()) == set(FIELDS)
        and all(isinstance(value, torch.Tensor) for value in sample.get(part).values())
        for part in PARTS
    )


def _from_arrays(metainfos: list[dict], counts: dict, arrays: dict[str, dict[str, np.ndarray]]) -> DetSampleBatch:
    joined = {part: {key: torch.from_numpy(value) for key, value in fields.items()} for part, fields in arrays.items()}
    return _split(metainfos, counts, joined)


def _split(metainfos: list[dict], counts: dict[str, list[int]], joined: Joined) -> DetSampleBatch:
    """Return samples whose boxes and labels are slices of the batch's."""
    samples = DetSampleBatch(DetDataSample(metainfo=metainfo) for metainfo in metainfos)
    for part, fields in joined.items():
        slices = [fields[field].split(counts[part]) for field in FIELDS]
        for sample, *values in zip(samples, *slices, strict=True):
            setattr(sample, part, InstanceData(**dict(zip(FIELDS, values, strict=True))))
    return samples
