"""Thresholds, decoding and NMS in numpy, against hand-made cases and mmcv's."""

import warnings

import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms

from rtmdet_runtime.postprocess import class_wise_nms, decode_maps, select_candidates

NOTHING = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


def crowd(count: int, classes: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 200, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 80, (count, 2))], axis=1).astype(np.float32)
    return boxes, rng.random(count, np.float32), rng.integers(0, classes, count)


class TestNMS:
    def test_nothing(self):
        assert [len(part) for part in class_wise_nms(NOTHING, 0.5, 100, 10)] == [0, 0, 0]

    def test_by_hand(self):
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 8], [20, 0, 30, 10], [5, 5, 5, 9]], np.float32)
        scores = np.array([0.5, 0.9, 0.8, 0.1, 1.0], np.float32)
        labels = np.array([0, 0, 1, 0, 0])
        kept_boxes, kept_scores, kept_labels = class_wise_nms((boxes, scores, labels), 0.7, 100, 10)
        # IoU 0.8 with the better one of its class; another class stays; a box without width is none
        assert kept_scores.tolist() == pytest.approx([0.9, 0.8, 0.1]) and kept_labels.tolist() == [0, 1, 0]
        assert kept_boxes.tolist() == boxes[[1, 2, 3]].tolist()
        assert len(class_wise_nms((boxes, scores, labels), 0.8, 100, 10)[0]) == 4, 'at the threshold it stays'

    @pytest.mark.parametrize(('count', 'classes'), [(50, 1), (700, 1), (3000, 3), (3000, 80)])
    def test_same_boxes_as_mmcv(self, count, classes):
        boxes, scores, labels = crowd(count, classes)
        _, keep = batched_nms(
            *(torch.from_numpy(part) for part in (boxes, scores, labels)), dict(type='nms', iou_threshold=0.6)
        )
        found = class_wise_nms((boxes, scores, labels), 0.6, count, count)
        np.testing.assert_array_equal(found[0], boxes[keep])
        np.testing.assert_array_equal(found[2], labels[keep])

    def test_the_first_ones_are_those_of_the_whole(self):
        candidates = crowd(3000, 2)
        whole = class_wise_nms(candidates, 0.6, 3000, 3000)
        for limit in (1, 7, 100, 256, 300):
            for part, first in zip(whole, class_wise_nms(candidates, 0.6, 3000, limit), strict=True):
                np.testing.assert_array_equal(part[:limit], first)

    def test_only_the_best_take_part(self):
        boxes, scores, labels = crowd(500, 1)
        best = np.argsort(-scores)[:100]
        expected = class_wise_nms((boxes[best], scores[best], labels[best]), 0.6, 500, 500)
        for part, found in zip(expected, class_wise_nms((boxes, scores, labels), 0.6, 100, 500), strict=True):
            np.testing.assert_array_equal(part, found)


@pytest.mark.parametrize('exp_on_reg', [False, True])
def test_maps_by_hand(exp_on_reg):
    logits = [np.full((2, 2, 3), -9, np.float32), np.full((2, 1, 2), -9, np.float32)]
    distances = [np.ones((4, 2, 3), np.float32), np.ones((4, 1, 2), np.float32)]
    logits[0][1, 1, 2] = 2.0  # class 1, at (16, 8)
    logits[1][0, 0, 1] = 0.0  # class 0, at (16, 0)
    distances[0][:, 1, 2] = 0.25, 0.5, 0.75, 1.0
    if exp_on_reg:
        distances = [np.log(level) for level in distances]
    boxes, scores, labels, priors = decode_maps(logits, distances, (8, 16), exp_on_reg, 0.4)
    # clipped to 24 x 16, the finest map times its stride
    np.testing.assert_allclose(boxes, [[14, 4, 22, 16], [0, 0, 24, 16]], rtol=1e-6)
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2)), 0.5], rtol=1e-6)
    assert labels.tolist() == [1, 0]
    assert priors.tolist() == [5, 6 + 1]


@pytest.mark.parametrize('score_thr', [0.0, 0.001, 0.3, 1.0])
def test_a_score_has_to_be_above_the_threshold(score_thr):
    rng = np.random.default_rng(0)
    logits = [rng.normal(0, 4, (3, 8, 8)).astype(np.float32)]
    scores = 1 / (1 + np.exp(-logits[0].reshape(3, -1).T))
    distances = [np.ones((4, 8, 8), np.float32)]
    raw = decode_maps(logits, distances, (8,), False, score_thr)
    decoded = select_candidates(np.zeros((64, 4), np.float32), scores, score_thr)
    assert len(raw[0]) == len(decoded[0]) == (scores > score_thr).sum()
    np.testing.assert_allclose(np.sort(raw[1]), np.sort(decoded[1]))
    assert sorted(raw[2]) == sorted(decoded[2])
    assert sorted(raw[3]) == sorted(decoded[3])


def test_logits_far_below_zero_are_silent():
    logits = [np.array([-1e4, -100, -80, 100, 1e4], np.float32).reshape(1, 1, 5)]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        _, scores, *_ = decode_maps(logits, [np.ones((4, 1, 5), np.float32)], (8,), False, 0)
    np.testing.assert_allclose(scores, [np.exp(-80), 1, 1], rtol=1e-6)  # 0 is not above the threshold 0
