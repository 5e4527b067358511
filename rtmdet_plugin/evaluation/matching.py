"""Match detections to objects at one IoU threshold, as COCO does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .boxes import Boxes, pairs_of_groups, pairwise_iou

NONE = -1
"""Position of a detection that matches no object."""


@dataclass(frozen=True)
class Matches:
    """Result of `match`.

    Attributes:
        object_of: position of the object that a detection matches; `NONE` if there is none. (N,)
        ignored: whether a detection is neither right nor wrong, because it matches a crowd. (N,)
        found: whether an object is matched; False for crowds. (M,)
    """

    object_of: np.ndarray
    ignored: np.ndarray
    found: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        """Whether a detection matches an object that is no crowd, (N,)."""
        return (self.object_of != NONE) & ~self.ignored

    @property
    def wrong(self) -> np.ndarray:
        """Whether a detection matches nothing, (N,)."""
        return self.object_of == NONE


def match(objects: Boxes, detections: Boxes, iou_thr: float = 0.5) -> Matches:
    """Match detections to objects of the same class and image.

    In descending order of the score, each detection takes the object with the largest IoU that is left, if that is
    at least `iou_thr`. If there is none, it takes a crowd that contains as much of it. A crowd can be taken repeatedly.
    A detection's match doesn't depend on detections with lower scores.

    Args:
        objects: ground truth. (M,)
        detections: in any order; of those with the same score, the first is matched first. (N,)
        iou_thr: IoU from which a detection can match an object.
    """
    labels = 1 + max(objects.label.max(initial=0), detections.label.max(initial=0))
    object_of = np.full(len(detections), NONE)
    found = np.zeros(len(objects), bool)
    by_score = np.argsort(-detections.score, kind='stable')
    groups = pairs_of_groups(
        objects.image * labels + objects.label, (detections.image * labels + detections.label)[by_score]
    )
    for members, places in groups:
        chosen = by_score[places]
        crowd = objects.crowd[members]
        overlaps = pairwise_iou(detections.xywh[chosen], objects.xywh[members], crowd)
        near = overlaps >= iou_thr
        for row in np.flatnonzero(near.any(1)):
            candidates = near[row] & ~found[members] & ~crowd
            if not candidates.any():
                candidates = near[row] & crowd
            if candidates.any():
                best = members[_last_max(np.where(candidates, overlaps[row], -1))]
                object_of[chosen[row]] = best
                found[best] = not objects.crowd[best]
    taken = object_of != NONE
    ignored = np.zeros(len(detections), bool)
    ignored[taken] = objects.crowd[object_of[taken]]
    return Matches(object_of, ignored, found)


def _last_max(values: np.ndarray) -> int:
    """Return the last position of the maximum: of several objects with the same IoU, pycocotools takes the last."""
    return len(values) - 1 - int(values[::-1].argmax())
