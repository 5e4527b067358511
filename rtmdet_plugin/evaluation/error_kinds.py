"""Kinds of errors, and the AP50 that a detector would gain without each of them.

Source: TIDE, arXiv 2008.08115, section 2. With `iou_thr` = 0.5 and `background_iou` = 0.1, a wrong detection is one of

- localisation: it overlaps an object of its class by 0.1 to 0.5;
- confusion: it overlaps an object of another class by 0.5 or more;
- duplicate: it overlaps an object of its class by 0.5 or more, which a detection with a higher score has;
- background: it overlaps no object by 0.1;
- both: it overlaps an object of another class by 0.1 to 0.5, so that place and class are wrong.

If several fit, it is the first of them. An object is missed if no detection matches it, and neither a localisation nor
a confusion concerns it.

The gain of a kind is the AP50 after all errors of this kind are repaired, minus that before. For a localisation or
confusion, the box or the class is corrected; if its object then has several detections, the one with the highest score
is kept. Other wrong detections are removed. Missed objects aren't counted; a class that has no others has an AP of 1 if
it has no detections either, else 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .boxes import Boxes, pairs_of_groups, pairwise_iou
from .curves import average_precision
from .matching import NONE, Matches

WRONG = ('localisation', 'confusion', 'duplicate', 'background', 'both')
"""Kinds of wrong detections, by precedence."""
KINDS = (*WRONG, 'missed')
REPAIRED = ('localisation', 'confusion')
"""Kinds whose detections belong to an object."""


@dataclass(frozen=True)
class ErrorKinds:
    """Result of `error_kinds`.

    Attributes:
        kind: position in `WRONG` of each detection; `NONE` for those that are correct or ignored. (N,)
        missed: whether an object is missed. (M,)
        ap50: AP at the IoU of the matches, as in COCO, but of all detections of an image.
        gain: AP50 that would be gained without errors of a kind, for each of `KINDS`; NaN without objects.
    """

    kind: np.ndarray
    missed: np.ndarray
    ap50: float
    gain: dict[str, float]


def error_kinds(
    objects: Boxes, detections: Boxes, matches: Matches, iou_thr: float = 0.5, background_iou: float = 0.1
) -> ErrorKinds:
    """Find the kind of each error, and what each kind costs.

    Args:
        objects: ground truth. (M,)
        detections: all detections. (N,)
        matches: their matches at `iou_thr`.
        iou_thr: IoU from which a detection matches an object.
        background_iou: IoU below which a detection has nothing to do with an object.
    """
    kind, concerned = _kinds(objects, detections, matches, iou_thr, background_iou)
    repairable = np.isin(kind, [WRONG.index(name) for name in REPAIRED])
    missed = ~matches.found & ~objects.crowd
    missed[concerned[repairable]] = False

    counted = np.bincount(objects.label[~objects.crowd], minlength=1 + objects.label.max(initial=0))
    order = np.lexsort((detections.image, -detections.score))

    def mean_ap(label: np.ndarray, correct: np.ndarray, kept: np.ndarray, counts: np.ndarray) -> float:
        kept = order[kept[order]]
        by_label = kept[np.argsort(label[kept], kind='stable')]
        bounds = np.searchsorted(label[by_label], np.arange(len(counts) + 1))
        found = []
        for name in np.flatnonzero(counted):
            chosen = by_label[bounds[name] : bounds[name + 1]]
            if counts[name]:
                found.append(average_precision(correct[chosen], int(counts[name])))
            else:  # all of its objects are missed
                found.append(0.0 if len(chosen) else 1.0)
        return float(np.mean(found)) if found else float('nan')

    label, correct, kept = detections.label, matches.correct, ~matches.ignored
    before = mean_ap(label, correct, kept, counted)
    gain = {}
    for i, name in enumerate(WRONG):
        errors = kind == i
        if name in REPAIRED:
            owner = np.where(errors, concerned, np.where(correct, matches.object_of, NONE))
            first = _first_of_each(owner, order)
            repaired = label.copy()
            repaired[errors] = objects.label[concerned[errors]]
            gain[name] = mean_ap(repaired, first, kept & (first | (owner == NONE)), counted) - before
        else:
            gain[name] = mean_ap(label, correct, kept & ~errors, counted) - before
    left = counted - np.bincount(objects.label[missed], minlength=len(counted))
    gain['missed'] = mean_ap(label, correct, kept, left) - before
    return ErrorKinds(kind, missed, before, {name: gain[name] for name in KINDS})


def _kinds(
    objects: Boxes, detections: Boxes, matches: Matches, iou_thr: float, background_iou: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the kind of each detection, and the object that a localisation or confusion concerns.

    Returns:
        The kind, as in `ErrorKinds`, and the position of the object; 0 for other kinds. (N,), (N,)
    """
    wrong = np.flatnonzero(matches.wrong)
    real = np.flatnonzero(~objects.crowd)
    own_iou, other_iou = np.zeros(len(wrong)), np.zeros(len(wrong))
    own, other = np.zeros(len(wrong), np.int64), np.zeros(len(wrong), np.int64)
    for places, members in pairs_of_groups(detections.image[wrong], objects.image[real]):
        near, found = real[members], wrong[places]
        overlaps = pairwise_iou(detections.xywh[found], objects.xywh[near], objects.crowd[near])
        same = detections.label[found, None] == objects.label[near]
        for iou, best, mask in ((own_iou, own, same), (other_iou, other, ~same)):
            masked = np.where(mask, overlaps, 0)
            iou[places], best[places] = masked.max(1), near[masked.argmax(1)]
    fits = dict(
        localisation=(background_iou <= own_iou) & (own_iou < iou_thr),
        confusion=other_iou >= iou_thr,
        duplicate=own_iou >= iou_thr,
        background=np.maximum(own_iou, other_iou) < background_iou,
    )
    kind = np.full(len(detections), NONE)
    kind[wrong] = np.select([fits[name] for name in WRONG[:-1]], list(range(len(fits))), len(fits))
    concerned = np.zeros(len(detections), np.int64)
    concerned[wrong] = np.where(fits['localisation'], own, other)
    return kind, concerned


def _first_of_each(owner: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return whether a detection is the first of its object in an order, (N,); False for those without object."""
    owners = owner[order]
    first = np.zeros(len(owner), bool)
    first[order[np.unique(owners, return_index=True)[1]]] = True
    return first & (owner != NONE)
