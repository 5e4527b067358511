"""Confusion matrix of a detector: which class it predicts for objects of which class."""

from __future__ import annotations

import numpy as np

from .boxes import Boxes, pairs_of_groups, pairwise_iou
from .matching import match


def confusion_matrix(
    objects: Boxes, detections: Boxes, classes: int, score_thr: float, iou_thr: float = 0.5
) -> np.ndarray:
    """Return how many objects of each class are detected as each class.

    Objects are first matched within their class, as for AP, so that the diagonal has the correct detections. Those that
    are left are matched to the detections of other classes that are left, pairs with the largest IoU first. Crowds
    aren't counted, nor detections that match one of their class.

    Args:
        objects: ground truth. (M,)
        detections: of all scores. (N,)
        classes: number of classes C.
        score_thr: minimum score of a detection, exclusive.
        iou_thr: IoU from which a detection can match an object.

    Returns:
        Counts by class of the object and class of the detection, in this order; the last row has detections without an
        object, the last column objects without a detection. (C + 1, C + 1)
    """
    detections = detections[detections.score > score_thr]
    matches = match(objects, detections, iou_thr)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    correct = detections.label[matches.correct]
    np.add.at(matrix, (correct, correct), 1)

    missed = objects[~matches.found & ~objects.crowd]
    wrong = detections[matches.wrong]
    row = np.full(len(wrong), classes)
    column = np.full(len(missed), classes)
    for members, chosen in pairs_of_groups(missed.image, wrong.image):
        overlaps = pairwise_iou(wrong.xywh[chosen], missed.xywh[members], missed.crowd[members])
        near = np.argwhere(overlaps >= iou_thr)
        for one, other in near[np.argsort(-overlaps[tuple(near.T)], kind='stable')]:
            if row[chosen[one]] == classes and column[members[other]] == classes:
                row[chosen[one]] = missed.label[members[other]]
                column[members[other]] = wrong.label[chosen[one]]
    np.add.at(matrix, (row, wrong.label), 1)
    alone = column == classes
    np.add.at(matrix[:, classes], missed.label[alone], 1)
    return matrix
