"""Curves: hand-computed precision, recall and thresholds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtmdet_plugin.evaluation.curves import average_precision, curve

NOTHING = np.zeros(0)


def test_nothing():
    for objects, recall in ((0, float('nan')), (3, 0.0)):
        made = curve(NOTHING, NOTHING.astype(bool), objects)
        assert len(made.scores) == len(made.precision) == len(made.recall) == len(made.f1) == 0
        assert made.best() is None
        point = made.at(0.5)
        assert (point.precision, point.recall, point.f1) == pytest.approx((float('nan'), recall, recall), nan_ok=True)


def test_boxes_of_a_class_without_objects():
    made = curve(np.array([0.9, 0.3]), np.array([False, False]), 0)
    assert made.precision.tolist() == [0, 0] and np.isnan(made.recall).all() and np.isnan(made.f1).all()
    assert made.best() is None


def test_no_correct_box():
    made = curve(np.array([0.9, 0.3]), np.array([False, False]), 2)
    assert made.f1.tolist() == [0, 0] and made.best() is None


def test_precision_recall_and_the_best_threshold():
    """By score: correct; correct and wrong at the same score; wrong; correct; 4 objects."""
    score = np.array([0.5, 0.9, 0.8, 0.8, 0.2])
    correct = np.array([False, True, False, True, True])
    made = curve(score, correct, 4)
    assert made.scores.tolist() == [0.9, 0.8, 0.5, 0.2]
    assert made.precision == pytest.approx([1, 2 / 3, 1 / 2, 3 / 5])
    assert made.recall == pytest.approx([1 / 4, 2 / 4, 2 / 4, 3 / 4])
    assert made.f1 == pytest.approx([2 / 5, 4 / 7, 1 / 2, 2 / 3])
    best = made.best()
    assert best == made.at(0.1) and (best.precision, best.recall) == (3 / 5, 3 / 4)
    assert made.at(0.2).precision == made.at(0.49).precision == 1 / 2  # exclusive, as in `rtmdet predict`
    assert made.at(0.19).precision == 3 / 5
    assert np.isnan(made.at(0.9).precision) and made.at(0.9).recall == made.at(0.9).f1 == 0


def test_the_threshold_is_a_short_number():
    for lower, expected in ((0.25, 0.3), (0.3449, 0.35), (0.3551, 0.3556), (0.3559999, 0.35599995)):
        made = curve(np.array([0.356, lower]), np.array([True, False]), 1)
        assert made.best().score_thr == expected


scores_and_marks = st.lists(st.tuples(st.sampled_from([0.001, 0.1, 0.1001, 0.5, 0.9, 1.0]), st.booleans()), max_size=12)


@given(scores_and_marks, st.integers(0, 5))
def test_a_point_counts_the_boxes_above_it(pairs, missed):
    score, correct = np.array([s for s, _ in pairs]), np.array([c for _, c in pairs], bool)
    objects = int(correct.sum()) + missed
    made = curve(score, correct, objects)
    points = [made.at(t) for t in (0, 0.0009, 0.001, 0.1, 0.3, 0.95, 1)]
    for point in points:
        above = score > point.score_thr
        found = int(correct[above].sum())
        assert point.precision == pytest.approx(found / above.sum() if above.any() else float('nan'), nan_ok=True)
        assert point.recall == pytest.approx(found / objects if objects else float('nan'), nan_ok=True)
    if made.best():
        assert made.best().f1 == made.f1.max() >= max(point.f1 for point in points)


def test_average_precision():
    """Precision 1 up to recall 0.25, then 2/3 up to 0.5, then 0.6 up to 0.75; 101 recalls."""
    found = average_precision(np.array([True, False, True, False, True]), 4)
    assert found == pytest.approx((26 * 1 + 25 * 2 / 3 + 25 * 0.6) / 101)
    assert average_precision(NOTHING.astype(bool), 2) == 0
    assert average_precision(np.array([True]), 1) == 1
