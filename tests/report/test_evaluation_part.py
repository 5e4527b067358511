"""The part of the page about detections: best and worst images, classes, kinds of errors, confusion matrix."""

import math

import cv2
import numpy as np
import pytest

from rtmdet_plugin.evaluation.curves import curve
from rtmdet_plugin.evaluation.evaluation import evaluate_detections
from rtmdet_plugin.report.evaluation_part import MAX_CLASSES, confusion_of, evaluation_part
from rtmdet_plugin.report.evaluation_plots import STEPS, drawn_points
from rtmdet_plugin.report.image_choice import best_images, entry_of, judge, worst_images


def box(image: int, left: float, score: float | None = None, label: int = 0, **others) -> dict:
    """An object, or a detection if it has a score."""
    entry = dict(image_id=image, category_id=7 + label, bbox=[left, 10, 20, 20], **others)
    return entry if score is None else dict(entry, score=score)


@pytest.fixture
def truth(tmp_path):
    """Four images: 40 has two objects, 30 one, 20 a crowd and an object, 10 none."""
    for i in (20, 30, 40):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((60, 100, 3), i, np.uint8))
    images = [dict(id=i, file_name=str(tmp_path / f'{i}.png'), width=100, height=60) for i in (40, 30, 20, 10)]
    annotations = [box(40, 0), box(40, 50), box(30, 0), box(20, 0, iscrowd=1), box(20, 50, label=1)]
    return dict(images=images, annotations=annotations, categories=[dict(id=7, name='cat'), dict(id=8, name='dog')])


FOUND = [
    box(40, 0, 0.9),
    box(40, 50, 0.5),
    box(30, 70, 0.7),  # wrong
    box(30, 0, 0.2),  # right, but below the best threshold
    box(20, 0, 0.9),  # in the crowd
    box(20, 50, 0.5, label=1),
    box(20, 50, 0.65),  # of the other class
    *(box(10, left, 0.25) for left in (0, 30, 60)),  # wrong, below the threshold
]


def test_images_are_ranked_by_f1_above_the_threshold(truth):
    evaluation = evaluate_detections(truth, FOUND)
    judged = judge(evaluation, 0.3)
    names = [entry_of(evaluation, image)['id'] for image in worst_images(judged, 9)]
    assert names == [30, 20]
    assert [entry_of(evaluation, image)['id'] for image in best_images(judged, 9)] == [40, 20]
    # In the order of the ids: without boxes, one of the other class, one missed and one wrong, all right.
    np.testing.assert_allclose(judged.f1, [math.nan, 2 / 3, 0, 1])
    assert judged.missed.tolist() == [False, False, True, False, False], 'the crowd is not missed'
    assert best_images(judge(evaluation, 0.1), 1) != worst_images(judge(evaluation, 0.1), 1)


def test_the_part_has_each_image_with_what_is_right_about_it(truth):
    part = evaluation_part(evaluate_detections(truth, FOUND), 'measured', dict(cat=5))
    assert [image.name for image in part.worst] == ['30.png', '20.png'] and [i.name for i in part.best] == ['40.png']
    (worst, other), (best,) = part.worst, part.best
    assert [drawn.kind for drawn in worst.objects] == ['missed']
    assert [(drawn.text, drawn.kind) for drawn in worst.predictions] == [('cat 0.70', 'wrong')]
    assert {(drawn.text, drawn.kind) for drawn in other.objects} == {('cat', 'ignored'), ('dog', 'right')}
    assert best.predictions[0][:4] == (0, 10, 20, 20) and best.data.startswith('data:image/jpeg;base64,')
    cat, dog = part.classes
    assert (cat.name, cat.train, cat.val, dog.train, dog.val) == ('cat', 5, 3, None, 1)
    assert (dog.ap, dog.point.recall) == (pytest.approx(1), 1)
    assert {kind.name: kind.count for kind in part.kinds}['confusion'] == 1
    assert 'score threshold: 0.' in part.advice and 'It finds no' not in part.advice


def test_masks(truth):
    """Objects with triangles; detections with the upper half of their boxes."""
    for entry in truth['annotations']:
        x, y, width, height = entry['bbox']
        entry['segmentation'] = [[x, y, x + width, y, x, y + height]]
    part = evaluation_part(evaluate_detections(truth, FOUND), '', {})
    assert not part.masks and part.classes[0].mask_ap is None and part.best[0].objects[0].mask == ''
    found = []
    for entry in FOUND:
        x, y, width, height = entry['bbox']
        found.append(dict(entry, segmentation=[[x, y, x + width, y, x + width, y + height / 2, x, y + height / 2]]))
    part = evaluation_part(evaluate_detections(truth, found, masks=True), '', {})
    assert part.masks and part.classes[0].mask_ap < part.classes[0].ap
    (drawn, _) = part.best[0].predictions
    points = np.array(drawn.mask.removeprefix('M').removesuffix('Z').split(), float).reshape(-1, 2)
    assert sorted(points.tolist()) == [[0, 10], [0, 20], [20, 10], [20, 20]]


def test_classes_that_the_threshold_never_finds_are_named(truth):
    cats = [box(40, 0, 0.9), box(40, 50, 0.9), box(30, 0, 0.9), *(box(10, left, 0.2) for left in (0, 30, 60))]
    part = evaluation_part(evaluate_detections(truth, [*cats, box(20, 50, 0.1, label=1)]), '', {})
    assert 'It finds no dog: ' in part.advice


def test_an_image_that_can_not_be_read_is_named(truth, tmp_path):
    (tmp_path / '30.png').write_bytes(b'no image')
    cv2.imwrite(str(tmp_path / '20.png'), np.zeros((9, 9, 3), np.uint8))
    worst = evaluation_part(evaluate_detections(truth, FOUND), '', {}).worst
    assert [image.data for image in worst] == [None, None]
    assert '30.png' in worst[0].problem and '100x60' in worst[1].problem


@pytest.mark.parametrize('objects', [0, 3])
def test_a_model_that_finds_nothing_has_a_part(objects, truth):
    truth['annotations'] = truth['annotations'][:objects]
    part = evaluation_part(evaluate_detections(truth, []), '', {})
    assert part.advice.startswith('No detection is correct') and part.plots == [] and part.best == []
    assert len(part.worst) == (2 if objects else 0)


def test_the_confusion_matrix_has_the_classes_with_the_most_errors():
    matrix = np.diag([9] * 30 + [0])
    matrix[29, 30], matrix[28, 29], matrix[30, 27] = 3, 2, 1
    shown = confusion_of(matrix, [f'class {i}' for i in range(30)])
    assert len(shown.names) == MAX_CLASSES and shown.names[-3:] == ['class 27', 'class 28', 'class 29']
    assert shown.omitted == 10
    name, cells = shown.rows[-2]
    assert name == 'class 29' and [cell.count for cell in cells[-2:]] == [9, 3] and cells[-2].right
    assert cells[-1].share == 0.25 and not cells[-1].right
    assert shown.rows[-1][0] == '(no object)' and len(shown.rows[-1][1]) == MAX_CLASSES


def test_the_drawn_points_follow_the_curve_although_most_scores_are_low():
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.uniform(0.5, 1, 50), rng.uniform(0, 0.02, 20_000)])
    found = curve(score, score > 0.6, 60)
    places = drawn_points(found)
    assert len(places) <= 2 * STEPS and places.max() == len(found.scores) - 1
    drawn = np.interp(-found.scores, -found.scores[places], found.precision[places])
    high = found.scores > 0.6
    np.testing.assert_allclose(drawn[high], found.precision[high], atol=1e-9)
    assert np.diff(found.scores[places]).min() > -0.5
