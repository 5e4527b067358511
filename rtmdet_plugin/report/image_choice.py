"""Choose the images with the best and the worst detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..evaluation.boxes import Boxes
from ..evaluation.evaluation import Evaluation


@dataclass(frozen=True)
class Judged:
    """Objects, and detections above a score threshold, with what is right about them.

    Attributes:
        objects: ground truth. (M,)
        missed: whether an object isn't found; False for crowds. (M,)
        detections: detections above the threshold. (N,)
        wrong: whether a detection matches nothing. (N,)
        right: number of correct detections of each image. (I,)
        errors: number of missed objects and wrong detections of each image. (I,)
    """

    objects: Boxes
    missed: np.ndarray
    detections: Boxes
    wrong: np.ndarray
    right: np.ndarray
    errors: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1 of each image; NaN without objects and detections (I,)."""
        total = 2 * self.right + self.errors
        return np.divide(2 * self.right, total, out=np.full(len(total), np.nan), where=total > 0)


def judge(evaluation: Evaluation, score_thr: float) -> Judged:
    """Find what is right above a score threshold; the matches don't depend on detections with lower scores."""
    objects, matches = evaluation.objects, evaluation.matches
    chosen = evaluation.detections.score > score_thr
    found = np.zeros(len(objects), bool)
    found[matches.object_of[chosen & matches.correct]] = True
    missed = ~found & ~objects.crowd
    detections, wrong = evaluation.detections[chosen], matches.wrong[chosen]

    def count(images: np.ndarray) -> np.ndarray:
        return np.bincount(images, minlength=len(evaluation.truth['images']))

    return Judged(
        objects,
        missed,
        detections,
        wrong,
        right=count(detections.image[matches.correct[chosen]]),
        errors=count(detections.image[wrong]) + count(objects.image[missed]),
    )


def worst_images(judged: Judged, number: int) -> list[int]:
    """Return the images with the lowest F1 below 1, of several those with the most errors first."""
    order = np.lexsort((-judged.errors, judged.f1))
    return [int(image) for image in order if judged.errors[image]][:number]


def best_images(judged: Judged, number: int) -> list[int]:
    """Return the images with the highest F1 above 0, of several those with the most objects found first."""
    order = np.lexsort((-judged.right, -judged.f1))
    return [int(image) for image in order if judged.right[image]][:number]


def entry_of(evaluation: Evaluation, image: int) -> Mapping:
    """Return the entry in COCO's list of an image that has boxes, by its position in the arrays."""
    for boxes, rows in (
        (evaluation.objects, evaluation.truth['annotations']),
        (evaluation.detections, evaluation.found),
    ):
        places = np.flatnonzero(boxes.image == image)
        if len(places):
            image_id = rows[places[0]]['image_id']
            return next(entry for entry in evaluation.truth['images'] if entry['id'] == image_id)
    raise ValueError(f'image must have boxes, got {image}')
