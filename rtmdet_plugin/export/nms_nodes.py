"""Append NMS nodes to a graph of the export format `decoded`; remove TensorRT's NMS plugin, and add it again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from rtmdet_runtime import ModelInfo
from rtmdet_runtime.info import MASK_OUTPUTS, OUTPUTS

from .mask_nodes import append_mask_logits
from .node_writer import NodeWriter

BOXES, SCORES = OUTPUTS['decoded']


def _outputs(graph: onnx.GraphProto, outputs: list[tuple[str, int, list]]) -> None:
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs)


def append_nms(model: onnx.ModelProto, info: ModelInfo) -> None:
    """Replace the outputs `boxes` and `scores` with the best boxes of each image after ONNX's `NonMaxSuppression`.

    New outputs: `dets` (B, K, 5), xyxy in pixels of the input and the score, by descending score; `labels` (B, K),
    int64. K is `max_per_img`; if there are fewer boxes, the other rows have boxes and scores of 0 and labels of -1.
    Names and shapes are those of mmdeploy's models. With masks, there is also `mask_logits`, see `append_mask_logits`.
    """
    graph = model.graph
    dims = [[axis.dim_param or axis.dim_value for axis in v.type.tensor_type.shape.dim] for v in graph.output]
    batch, k = dims[0][0], info.max_per_img
    writer = NodeWriter(graph, 'nms')
    constant, node = writer.constant, writer.node

    zero, one = constant('zero', [0]), constant('one', [1])
    # Boxes without width or height are removed, as in mmdet: their scores become 0.
    left_top = node('Slice', BOXES, zero, constant('two', [2]), constant('axis', [2]))
    right_bottom = node('Slice', BOXES, 'nms/two', constant('four', [4]), 'nms/axis')
    positive = node('Greater', node('Sub', right_bottom, left_top), constant('float_zero', 0, np.float32))
    positive = node('Cast', positive, to=TensorProto.FLOAT)
    x = node('Slice', positive, zero, one, 'nms/axis')
    y = node('Slice', positive, one, 'nms/two', 'nms/axis')
    scores = node('Mul', node('Mul', SCORES, x), y)
    scores = node('Transpose', scores, perm=[0, 2, 1])  # (B, C, N)

    # Rows (image, class, prior) in an undefined order, up to K for each class of each image.
    selected = node(
        'NonMaxSuppression', BOXES, scores, constant('max_output', [k]),
        constant('iou_thr', [info.iou_thr], np.float32), constant('score_thr', [info.score_thr], np.float32),
    )  # fmt: skip
    own_scores = node('GatherND', scores, selected)  # (M,)
    own_boxes = node('GatherND', BOXES, node('Gather', selected, constant('image_and_prior', [0, 2]), axis=1))
    own_labels = node('Gather', selected, constant('class', 1), axis=1)
    image_of = node('Transpose', node('Gather', selected, zero, axis=1), perm=[1, 0])  # (1, M)

    # One row of scores per image, with -1 for boxes of other images, and K more times -1, so that TopK finds K.
    images = node('Slice', node('Shape', scores), zero, one)
    none = constant('none', -1, np.float32)
    rows = node('Range', constant('start', 0), node('Squeeze', images, zero), constant('step', 1))
    mine = node('Equal', image_of, node('Unsqueeze', rows, one))  # (B, M)
    filler = node('Expand', none, node('Concat', images, constant('k', [k]), axis=0))
    ranked = node('Concat', node('Where', mine, own_scores, none), filler, axis=1)  # (B, M + K)
    best, best_index = writer.several('TopK', 2, ranked, 'nms/k', axis=1)
    found = node('Greater', best, constant('half', -0.5, np.float32))  # (B, K)
    boxes = node('Concat', own_boxes, constant('no_boxes', np.zeros((k, 4)), np.float32), axis=0)
    labels = node('Concat', own_labels, constant('no_labels', np.full(k, -1)), axis=0)
    boxes = node('Gather', boxes, best_index)
    boxes = node('Concat', boxes, node('Unsqueeze', best, 'nms/axis'), axis=2)
    dets_name, labels_name = OUTPUTS['nms']
    node('Where', node('Unsqueeze', found, 'nms/axis'), boxes, 'nms/float_zero', out=dets_name)
    node('Where', found, node('Gather', labels, best_index), constant('no_label', -1), out=labels_name)
    outputs: list[tuple[str, int, list]]
    outputs = [(dets_name, TensorProto.FLOAT, [batch, k, 5]), (labels_name, TensorProto.INT64, [batch, k])]
    if info.mask_stride:
        own_priors = node('Gather', selected, constant('prior', 2), axis=1)
        priors = node('Concat', own_priors, constant('no_priors', np.zeros(k)), axis=0)
        append_mask_logits(writer, node('Gather', priors, best_index), found, k)
        outputs.append((MASK_OUTPUTS['nms'][0], TensorProto.FLOAT, [batch, k, *dims[-1][2:]]))
    _outputs(graph, outputs)


def efficient_nms_attributes(score_thr: float, iou_thr: float, max_per_img: int) -> dict:
    """Return the attributes of TensorRT's plugin `EfficientNMS_TRT`, version 1, for xyxy boxes and sigmoid scores.

    Source: https://github.com/NVIDIA/TensorRT/tree/main/plugin/efficientNMSPlugin
    """
    return dict(
        plugin_version='1',
        score_threshold=float(score_thr),
        iou_threshold=float(iou_thr),
        max_output_boxes=max_per_img,
        background_class=-1,
        score_activation=0,
        class_agnostic=0,
        box_coding=0,
    )


def append_efficient_nms(model: onnx.ModelProto, info: ModelInfo) -> None:
    """Replace the outputs `boxes` and `scores` with those of TensorRT's plugin `EfficientNMS_TRT`.

    New outputs: `num_dets` (B, 1), int32; `det_boxes` (B, K, 4), xyxy in pixels of the input; `det_scores` (B, K);
    `det_classes` (B, K), int32. K is `max_per_img`; only the first `num_dets` of each image are valid. The
    plugin takes the 4,096 best candidates of an image.

    TensorRT finds the plugin by its name. The domain `TRT` prevents that ONNX's checker takes it for an ONNX operator.
    """
    graph = model.graph
    batch = graph.output[0].type.tensor_type.shape.dim[0]
    batch = batch.dim_param or batch.dim_value
    k = info.max_per_img
    kinds = (TensorProto.INT32, TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT32)
    shapes = ([batch, 1], [batch, k, 4], [batch, k], [batch, k])
    graph.node.append(
        helper.make_node(
            'EfficientNMS_TRT',
            OUTPUTS['decoded'],
            OUTPUTS['trt'],
            'efficient_nms',
            domain='TRT',
            **efficient_nms_attributes(info.score_thr, info.iou_thr, k),
        )
    )
    model.opset_import.append(helper.make_opsetid('TRT', 1))
    _outputs(graph, list(zip(OUTPUTS['trt'], kinds, shapes, strict=True)))


def cut_efficient_nms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a `trt` model without its plugin: the export format `decoded`, which ONNX Runtime can run."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    plugin = _efficient_nms(cut)
    kinds = {value.name: value for value in cut.graph.value_info}
    del cut.graph.output[:]
    cut.graph.output.extend(kinds[name] for name in plugin.input)
    cut.graph.node.remove(plugin)
    cut.opset_import.remove(next(opset for opset in cut.opset_import if opset.domain == 'TRT'))
    properties = {entry.key: entry.value for entry in cut.metadata_props}
    info = replace(ModelInfo.from_properties(properties, 'the model'), form='decoded')
    helper.set_model_props(cut, properties | info.to_properties())
    return cut


def paste_efficient_nms(model: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Append the plugin and the outputs of `source` to a model that was made from `cut_efficient_nms(source)`."""
    model.graph.node.append(_efficient_nms(source))
    model.opset_import.append(helper.make_opsetid('TRT', 1))
    del model.graph.output[:]
    model.graph.output.extend(source.graph.output)


def _efficient_nms(model: onnx.ModelProto) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == 'EfficientNMS_TRT')
