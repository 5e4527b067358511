"""COCO's AP for labels in any order.

mmdet's `CocoMetric` numbers the categories in the order of the annotation file, and the rows of its per-class table in
the order of their ids, whatever the order of the dataset's classes: in another order, one class is scored as
another. Here a label is matched to the category with its class's *name*. If the classes are in the file's order, both
metrics give the same figures.

The file is read and checked as in `RTMCocoDataset`, and already when the metric is built. So a file without `iscrowd`
or `area` can be used for evaluation, and a broken one stops the run before its first step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS

from ..errors import RefusedError
from .coco_file import category_ids, read_coco_file
from .mask_annotations import unscorable_masks


class RTMCOCO(COCO):
    """mmdet's reader of COCO files that also accepts results without any box.

    For such results mmdet's metric returns no AP at all instead of 0.
    """

    def loadRes(self, resFile: list[dict]) -> COCO:  # noqa: N802, N803  pycocotools' names
        """Build an object with these results and this file's images and categories."""
        if len(resFile):
            return super().loadRes(resFile)
        empty = type(self)()
        empty.dataset = {**self.dataset, 'annotations': []}
        empty.createIndex()
        return empty


@METRICS.register_module()
class RTMCocoMetric(CocoMetric):
    """COCO metric with the arguments of mmdet's `CocoMetric`; `sort_categories` has no effect.

    Raises:
        ValueError: if the annotation file is broken, or an object has no mask and `metric` contains `'segm'`; during
            evaluation, if it lacks one of the dataset's classes.
        FileNotFoundError: if there is no such file.
    """

    def __init__(self, ann_file: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(None, *args, **kwargs)
        if ann_file is not None:
            self._coco_api = RTMCOCO()
            content = read_coco_file(ann_file, self.backend_args, annotated=False)
            self._coco_api.dataset = {'info': {}, **content}  # some versions of pycocotools copy the info
            self._coco_api.createIndex()
            if 'segm' in self.metrics:
                check_masks(ann_file, content)
            # The wrapper's own names for the attributes that createIndex replaces.
            self._coco_api.img_ann_map = self._coco_api.imgToAnns
            self._coco_api.cat_img_map = self._coco_api.catToImgs

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """Compute AP of all (ground truth, prediction) pairs."""
        if self._coco_api is not None:
            # Without an annotation file mmdet writes one from the dataset's classes, in their order.
            categories = self._coco_api.dataset['categories']
            ids = list(category_ids(categories, self.dataset_meta['classes'], 'the annotation file').values())
            self.cat_ids = sorted(ids)
            place = np.searchsorted(self.cat_ids, ids)
            results = [(truth, {**prediction, 'labels': place[prediction['labels']]}) for truth, prediction in results]
        return super().compute_metrics(results)


def check_masks(ann_file: str, content: dict[str, list[dict]]) -> None:
    """Raise a `RefusedError` if a mask can't be evaluated, see `unscorable_masks`."""
    if lost := unscorable_masks(content['images'], content['annotations']):
        reasons = '; '.join(f'{len(ids)} that {reason}, ids {ids[:20]}' for reason, ids in lost.items())
        raise RefusedError(
            f"{ann_file}: every object must have a mask for metric 'segm', got {reasons}; add the masks, or set "
            "metric='bbox'"
        )
