"""Everything about the detections of one dataset in one object, for `rtmdet val` and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .boxes import Boxes, boxes_of
from .coco_ap import CocoAP, coco_ap
from .confusion import confusion_matrix
from .curves import Curve, Point, curve
from .error_kinds import ErrorKinds, error_kinds
from .matching import Matches, match


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate_detections`. Rows of arrays are in the order of the lists.

    Attributes:
        classes: class names by label, which is the position in `truth['categories']`.
        truth: COCO's lists `images`, `annotations` and `categories`.
        found: detections, dicts with `image_id`, `category_id`, `bbox` (xywh in pixels) and `score`, and with
            `segmentation` for masks.
        objects: `truth['annotations']` as arrays. (M,)
        detections: `found` as arrays. (N,)
        iou_thr: IoU of boxes from which a detection is correct in everything below but `ap` and `mask_ap`.
        ap: AP and AR of the boxes.
        mask_ap: AP and AR of the masks; None if they aren't evaluated.
        matches: which detection matches which object.
        curve: precision and recall of all classes together.
        curve_of_class: precision and recall of each class. (C,)
        errors: kinds of errors.
    """

    classes: tuple[str, ...]
    truth: Mapping[str, Sequence[Mapping]]
    found: Sequence[Mapping]
    objects: Boxes
    detections: Boxes
    iou_thr: float
    ap: CocoAP
    mask_ap: CocoAP | None
    matches: Matches
    curve: Curve
    curve_of_class: tuple[Curve, ...]
    errors: ErrorKinds

    @property
    def best(self) -> Point | None:
        """Score threshold with the best F1 of all classes together; None if no detection is correct."""
        return self.curve.best()

    @property
    def images_of_class(self) -> np.ndarray:
        """Number of images with objects of each class, (C,)."""
        real = ~self.objects.crowd
        pairs = np.unique(np.stack([self.objects.label[real], self.objects.image[real]]), axis=1)
        return np.bincount(pairs[0], minlength=len(self.classes))

    def confusion(self, score_thr: float) -> np.ndarray:
        """Return the confusion matrix at a score threshold, (C + 1, C + 1); see `confusion_matrix`."""
        return confusion_matrix(self.objects, self.detections, len(self.classes), score_thr, self.iou_thr)


def evaluate_detections(
    truth: Mapping[str, Sequence[Mapping]], found: Sequence[Mapping], iou_thr: float = 0.5, masks: bool = False
) -> Evaluation:
    """Evaluate detections.

    Args:
        truth: COCO's lists `images`, `annotations` and `categories`. The categories are in the order of the labels.
        found: detections of all scores, dicts with `image_id`, `category_id`, `bbox` (xywh in pixels) and `score`.
        iou_thr: IoU from which a detection is correct, for everything but AP.
        masks: compute the AP of the masks too. All annotations and detections need a `segmentation`, see `boxes_of`.

    Raises:
        ValueError: if `iou_thr` isn't above 0 and at most 1, or a box belongs to an image or category that isn't in
            `truth`.
    """
    if not 0 < iou_thr <= 1:
        raise ValueError(f'iou_thr must be above 0 and at most 1, got {iou_thr}')
    classes = tuple(category['name'] for category in truth['categories'])
    objects, detections = (boxes_of(entries, truth, masks) for entries in (truth['annotations'], found))
    matches = match(objects, detections, iou_thr)
    counts = np.bincount(objects.label[~objects.crowd], minlength=len(classes))

    def curve_of(chosen: np.ndarray, count: int) -> Curve:
        chosen = chosen & ~matches.ignored
        return curve(detections.score[chosen], matches.correct[chosen], count)

    return Evaluation(
        classes=classes,
        truth=truth,
        found=found,
        objects=objects,
        detections=detections,
        iou_thr=iou_thr,
        ap=coco_ap(objects, detections, len(classes)),
        mask_ap=coco_ap(objects, detections, len(classes), masks=True) if masks else None,
        matches=matches,
        curve=curve_of(np.ones(len(detections), bool), int(counts.sum())),
        curve_of_class=tuple(curve_of(detections.label == label, int(n)) for label, n in enumerate(counts)),
        errors=error_kinds(objects, detections, matches, iou_thr),
    )
