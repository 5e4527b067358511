"""Datasets, registered in mmdet's `DATASETS`, their metric, in `METRICS`, and collating."""

from .coco import RTMCocoDataset
from .coco_metric import RTMCocoMetric
from .collate import rtm_collate

__all__ = ['RTMCocoDataset', 'RTMCocoMetric', 'rtm_collate']
