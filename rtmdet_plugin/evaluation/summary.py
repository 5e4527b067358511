"""The numbers of an evaluation as plain values, for JSON, CSV and tables."""

from __future__ import annotations

import math

from .coco_ap import CocoAP
from .curves import Point
from .evaluation import Evaluation

BACKGROUND = 'background'
"""Name of the last row and column of the confusion matrix."""


def summary(result: Evaluation, score_thr: float | None = None) -> dict:
    """Return the numbers of an evaluation.

    Args:
        result: the evaluation.
        score_thr: threshold for precision, recall, F1 and the confusion matrix; None for the one with the best F1,
            which each class has for itself, and all classes together.

    Returns:
        A dict for JSON, in which None stands for a number that doesn't exist, such as the AP of a class without
        objects: AP, AR and numbers of images and objects; precision, recall, F1 and `score_thr` of all classes
        together; `errors`, the AP50 that each kind of error costs; `classes`, a list with the numbers of each class;
        `confusion`, whose rows are the classes of objects and whose columns are those of detections. If masks are
        evaluated, each number of AP and AR also has one with `mask_` before its name.
    """
    aps = {'': result.ap, **({} if result.mask_ap is None else {'mask_': result.mask_ap})}
    point = result.best if score_thr is None else result.curve.at(score_thr)
    rows = zip(result.classes, result.images_of_class.tolist(), result.curve_of_class, strict=True)
    classes = [
        dict(
            name=name,
            images=images,
            objects=curve.objects,
            **{f'{kind}AP': _number(ap.ap_of_class[label]) for kind, ap in aps.items()},
            **{f'{kind}AP50': _number(ap.ap50_of_class[label]) for kind, ap in aps.items()},
            **_values(curve.best() if score_thr is None else curve.at(score_thr)),
        )
        for label, (name, images, curve) in enumerate(rows)
    ]
    confusion = point and dict(
        score_thr=point.score_thr,
        classes=[*result.classes, BACKGROUND],
        matrix=result.confusion(point.score_thr).tolist(),
    )
    return dict(
        **{kind + name: _number(value) for kind, ap in aps.items() for name, value in averages(ap).items()},
        images=len(result.truth['images']),
        objects=result.curve.objects,
        iou_thr=result.iou_thr,
        **_values(point),
        errors={name: _number(gain) for name, gain in result.errors.gain.items()},
        classes=classes,
        confusion=confusion,
    )


def averages(ap: CocoAP) -> dict[str, float]:
    """Return the numbers of all classes together by the names of tables."""
    return dict(
        AP=ap.ap, AP50=ap.ap50, AP75=ap.ap75, AP_small=ap.small, AP_medium=ap.medium, AP_large=ap.large, AR=ap.ar
    )


def _values(point: Point | None) -> dict[str, float | None]:
    if point is None:
        return dict(precision=None, recall=None, F1=None, score_thr=None)
    return dict(
        precision=_number(point.precision),
        recall=_number(point.recall),
        F1=_number(point.f1),
        score_thr=point.score_thr,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
