"""Datasets, registered in mmdet's ``DATASETS``, and their metric, in ``METRICS``."""

from .coco import RTMCocoDataset
from .coco_metric import RTMCocoMetric

__all__ = ['RTMCocoDataset', 'RTMCocoMetric']
