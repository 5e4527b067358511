"""Collating a batch of equally large images into one tensor, with annotations that travel light.

mmengine's `pseudo_collate` leaves a list of images, each of which crosses from worker to trainer by itself, as
does each small tensor of boxes and labels: five file descriptors an image. Here a batch crosses as one tensor in
shared memory, which `pin_memory` pins as a whole, and its annotations as a few arrays. What the trainer gets are
the same `DetDataSample` objects, for mmdet's data preprocessor and heads; their boxes are slices of one tensor, which
`RTMDetDataPreprocessor` moves to the device as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.registry import FUNCTIONS
from torch.utils.data import default_collate

from ..errors import RefusedError
from ..sample_batch import DetSampleBatch


@FUNCTIONS.register_module()
def rtm_collate(batch: Sequence[dict]) -> dict:
    """Collate what `PackDetInputs` gives.

    Args:
        batch: `inputs` (C, H, W), all of one size, and `data_samples` of each image.

    Returns:
        `inputs`, (B, C, H, W), in shared memory within a worker, and `data_samples`, a list of B.

    Raises:
        RefusedError: where the images differ in size.
    """
    inputs = [item['inputs'] for item in batch]
    if len({image.shape for image in inputs}) > 1:
        sizes = {item['data_samples'].get('img_path', '?'): tuple(item['inputs'].shape) for item in batch}
        raise RefusedError(
            f'Images of different (C, H, W) in one batch: {sizes}; accepted: one size, as Pad(size=...) gives, or '
            "collate_fn=dict(type='pseudo_collate')."
        )
    return {
        'inputs': default_collate(inputs),
        'data_samples': DetSampleBatch(item['data_samples'] for item in batch),
    }
