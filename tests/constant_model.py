"""Write an ONNX model of the export format decoded whose boxes and scores are constant; needs onnx, not PyTorch."""

from pathlib import Path

import numpy as np
import onnx
from model_info import INFO
from onnx import TensorProto, helper, numpy_helper


def write_constant_model(path: Path, boxes, scores, properties=None, batch='batch', size=INFO.input_size) -> Path:
    """Write the model and return its path.

    Args:
        path: file to write.
        boxes: xyxy in pixels of the input. (N, 4)
        scores: after the sigmoid. (N, C)
        properties: metadata; those of `INFO` by default.
        batch: batch size, or a name for a dynamic batch.
        size: (height, width) of the input in pixels, or two names for a dynamic size.
    """
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    # As many priors as the metadata's size and strides have; those after the given ones have scores of 0.
    missing = INFO.output_shapes['boxes'][0] - len(boxes)
    boxes, scores = (np.pad(values, ((0, missing), (0, 0))) for values in (boxes, scores))
    nodes, initializers = [], []
    for name, value in (('boxes', boxes), ('scores', scores)):
        # Add the mean of the input times zero, so that the output has the batch size of the input.
        initializers.append(numpy_helper.from_array(value[None], f'{name}_value'))
        nodes.append(helper.make_node('Add', [f'{name}_value', 'nothing'], [name]))
    initializers.append(numpy_helper.from_array(np.float32(0), 'zero'))
    initializers.append(numpy_helper.from_array(np.array([0, 1, 1]), 'shape'))
    before = [
        helper.make_node('ReduceMean', ['images'], ['mean'], axes=[1, 2, 3], keepdims=1),
        helper.make_node('Reshape', ['mean', 'shape'], ['flat']),
        helper.make_node('Mul', ['flat', 'zero'], ['nothing']),
    ]
    graph = helper.make_graph(
        before + nodes,
        'constant',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, [batch, 3, *size])],
        [
            helper.make_tensor_value_info('boxes', TensorProto.FLOAT, [batch, *boxes.shape]),
            helper.make_tensor_value_info('scores', TensorProto.FLOAT, [batch, *scores.shape]),
        ],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8)
    helper.set_model_props(model, INFO.to_properties() if properties is None else properties)
    onnx.save(model, path)
    return path
