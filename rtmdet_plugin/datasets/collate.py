"""Collating a batch of equally large images into one tensor, with annotations that travel light.

mmengine's `pseudo_collate` leaves a list of images, each of which crosses from worker to trainer by itself, as
does each small tensor of boxes and labels: five file descriptors an image. Here a batch crosses as one tensor in
shared memory, which `pin_memory` pins as a whole, and its annotations as a few arrays. What the trainer gets are
the same `DetDataSample` objects, for mmdet's data preprocessor and heads; their boxes are slices of one tensor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import FUNCTIONS
from mmengine.structures import InstanceData
from torch.utils.data import default_collate

PARTS = ('gt_instances', 'ignored_instances')
FIELDS = ('bboxes', 'labels')


class DetSampleBatch(list):
    """A list of `DetDataSample` that is pickled as a few arrays, where it holds boxes and labels alone."""

    def __reduce__(self) -> tuple:
        if not all(_is_plain(sample) for sample in self):
            return DetSampleBatch, (list(self),)
        parts = [
            {field: [np.asarray(getattr(getattr(sample, part), field)) for sample in self] for field in FIELDS}
            for part in PARTS
        ]
        counts = [[len(labels) for labels in part['labels']] for part in parts]
        joined = [[np.concatenate(part[field]) if self else None for field in FIELDS] for part in parts]
        return _unpack, ([sample.metainfo for sample in self], counts, joined)


@FUNCTIONS.register_module()
def rtm_collate(batch: Sequence[dict]) -> dict:
    """Collate what `PackDetInputs` gives.

    Args:
        batch: `inputs` (C, H, W), all of one size, and `data_samples` of each image.

    Returns:
        `inputs`, (B, C, H, W), in shared memory within a worker, and `data_samples`, a list of B.

    Raises:
        ValueError: where the images differ in size.
    """
    inputs = [item['inputs'] for item in batch]
    if len({image.shape for image in inputs}) > 1:
        sizes = {item['data_samples'].get('img_path', '?'): tuple(item['inputs'].shape) for item in batch}
        raise ValueError(
            f'Images of different (C, H, W) in one batch: {sizes}; accepted: one size, as Pad(size=...) gives, or '
            "collate_fn=dict(type='pseudo_collate')."
        )
    return {
        'inputs': default_collate(inputs),
        'data_samples': DetSampleBatch(item['data_samples'] for item in batch),
    }


def _is_plain(sample: DetDataSample) -> bool:
    """Whether there is nothing in it but boxes and labels, as plain tensors."""
    return set(sample.keys()) == set(PARTS) and all(
        set(sample.get(part).keys()) == set(FIELDS)
        and all(isinstance(value, torch.Tensor) for value in sample.get(part).values())
        for part in PARTS
    )


def _unpack(metainfos: list[dict], counts: list[list[int]], joined: list[list[np.ndarray]]) -> DetSampleBatch:
    samples = DetSampleBatch(DetDataSample(metainfo=metainfo) for metainfo in metainfos)
    for part, lengths, arrays in zip(PARTS, counts, joined, strict=True):
        slices = [torch.from_numpy(array).split(lengths) for array in arrays] if samples else ()
        for sample, *values in zip(samples, *slices, strict=True):
            setattr(sample, part, InstanceData(**dict(zip(FIELDS, values, strict=True))))
    return samples
