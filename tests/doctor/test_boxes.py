"""Checks of boxes, on small arrays."""

import numpy as np
import pytest

from rtmdet_plugin.doctor.boxes import check_boxes, doubled_boxes, pair_iou, past_border
from rtmdet_plugin.doctor.objects import Objects


def objects(boxes, labels=None, images=None, size=(100, 50)) -> Objects:
    count = len(boxes)
    places = np.zeros(count, int) if images is None else np.array(images)
    files = [f'{i}.jpg' for i in range(places.max(initial=0) + 1)]
    return Objects(
        'train',
        ('cat', 'dog'),
        files,
        np.array([size] * len(files), float),
        np.ones(len(files), bool),
        np.array(boxes, float).reshape(-1, 4),
        places,
        np.zeros(count, int) if labels is None else np.array(labels),
        np.arange(10, 10 + count),
        [None] * count,
        True,
        [],
    )


def test_doubled_boxes_are_those_of_a_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (120, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (120, 2))], axis=1)
    copies = boxes[rng.integers(0, 120, 80)] + rng.uniform(-0.4, 0.4, (80, 4))
    boxes = np.concatenate([boxes, copies])
    images, labels = rng.integers(0, 3, 200), rng.integers(0, 2, 200)
    first, second = np.triu_indices(200, 1)
    same = (pair_iou(boxes[first], boxes[second]) > 0.95) & (images[first] == images[second])
    expected = np.unique(second[same & (labels[first] == labels[second])])
    assert 5 < len(expected) < 80
    np.testing.assert_array_equal(doubled_boxes(boxes, images, labels), expected)


def test_iou():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 0, 0]], float)
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 0, 30, 10], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(pair_iou(boxes, others), [1, 1 / 3, 0, 0])


def test_boxes_past_the_border_by_more_than_rounding():
    boxes = np.array([[-1, 0, 101, 51], [-1.1, 0, 9, 9], [0, 0, 9, 51.1], [0, -1.1, 9, 9], [0, 0, 101.1, 9]])
    assert past_border(boxes, np.array([[100, 50]] * 5)).tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ('boxes', 'kind', 'severity', 'text'),
    [
        ([[0, 0, 20, 20], [30, 10, 31.9, 20]], 'tiny boxes', 'warning', '1 of 2 boxes are less than 2 px'),
        ([[0, 0, 20, 20], [0, 0, 99, 49]], 'huge boxes', 'note', '1 of 2 boxes cover more than 95%'),
        ([[0, 0, 20, 20], [0, 0, 20, 20]], 'doubled boxes', 'warning', '1 of 2 boxes have an IoU above 0.95'),
        ([[0, 0, 20, 20], [80, 0, 120, 20]], 'boxes past the border', 'warning', '1 of 2 boxes extend past their'),
        ([[0, 0, 20, 20], [20, 20, 23, 30]], 'small objects', 'warning', '50% of 2 are narrower'),
        ([[1, 2, 99, 9]], 'aspect ratios', 'warning', '100% of 1 are over 10 times as long as wide'),
    ],
)
def test_each_finding_names_its_boxes(boxes, kind, severity, text):
    (found,) = (found for found in check_boxes(objects(boxes), input_size=200) if found.kind == kind)
    assert found.severity == severity and text in found.text
    if found.items:
        x1, y1, x2, y2 = boxes[-1]
        item = found.items[0]
        assert len(found.items) == 1 and item.file == '0.jpg' and item.box == tuple(boxes[-1]) and item.annotation == 11
        assert item.text == f'annotation 11, cat, {x2 - x1:.4g} x {y2 - y1:.4g} px at ({x1:.4g}, {y1:.4g})'


def test_usual_boxes_and_none_are_no_finding():
    assert list(check_boxes(objects([[0, 0, 20, 20], [0, 0, 20, 20]], labels=[0, 1]), 200)) == []
    assert list(check_boxes(objects([[0, 0, 20, 20], [0, 0, 20, 20]], images=[0, 1]), 200)) == []
    assert list(check_boxes(objects([]), 200)) == []
