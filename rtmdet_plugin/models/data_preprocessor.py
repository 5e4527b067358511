"""mmdet's data preprocessor for the batches of `rtm_collate`.

mmdet's moves the boxes and labels of each image to the device one by one: 128 transfers for 32 images.
"""

from typing import Any

from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS

from ..sample_batch import DetSampleBatch


@MODELS.register_module()
class RTMDetDataPreprocessor(DetDataPreprocessor):
    """mmdet's `DetDataPreprocessor` with its arguments, and one transfer per tensor of a batch."""

    def cast_data(self, data: Any) -> Any:
        """Return `data` on the model's device."""
        if isinstance(data, DetSampleBatch):
            return data.to(self.device, non_blocking=self._non_blocking)
        return super().cast_data(data)
