"""AP and AR as COCO defines them, computed by pycocotools, or by faster-coco-eval if it is installed.

Both give the same numbers; see benchmarks/evaluators.py, which also measures how much faster the second is.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .boxes import Boxes

try:
    from faster_coco_eval import COCO
    from faster_coco_eval import COCOeval_faster as COCOeval
except ImportError:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

MAX_DETECTIONS = 100
"""Number of detections of a class in an image that count, as in COCO's tables."""


@dataclass(frozen=True)
class CocoAP:
    """AP of a detector, from 0 to 1; NaN without such objects.

    Attributes:
        ap: mean over ten IoU thresholds from 0.5 to 0.95, and over classes.
        ap50, ap75: at an IoU of 0.5 and 0.75.
        small, medium, large: of objects with an area below 32 x 32 pixels, up to 96 x 96 pixels, and above.
        ar: average recall.
        ap_of_class, ap50_of_class: `ap` and `ap50` of each class. (C,)
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float
    ar: float
    ap_of_class: tuple[float, ...]
    ap50_of_class: tuple[float, ...]


def coco_ap(objects: Boxes, detections: Boxes, classes: int, masks: bool = False) -> CocoAP:
    """Compute AP and AR of boxes or masks.

    Args:
        objects: ground truth. (M,)
        detections: of all scores. (N,)
        classes: number of classes C.
        masks: compare masks instead of boxes.
    """
    images = np.union1d(objects.image, detections.image).tolist()  # images without any box change nothing
    if not images:
        nan, of_class = float('nan'), (float('nan'),) * classes
        return CocoAP(nan, nan, nan, nan, nan, nan, nan, of_class, of_class)
    if masks and detections.mask is not None:  # COCO's area of a detection is that of its mask
        areas = [coco_mask.area(mask) for mask in detections.mask.tolist()]  # pycocotools takes at most 255 at once
        detections = replace(detections, area=np.array(areas, float))
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = (_coco(boxes, images, classes) for boxes in (objects, detections))
        evaluation = COCOeval(truth, found, 'segm' if masks else 'bbox')
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU thresholds, recalls, classes, areas); areas: all, small, medium, large
    precision, recall = (evaluation.eval[name][..., 0] for name in ('precision', 'recall'))
    return CocoAP(
        ap=_mean(precision[..., 0]),
        ap50=_mean(precision[0, ..., 0]),
        ap75=_mean(precision[5, ..., 0]),
        small=_mean(precision[..., 1]),
        medium=_mean(precision[..., 2]),
        large=_mean(precision[..., 3]),
        ar=_mean(recall[..., 0]),
        ap_of_class=tuple(_mean(precision[:, :, label, 0]) for label in range(classes)),
        ap50_of_class=tuple(_mean(precision[0, :, label, 0]) for label in range(classes)),
    )


def _mean(values: np.ndarray) -> float:
    """Return the mean of what could be computed; the rest is marked with -1."""
    values = values[values > -1]
    return float(values.mean()) if values.size else float('nan')


def _coco(boxes: Boxes, images: list[int], classes: int) -> COCO:
    """Return boxes, and masks if there are any, as pycocotools takes them."""
    masks = np.full(len(boxes), None) if boxes.mask is None else boxes.mask
    columns = boxes.image, boxes.label, boxes.xywh, boxes.score, boxes.area, boxes.crowd, masks
    rows = zip(*(column.tolist() for column in columns), strict=True)
    content: Any = dict(
        images=[dict(id=image, height=0, width=0) for image in images],  # each mask has its size
        categories=[dict(id=label) for label in range(classes)],
        annotations=[  # numbered from 1, because pycocotools takes a match with object 0 for none
            dict(
                id=i,
                image_id=image,
                category_id=label,
                bbox=xywh,
                score=score,
                area=area,
                iscrowd=int(crowd),
                segmentation=mask,
            )
            for i, (image, label, xywh, score, area, crowd, mask) in enumerate(rows, 1)
        ],
    )
    coco = COCO()
    coco.dataset = content
    coco.createIndex()
    return coco
