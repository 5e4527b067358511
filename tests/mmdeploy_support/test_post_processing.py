"""Top-k and NMS, computed by hand."""

import numpy as np
import pytest

from rtmdet_plugin.mmdeploy_support.post_processing import PostProcessing, postprocess

SETTINGS = dict(score_threshold=0.1, iou_threshold=0.5, pre_top_k=-1, max_output_boxes_per_class=10, keep_top_k=10)
BOXES = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [40, 40, 50, 50]], np.float32)
SCORES = np.array([[0.9, 0.0], [0.8, 0.7], [0.6, 0.0], [0.05, 0.3]], np.float32)


@pytest.mark.parametrize(
    ('change', 'expected'),  # scores and labels; box 0 suppresses box 1 in class 0
    [
        ({}, ([0.9, 0.7, 0.6, 0.3], [0, 1, 0, 1])),
        (dict(iou_threshold=0.9), ([0.9, 0.8, 0.7, 0.6, 0.3], [0, 0, 1, 0, 1])),
        (dict(score_threshold=0.65), ([0.9, 0.7], [0, 1])),
        (dict(pre_top_k=2), ([0.9, 0.7], [0, 1])),
        (dict(max_output_boxes_per_class=1), ([0.9, 0.7], [0, 1])),
        (dict(max_output_boxes_per_class=1, keep_top_k=2, iou_threshold=0.9), ([0.9, 0.7], [0, 1])),
        (dict(keep_top_k=3), ([0.9, 0.7, 0.6], [0, 1, 0])),
        (dict(score_threshold=0.95), ([], [])),
    ],
)
def test_postprocess(change, expected):
    boxes, scores, labels = postprocess(BOXES, SCORES, PostProcessing(**{**SETTINGS, **change}))
    assert scores.tolist() == pytest.approx(expected[0])
    assert labels.tolist() == expected[1]
    assert boxes.tolist() == [BOXES[np.argwhere(score == SCORES)[0, 0]].tolist() for score in scores]


def test_settings_are_complete_or_refused():
    with pytest.raises(KeyError, match='score_threshold'):
        PostProcessing.of(dict(codebase_config=dict(post_processing=dict(keep_top_k=3))))
