"""Precision, recall and F1 at each score threshold, the best threshold, and AP from the same matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which COCO's AP averages the precision."""


@dataclass(frozen=True)
class Point:
    """What a score threshold gives.

    Attributes:
        score_thr: minimum score of a box, exclusive.
        precision: share of the boxes above it that are correct; NaN without boxes.
        recall: share of the objects that these find; NaN without objects.
        f1: harmonic mean of both; NaN without objects.
    """

    score_thr: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Curve:
    """Precision and recall at each threshold that makes a difference.

    Attributes:
        scores: the different scores, in descending order; the threshold of each position is just below its score. (K,)
        precision: share of the boxes from this score on that are correct. (K,)
        recall: share of the objects that these find; NaN without objects. (K,)
        objects: number of objects.
    """

    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    objects: int

    @property
    def f1(self) -> np.ndarray:
        """Harmonic mean of precision and recall, (K,); NaN without objects."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=total.copy(), where=total != 0)

    def at(self, score_thr: float) -> Point:
        """Return what the boxes with a score above a threshold give."""
        count = int(np.count_nonzero(self.scores > score_thr))
        if count:
            values = (float(array[count - 1]) for array in (self.precision, self.recall, self.f1))
            return Point(score_thr, *values)
        nothing_found = 0.0 if self.objects else float('nan')
        return Point(score_thr, float('nan'), nothing_found, nothing_found)

    def best(self) -> Point | None:
        """Return the threshold with the best F1, of several the highest; None without objects or correct boxes.

        It is the shortest decimal number that selects the same boxes.
        """
        if not self.objects or not self.recall.any():
            return None
        place = int(self.f1.argmax())
        below = self.scores[place + 1] if place + 1 < len(self.scores) else 0.0
        return self.at(_shortest_between(float(below), float(self.scores[place])))


def _shortest_between(low: float, high: float) -> float:
    """Return a number with few digits between two numbers, near their middle."""
    middle = (low + high) / 2
    rounded = (round(middle, digits) for digits in range(1, 10))
    return next((value for value in rounded if low < value < high), middle)


def curve(score: np.ndarray, correct: np.ndarray, objects: int) -> Curve:
    """Return precision and recall at each threshold.

    Args:
        score: scores of the detections in any order, without those that are ignored. (N,)
        correct: whether each is correct. (N,)
        objects: number of objects, crowds excluded.
    """
    order = np.argsort(-score, kind='stable')
    score = score[order]
    last = np.flatnonzero(np.diff(score, append=-np.inf))  # of those with the same score
    found = np.cumsum(correct[order])[last]
    recall = found / objects if objects else np.full(len(last), np.nan)
    return Curve(score[last], found / (last + 1), recall, objects)


def average_precision(correct: np.ndarray, objects: int) -> float:
    """Return COCO's AP at one IoU: the precision at 101 recalls, none lower than at a higher recall.

    Args:
        correct: whether each detection is correct, by descending score, without those that are ignored. (N,)
        objects: number of objects, above 0.
    """
    found = np.cumsum(correct)
    precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
    places = np.searchsorted(found / objects, RECALLS)
    return float(np.append(precision, 0)[places].mean())
