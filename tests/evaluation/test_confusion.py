"""Confusion matrix: hand-made cases; its diagonal and sums are those of the matches."""

import numpy as np
from detection_lists import arrays_of, random_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from rtmdet_plugin.evaluation.boxes import boxes_of
from rtmdet_plugin.evaluation.confusion import confusion_matrix
from rtmdet_plugin.evaluation.curves import curve
from rtmdet_plugin.evaluation.matching import match


def test_nothing():
    assert confusion_matrix(*arrays_of([], []), 3, 0.1).tolist() == np.zeros((4, 4)).tolist()
    missed = confusion_matrix(*arrays_of([(0, 'dog', (0, 0, 9, 9))], []), 3, 0.1)
    assert missed[1, 3] == missed.sum() == 1
    wrong = confusion_matrix(*arrays_of([], [(0, 'cow', (0, 0, 9, 9), 0.5)]), 3, 0.1)
    assert wrong[3, 2] == wrong.sum() == 1


def test_each_entry():
    objects = [
        (0, 'cat', (0, 0, 10, 10)),
        (0, 'dog', (20, 0, 10, 10)),
        (0, 'dog', (40, 0, 10, 10)),
        (1, 'cow', (0, 0, 10, 10)),
        (2, 'cow', (0, 0, 50, 50), True),
    ]
    detections = [
        (0, 'cat', (0, 0, 10, 6), 0.3),  # correct, although a dog has a larger IoU
        (0, 'dog', (0, 0, 10, 10), 0.9),  # background, because its object is found
        (0, 'cat', (20, 0, 10, 8), 0.9),  # a duplicate beside the next
        (0, 'cow', (20, 0, 10, 10), 0.4),  # a dog as a cow
        (0, 'dog', (40, 0, 10, 10), 0.2),  # below the threshold: its object is missed
        (0, 'dog', (40, 0, 10, 10), 0.1),
        (2, 'cow', (0, 0, 10, 10), 0.9),  # in a crowd
    ]
    matrix = confusion_matrix(*arrays_of(objects, detections), 3, 0.2)
    assert matrix.tolist() == [[1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [1, 1, 0, 0]]
    assert confusion_matrix(*arrays_of(objects, detections), 3, 0.19)[1].tolist() == [0, 1, 1, 0]
    strict = confusion_matrix(*arrays_of(objects, detections), 3, 0.2, iou_thr=0.9)
    assert strict.tolist() == [[0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1], [2, 0, 0, 0]]


@given(st.integers(0, 10**6), st.sampled_from([0, 0.2, 0.5, 0.8]))
@settings(max_examples=30, deadline=None)
def test_sums(seed, score_thr):
    truth, found = random_lists(seed, images=4)
    objects, detections = boxes_of(truth['annotations'], truth), boxes_of(found, truth)
    matrix = confusion_matrix(objects, detections, 3, score_thr)
    matches = match(objects, detections)
    above = detections.score > score_thr
    counted = detections.label[above & ~matches.ignored]
    assert matrix[:3].sum(1).tolist() == np.bincount(objects.label[~objects.crowd], minlength=3).tolist()
    assert matrix.sum(0)[:3].tolist() == np.bincount(counted, minlength=3).tolist()
    assert np.diag(matrix)[:3].tolist() == np.bincount(detections.label[above & matches.correct], minlength=3).tolist()
    assert matrix[3, 3] == 0
    count = int((~objects.crowd).sum())
    if count:
        kept = ~matches.ignored
        recall = curve(detections.score[kept], matches.correct[kept], count).at(score_thr).recall
        assert recall == np.trace(matrix) / count
