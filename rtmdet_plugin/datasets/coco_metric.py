"""COCO's AP for labels in any order.

mmdet's ``CocoMetric`` numbers the categories in the order of the annotation file, and its table by class in
that of their ids, whatever the order of the dataset's classes: with another order, one class is scored as
another. Here a label goes to the category that has its class's *name*. With classes in the file's order, both
give the same figures.
"""

from __future__ import annotations

import numpy as np
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from .coco_file import category_ids


@METRICS.register_module()
class RTMCocoMetric(CocoMetric):
    """Takes the arguments of mmdet's ``CocoMetric``.

    Raises:
        ValueError: on evaluation, where the annotation file doesn't have one of the dataset's classes.
    """

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """AP of all (ground truth, prediction) pairs."""
        if self._coco_api is not None:
            # Without an annotation file mmdet writes one from the dataset's classes, in their order.
            categories = self._coco_api.dataset['categories']
            ids = list(category_ids(categories, self.dataset_meta['classes'], 'the annotation file').values())
            self.cat_ids = sorted(ids)
            place = np.searchsorted(self.cat_ids, ids)
            results = [(truth, {**prediction, 'labels': place[prediction['labels']]}) for truth, prediction in results]
        return super().compute_metrics(results)
