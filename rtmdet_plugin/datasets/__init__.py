"""Dataset, metric, sampler and collate function, registered in mmdet's `DATASETS`, `METRICS` and `DATA_SAMPLERS`."""

from .coco import RTMCocoDataset
from .coco_metric import RTMCocoMetric
from .collate import rtm_collate
from .sampler import RTMDefaultSampler

__all__ = ['RTMCocoDataset', 'RTMCocoMetric', 'RTMDefaultSampler', 'rtm_collate']
