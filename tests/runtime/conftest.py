"""Small models that are ours, without PyTorch: constants in place of a network."""

import numpy as np
import pytest
from model_info import INFO

from rtmdet_runtime import ModelInfo

onnx = pytest.importorskip('onnx', reason='onnx is not installed')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402


@pytest.fixture
def info() -> ModelInfo:
    return INFO


@pytest.fixture
def constant_model(tmp_path):
    """A function that writes a model of the form decoded, whose boxes and scores are always the same.

    `properties` are its metadata, `batch` a number or a name.
    """

    def write(boxes, scores, properties=None, batch='batch', size=INFO.input_size):
        boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
        # As many priors as the metadata's size and strides make, those behind the given ones without a score.
        missing = INFO.output_shapes[0][0] - len(boxes)
        boxes, scores = (np.pad(values, ((0, missing), (0, 0))) for values in (boxes, scores))
        nodes, initializers = [], []
        for name, value in (('boxes', boxes), ('scores', scores)):
            # The sum of the input times zero, so that the output has the input's batch.
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
        path = tmp_path / 'model.onnx'
        onnx.save(model, path)
        return path

    return write
