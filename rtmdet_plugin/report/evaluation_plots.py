"""Draw what the detections of a model are worth at each score threshold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from ..evaluation.curves import Curve, Point
from .svg_plot import INK, Plot, plot

STEPS = 200
"""Number of steps of recall, and of the score, at which a curve is drawn."""


def evaluation_plots(curve: Curve, best: Point | None) -> Iterator[Plot]:
    """Draw precision and recall of all classes together.

    Args:
        curve: precision and recall at each threshold.
        best: the threshold with the best F1, which is marked.
    """
    if not len(curve.scores) or not curve.objects:
        return
    caption = '' if best is None else f'The dot is the score threshold {best.score_thr:.3f}, with the best F1.'
    yield plot(
        'precision-recall', 'Precision against recall', lambda axes: _precision_recall(axes, curve, best), caption
    )
    caption = '' if best is None else f'Best F1: {best.f1:.3f}, at the score threshold {best.score_thr:.3f}.'
    yield plot('f1', 'Precision, recall and F1', lambda axes: _by_threshold(axes, curve, best), caption)


def drawn_points(curve: Curve) -> np.ndarray:
    """Return the positions of a curve to draw: evenly spaced in recall and in score, of which most have low values."""
    recalls = np.searchsorted(curve.recall, np.linspace(0, curve.recall[-1], STEPS))
    scores = np.searchsorted(-curve.scores, -np.linspace(curve.scores[0], curve.scores[-1], STEPS))
    return np.unique([*recalls, *scores])


def _precision_recall(axes: Axes, curve: Curve, best: Point | None) -> None:
    places = drawn_points(curve)
    axes.plot(curve.recall[places], curve.precision[places])
    if best is not None:
        axes.plot([best.recall], [best.precision], 'o', color=INK)
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1.02), ylim=(0, 1.02))


def _by_threshold(axes: Axes, curve: Curve, best: Point | None) -> None:
    places = drawn_points(curve)
    for name, values in dict(precision=curve.precision, recall=curve.recall, F1=curve.f1).items():
        axes.plot(curve.scores[places], values[places], label=name)
    if best is not None:
        axes.axvline(best.score_thr, color=INK, linestyle='--', linewidth=0.9, alpha=0.6)
    axes.set(xlabel='score threshold', ylabel='precision, recall, F1', xlim=(0, 1), ylim=(0, 1.02))
    axes.legend()
