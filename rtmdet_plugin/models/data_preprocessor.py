"""mmdet's data preprocessor for the batches of `rtm_collate`.

mmdet's moves the boxes and labels of each image to the device one by one: 128 transfers for 32 images.
"""

from typing import Any

from mmdet.models import DetDataPreprocessor
from mmdet.registry import MODELS

from ..errors import RefusedError
from ..sample_batch import DetSampleBatch


@MODELS.register_module()
class RTMDetDataPreprocessor(DetDataPreprocessor):
    """mmdet's `DetDataPreprocessor` with its arguments, and one transfer per tensor of a batch."""

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise and pad the images; see mmdet's.

        Raises:
            RefusedError: if the batch was made by mmyolo's `yolov5_collate`.
        """
        if isinstance(data.get('data_samples'), dict):
            raise RefusedError(
                "data_samples must be a list of DetDataSample, got a dict of mmyolo's yolov5_collate; set model."
                "data_preprocessor.type='YOLOv5DetDataPreprocessor', or train_dataloader.collate_fn.type='rtm_collate'"
            )
        return super().forward(data, training)

    def cast_data(self, data: Any) -> Any:
        """Return `data` on the model's device."""
        if isinstance(data, DetSampleBatch):
            return data.to(self.device, non_blocking=self._non_blocking)
        return super().cast_data(data)
