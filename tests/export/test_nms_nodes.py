"""The nodes of NMS by themselves, on boxes made by hand."""

from dataclasses import replace

import model_info
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from rtmdet_plugin.export.nms_nodes import append_nms

INFO = replace(model_info.INFO, form='nms', iou_thr=0.7, max_per_img=4)


def nms(boxes, scores, info=INFO) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (B, N, 4) and scores (B, N, C) through the tail alone."""
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    inputs, outputs = (
        [helper.make_tensor_value_info(f'{prefix}{name}', TensorProto.FLOAT, ['batch', *value.shape[1:]])
         for name, value in (('boxes', boxes), ('scores', scores))]
        for prefix in ('given_', '')
    )  # fmt: skip
    nodes = [helper.make_node('Identity', [f'given_{name}'], [name]) for name in ('boxes', 'scores')]
    graph = helper.make_graph(nodes, 'tail', inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    append_nms(model, info)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return tuple(session.run(['dets', 'labels'], {'given_boxes': boxes, 'given_scores': scores}))


def test_by_hand():
    boxes = [[[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10]], [[0, 0, 5, 5], [1, 1, 9, 9], [2, 2, 8, 8]]]
    scores = [[[0.5, 0], [0.9, 0.8], [0, 0.2]], [[0, 0], [0, 0], [0.05, 0.3]]]
    dets, labels = nms(boxes, scores)
    # IoU 0.8 with the better one of its class; the other class stays; 0.05 is below the threshold
    assert labels.tolist() == [[0, 1, 1, -1], [1, -1, -1, -1]]
    np.testing.assert_allclose(dets[0], [[0, 0, 10, 8, 0.9], [0, 0, 10, 8, 0.8], [20, 0, 30, 10, 0.2], [0] * 5])
    np.testing.assert_allclose(dets[1], [[2, 2, 8, 8, 0.3], [0] * 5, [0] * 5, [0] * 5])


@pytest.mark.parametrize('empty', [[5, 5, 5, 9], [5, 5, 9, 5], [5, 5, 5, 5]])
def test_a_box_without_width_or_height_is_none(empty):
    _, labels = nms([[empty, [0, 0, 9, 9]]], [[[0.9, 0.9], [0.5, 0]]])
    assert labels.tolist() == [[0, -1, -1, -1]]


def test_the_best_of_an_image_over_all_classes():
    boxes = [[[20 * i, 0, 20 * i + 10, 10] for i in range(6)]]
    scores = [[[0.2, 0], [0, 0.9], [0.4, 0], [0, 0.3], [0.8, 0.15], [0.7, 0]]]
    dets, labels = nms(boxes, scores)
    np.testing.assert_allclose(dets[0, :, 4], [0.9, 0.8, 0.7, 0.4])
    assert labels[0].tolist() == [1, 0, 0, 0]
    assert nms(boxes, scores, replace(INFO, max_per_img=9))[1].tolist() == [[1, 0, 0, 0, 1, 0, 1, -1, -1]]


def test_nothing_at_all():
    dets, labels = nms([[[0, 0, 9, 9]]] * 2, [[[0.0, 0.0]]] * 2)
    assert (dets == 0).all() and (labels == -1).all() and dets.shape == (2, 4, 5)
