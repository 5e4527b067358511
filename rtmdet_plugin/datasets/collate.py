"""Collate a batch of images of one size into one tensor, and their annotations into few arrays.

mmengine's `pseudo_collate` returns a list of images. Each is sent from worker to trainer separately, and so is each
small tensor of boxes and labels: five file descriptors per image. Here a batch is sent as one file in memory, whose
tensor `pin_memory` pins at once, and its annotations as a few arrays. The trainer gets the same `DetDataSample` objects
for mmdet's data preprocessor and heads; their boxes are slices of one tensor, which `RTMDetDataPreprocessor` moves to
the device at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmdet.structures.bbox import get_box_tensor
from mmengine.registry import FUNCTIONS
from torch.utils.data import default_collate

from ..errors import RefusedError
from ..memory_file import join_in_file, sends_files
from ..sample_batch import PARTS, DetSampleBatch


@FUNCTIONS.register_module()
def rtm_collate(batch: Sequence[dict]) -> dict:
    """Collate results of `PackDetInputs`.

    Args:
        batch: `inputs` (C, H, W), all of one shape, and `data_samples` of each image. Their boxes become tensors.

    Returns:
        `inputs`, (B, C, H, W), in a file in memory within a worker, and `data_samples`, a list of B.

    Raises:
        RefusedError: if the images differ in shape.
    """
    inputs = [item['inputs'] for item in batch]
    if len({image.shape for image in inputs}) > 1:
        sizes = {item['data_samples'].get('img_path', '?'): tuple(item['inputs'].shape) for item in batch}
        raise RefusedError(
            f'Images of a batch must have one shape (C, H, W), got {sizes}; add Pad(size=...) to the pipeline, or set '
            "collate_fn=dict(type='pseudo_collate')."
        )
    for item in batch:
        for part in PARTS:
            if 'bboxes' in item['data_samples'].get(part, ()):
                instances = item['data_samples'].get(part)
                instances.bboxes = get_box_tensor(instances.bboxes)
    stacked = join_in_file(inputs).view(len(inputs), *inputs[0].shape) if sends_files() else default_collate(inputs)
    return {
        'inputs': stacked,
        'data_samples': DetSampleBatch(item['data_samples'] for item in batch),
    }
