"""INT8 for TensorRT: what it asks of a graph, and the form `trt` up to its plugin."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from rtmdet_plugin.deploy.graph_parts import GraphLinks
from rtmdet_plugin.deploy.onnx_export import export_onnx
from rtmdet_plugin.deploy.quantize import FLOAT_PARTS, Calibration, quantize_onnx
from rtmdet_plugin.deploy.tails import cut_efficient_nms
from rtmdet_plugin.deploy.tensorrt import check_graph, prepare_graph
from rtmdet_runtime import RTMDetector


@pytest.fixture(scope='module')
def pictures(data_root) -> list[Path]:
    return sorted((data_root / 'coco_tiny' / 'train2017').iterdir())[:3]


def test_pairs_are_at_convolutions_alone(person_model, pictures, tmp_path):
    export_onnx(person_model, tmp_path / 'm.onnx', opset=17)
    calibration = Calibration(tmp_path / 'm.onnx', pictures[:1], threads=1)
    quantized = calibration.quantize(calibration.ranges('minmax'), FLOAT_PARTS, (), 'tensorrt')
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    links = GraphLinks(quantized.graph)
    pairs = [node for node in quantized.graph.node if node.op_type in ('QuantizeLinear', 'DequantizeLinear')]
    points = [values[node.input[2]] for node in pairs]
    assert points and all(point.dtype == np.int8 and not point.any() for point in points)
    for node in pairs:
        after = {reader.op_type for reader in links.following(node)}
        assert 'DequantizeLinear' in after if node.op_type == 'QuantizeLinear' else 'Conv' in after
    convs = [node for node in quantized.graph.node if node.op_type == 'Conv']
    int8 = [node for node in convs if node.input[1] in links.maker]
    assert len(int8) == len(convs) - 10  # attention and predictions
    for node in int8:  # biases and weights are stored in float
        quantize = links.maker[links.maker[node.input[1]].input[0]]
        assert values[node.input[2]].dtype == values[quantize.input[0]].dtype == np.float32
    kinds = {value.name: value.type.tensor_type.elem_type for value in quantized.graph.value_info}
    assert all(kinds[name] for node in quantized.graph.node for name in node.output if name in links.readers)


def test_form_trt_is_quantised_up_to_the_plugin(person_model, pictures, tmp_path):
    export_onnx(person_model, tmp_path / 'm.onnx', form='trt', opset=17, score_thr=0.3)
    layers = quantize_onnx(tmp_path / 'm.onnx', tmp_path / 'q.onnx', pictures, target='tensorrt', threads=1)
    source, quantized = onnx.load(tmp_path / 'm.onnx'), onnx.load(tmp_path / 'q.onnx')
    assert 30 < len(layers) < 90
    for part in ('output', 'input'):
        assert [*getattr(quantized.graph, part)] == [*getattr(source.graph, part)]
    assert [n for n in quantized.graph.node if n.domain] == [n for n in source.graph.node if n.domain]
    assert quantized.metadata_props == source.metadata_props
    check_graph(tmp_path / 'q.onnx', 'int8')

    # The rest of the chain: the graph that TensorRT gets, up to the plugin, beside the float model.
    onnx.save(cut_efficient_nms(source), tmp_path / 'float.onnx')
    onnx.save(cut_efficient_nms(prepare_graph(tmp_path / 'q.onnx', 'int8')), tmp_path / 'int8.onnx')
    expected, ours = (RTMDetector(tmp_path / f'{name}.onnx', threads=1) for name in ('float', 'int8'))
    assert expected.info.form == ours.info.form == 'decoded'
    inputs = np.concatenate([expected.preprocess([picture])[0] for picture in pictures])
    (boxes, scores), (our_boxes, our_scores) = (
        [np.concatenate(outputs) for outputs in zip(*(d.backend(x[None]) for x in inputs), strict=True)]
        for d in (expected, ours)
    )
    found = scores[..., 0] > 0.3
    assert found.sum() > 20
    assert 0 < np.abs(our_scores - scores)[found].mean() < 0.05
    assert 0 < np.median(np.abs(our_boxes - boxes)[found]) < 2  # pixels of 320
