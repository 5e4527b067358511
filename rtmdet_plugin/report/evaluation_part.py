"""Prepare what the page shows about the detections of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rtmdet_runtime.choices import DEPLOY_THRESHOLDS

from ..evaluation.curves import Point
from ..evaluation.error_kinds import WRONG
from ..evaluation.evaluation import Evaluation
from .embedded_image import EmbeddedImage, embed
from .evaluation_plots import evaluation_plots
from .image_choice import best_images, entry_of, judge, worst_images
from .svg_plot import Plot

FALLBACK_THR = DEPLOY_THRESHOLDS['score_thr']
"""Score threshold for the page if none is the best, because no detection is correct."""
MAX_CLASSES = 20
"""Number of classes in the confusion matrix."""
IMAGES = 6
"""Number of best and of worst images."""
MEANINGS = dict(
    localisation='the class is right, the box overlaps its object too little',
    confusion='the box is right, the class is wrong',
    duplicate='the object already has a better detection',
    background='there is no object',
    both='the class is wrong, and the box overlaps its object too little',
    missed='no detection concerns the object',
)


class ClassRow(NamedTuple):
    """A row of the table of classes."""

    name: str
    train: int | None
    """Number of training objects; None if it isn't known."""
    val: int
    ap: float
    bar: str
    """Length of the bar of AP, from 0 to 1."""
    ap50: float
    mask_ap: float | None
    """None if masks aren't evaluated, as for the next one."""
    mask_ap50: float | None
    point: Point
    best: float | None
    """Score threshold with the best F1 of this class."""


class KindRow(NamedTuple):
    """A row of the table of errors."""

    name: str
    meaning: str
    gain: float
    bar: str
    """Length of the bar of the gain, from 0 to 1."""
    count: int


class Cell(NamedTuple):
    """A cell of the confusion matrix."""

    count: int
    share: float
    """Share of its row, from 0 to 1."""
    right: bool


class Confusion(NamedTuple):
    """The confusion matrix, as the page shows it."""

    names: list[str]
    rows: list[tuple[str, list[Cell]]]
    omitted: int
    """Number of classes that aren't shown."""


@dataclass(frozen=True)
class EvaluationPart:
    """What the page shows about the detections."""

    measured: str
    """Sentence with the checkpoint and the images."""
    advice: str
    """Sentence with the recommended score threshold."""
    classes: list[ClassRow]
    masks: bool
    """Whether masks are evaluated."""
    plots: list[Plot]
    kinds: list[KindRow]
    confusion: Confusion
    worst: list[EmbeddedImage]
    best: list[EmbeddedImage]


def evaluation_part(evaluation: Evaluation, measured: str, train_counts: Mapping[str, int]) -> EvaluationPart:
    """Prepare the sections about the detections.

    Args:
        evaluation: ground truth and detections.
        measured: sentence with the checkpoint and the images.
        train_counts: number of training objects by class; empty if it isn't known.
    """
    best = evaluation.best
    score_thr = FALLBACK_THR if best is None else best.score_thr
    judged = judge(evaluation, score_thr)

    def embedded(images: Sequence[int]) -> list[EmbeddedImage]:
        return [embed(image, entry_of(evaluation, image), judged, evaluation.classes) for image in images]

    worst = worst_images(judged, IMAGES)
    return EvaluationPart(
        measured=measured,
        advice=_advice(best, _never_found(evaluation, score_thr)),
        classes=_class_rows(evaluation, score_thr, train_counts),
        masks=evaluation.mask_ap is not None,
        plots=list(evaluation_plots(evaluation.curve, best)),
        kinds=_kind_rows(evaluation, score_thr),
        confusion=confusion_of(evaluation.confusion(score_thr), evaluation.classes),
        worst=embedded(worst),
        best=embedded([image for image in best_images(judged, IMAGES + len(worst)) if image not in worst][:IMAGES]),
    )


def _never_found(evaluation: Evaluation, score_thr: float) -> list[str]:
    """Return the classes of which a lower threshold would find objects, and this one finds none."""
    curves = zip(evaluation.classes, evaluation.curve_of_class, strict=True)
    return [name for name, curve in curves if curve.best() is not None and curve.at(score_thr).recall == 0]


def _advice(best: Point | None, never_found: Sequence[str]) -> str:
    if best is None:
        return (
            f'No detection is correct, so no score threshold can be recommended; {FALLBACK_THR} is used on this page.'
        )
    few = f' It finds no {", ".join(never_found)}: see the best thresholds of the classes above.' if never_found else ''
    return (
        f'Recommended score threshold: {best.score_thr:.3f}. It has the best F1 of all classes together, '
        f'{best.f1:.3f}, with a precision of {best.precision:.3f} and a recall of {best.recall:.3f} at an IoU of 0.5. '
        'Choose a higher '
        'one for fewer wrong boxes, a lower one to miss less. Models that are exported from this checkpoint have it.'
        + few
    )


def _class_rows(evaluation: Evaluation, score_thr: float, train_counts: Mapping[str, int]) -> list[ClassRow]:
    rows, masks = [], evaluation.mask_ap
    for label, name in enumerate(evaluation.classes):
        curve, ap = evaluation.curve_of_class[label], evaluation.ap.ap_of_class[label]
        best = curve.best()
        rows.append(
            ClassRow(
                name=name,
                train=train_counts.get(name),
                val=curve.objects,
                ap=ap,
                bar=_bar(ap),
                ap50=evaluation.ap.ap50_of_class[label],
                mask_ap=masks and masks.ap_of_class[label],
                mask_ap50=masks and masks.ap50_of_class[label],
                point=curve.at(score_thr),
                best=None if best is None else best.score_thr,
            )
        )
    return rows


def _bar(value: float) -> str:
    return f'{min(max(np.nan_to_num(value), 0), 1):.3f}'


def _kind_rows(evaluation: Evaluation, score_thr: float) -> list[KindRow]:
    errors = evaluation.errors
    shown = errors.kind[evaluation.detections.score > score_thr]
    counts = {name: int((shown == i).sum()) for i, name in enumerate(WRONG)} | dict(missed=int(errors.missed.sum()))
    longest = max([0.01, *(gain for gain in errors.gain.values() if gain == gain)])
    return [
        KindRow(name, MEANINGS[name], gain, _bar(gain / longest), counts[name]) for name, gain in errors.gain.items()
    ]


def confusion_of(matrix: np.ndarray, classes: Sequence[str]) -> Confusion:
    """Return a confusion matrix for the page, with the classes that have the most errors.

    Args:
        matrix: counts by class of the object and of the detection, the last row and column for none. (C + 1, C + 1)
        classes: class names.
    """
    errors = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-(errors.sum(0) + errors.sum(1))[:-1], kind='stable')[:MAX_CLASSES]
    shown = np.append(np.sort(order), len(classes))
    part = matrix[np.ix_(shown, shown)]
    names: list[str] = np.array(classes, object)[shown[:-1]].tolist()
    totals = np.maximum(matrix[shown].sum(1), 1)
    rows = [
        (name, [Cell(int(n), float(n / total), i == k and i < len(names)) for k, n in enumerate(counts)])
        for i, (name, counts, total) in enumerate(zip([*names, '(no object)'], part, totals, strict=True))
    ]
    rows[-1][1][-1:] = []  # no object and no detection
    return Confusion(names, rows, len(classes) - len(names))
