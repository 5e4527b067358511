"""Matching: hand-made cases, and pycocotools' own matches."""

import contextlib
import io

import numpy as np
import pytest
from detection_lists import arrays_of, found_of, random_lists, truth_of
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rtmdet_plugin.evaluation.boxes import boxes_of, pairwise_iou
from rtmdet_plugin.evaluation.matching import match


def test_nothing():
    for objects, detections in (([], []), ([(0, 'cat', (0, 0, 9, 9))], []), ([], [(0, 'cat', (0, 0, 9, 9), 0.5)])):
        matches = match(*arrays_of(objects, detections))
        assert matches.object_of.tolist() == [-1] * len(detections)
        assert matches.wrong.tolist() == [True] * len(detections)
        assert not matches.correct.any() and not matches.ignored.any() and not matches.found.any()
        assert len(matches.found) == len(objects)


def test_iou():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 10, 10], [20, 20, 0, 0]], float)
    found = pairwise_iou(boxes, boxes, np.array([False, True, False]))
    assert found == pytest.approx(np.array([[1, 0.5, 0], [1 / 3, 1, 0], [0, 0, 0]]))


def test_a_box_takes_the_nearest_object_that_is_left():
    objects = [
        (0, 'cat', (0, 0, 10, 10)),
        (0, 'cat', (0, 0, 10, 8)),
        (0, 'dog', (0, 0, 10, 10)),
        (1, 'cat', (0, 0, 9, 9)),
    ]
    matches = match(
        *arrays_of(
            objects,
            [
                (0, 'cat', (0, 0, 10, 10), 0.5),  # the better one took the first object
                (0, 'cat', (0, 0, 10, 9.5), 0.9),
                (0, 'cat', (0, 0, 10, 10), 0.4),  # nothing is left
                (1, 'dog', (0, 0, 9, 9), 0.8),  # another class
                (2, 'cat', (0, 0, 9, 9), 0.8),  # another image
            ],
        )
    )
    assert matches.object_of.tolist() == [1, 0, -1, -1, -1]
    assert matches.found.tolist() == [True, True, False, False]


def test_crowds_are_taken_last_and_again():
    objects = [(0, 'cat', (0, 0, 100, 100), True), (0, 'cat', (0, 0, 10, 10))]
    boxes = [(0, 'cat', (0, 0, 10, 10), 0.9), (0, 'cat', (0, 0, 10, 10), 0.8), (0, 'cat', (95, 0, 10, 10), 0.7)]
    matches = match(*arrays_of(objects, [*boxes, (0, 'cat', (96, 0, 10, 10), 0.6)]))
    assert matches.object_of.tolist() == [1, 0, 0, -1]
    assert matches.ignored.tolist() == [False, True, True, False]
    assert matches.correct.tolist() == [True, False, False, False]
    assert matches.found.tolist() == [False, True]


def test_unknown_images_and_categories():
    truth = truth_of()
    with pytest.raises(ValueError, match='image_id must be an id of the ground truth, got 9'):
        boxes_of(found_of((9, 'cat', (0, 0, 1, 1), 0.5)), truth)
    with pytest.raises(ValueError, match='category_id must be an id of the ground truth, got 3'):
        boxes_of([dict(image_id=0, category_id=3, bbox=[0, 0, 1, 1])], truth)


@pytest.mark.parametrize('iou_thr', [0.5, 0.75])
def test_the_matches_of_pycocotools(iou_thr):
    pairs = 0
    for seed in range(20):
        truth, found = random_lists(seed)
        matches = match(boxes_of(truth['annotations'], truth), boxes_of(found, truth), iou_thr)
        expected = matches_of_pycocotools(truth, found, iou_thr)
        assert dict(enumerate(zip(matches.object_of.tolist(), matches.ignored.tolist(), strict=True))) == expected
        pairs += int(matches.correct.sum())
    assert pairs > 100


def matches_of_pycocotools(truth: dict, found: list[dict], iou_thr: float) -> dict[int, tuple[int, bool]]:
    def coco(entries: list[dict]) -> COCO:
        made = COCO()
        sizes = [entry['bbox'][2] * entry['bbox'][3] for entry in entries]
        numbered = [
            dict(entry, id=i, area=area, iscrowd=entry.get('iscrowd', 0))
            for i, (entry, area) in enumerate(zip(entries, sizes, strict=True), 1)
        ]
        made.dataset = dict(truth, annotations=numbered)
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco(truth['annotations']), coco(found), 'bbox')
        evaluation.params.iouThrs, evaluation.params.maxDets = [iou_thr], [1000]
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.evaluate()
    result = {}
    for entry in filter(None, evaluation.evalImgs):
        for i, partner, ignored in zip(entry['dtIds'], entry['dtMatches'][0], entry['dtIgnore'][0], strict=True):
            result[i - 1] = (int(partner) - 1, bool(ignored))
    return result


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_lower_scores_change_nothing(seed, score_thr):
    truth, found = random_lists(seed, images=3)
    objects, detections = boxes_of(truth['annotations'], truth), boxes_of(found, truth)
    kept = detections.score > score_thr
    assert match(objects, detections[kept]).object_of.tolist() == match(objects, detections).object_of[kept].tolist()
