"""INT8 by NNCF for OpenVINO."""

import pytest

pytest.importorskip('nncf', reason='nncf is not installed')
pytest.importorskip('openvino', reason='openvino is not installed')

import openvino as ov  # noqa: E402

from rtmdet_plugin.export.onnx_export import export_onnx  # noqa: E402
from rtmdet_plugin.quantization.nncf_int8 import quantize_openvino  # noqa: E402
from rtmdet_runtime import RTMDetector  # noqa: E402


def test_writes_an_int8_model_that_the_runtime_takes(shapes_model, shape_images, tmp_path):
    images = shape_images[:2]
    info = export_onnx(shapes_model, tmp_path / 'm.onnx', opset=17, score_thr=0.3)
    layers = quantize_openvino(tmp_path / 'm.onnx', tmp_path / 'q.xml', images, tolerance=1, threads=1)
    assert layers == {}
    detector = RTMDetector(tmp_path / 'q.xml', threads=1)
    assert detector.info == info
    assert b'FakeQuantize' in (tmp_path / 'q.xml').read_bytes()
    convs = [op for op in ov.Core().read_model(tmp_path / 'q.xml').get_ops() if 'Convolution' in op.get_type_name()]
    weights = [op.input_value(1).get_node().get_friendly_name() for op in convs]
    in_float = [name for name in weights if name.endswith('.weight')]
    assert len([name for name in in_float if 'rtm_' in name]) == 6, in_float  # the predictions stay in float
    assert len([name for name in weights if 'fq_weights' in name]) > 60
    assert (tmp_path / 'q.bin').stat().st_size < 0.5 * (tmp_path / 'm.onnx').stat().st_size
    assert len(detector.predict(images)) == 2
    with pytest.raises(ValueError, match='path must end in .xml'):
        quantize_openvino(tmp_path / 'm.onnx', tmp_path / 'q.onnx', images)
    with pytest.raises(ValueError, match='images must have at least one'):
        quantize_openvino(tmp_path / 'm.onnx', tmp_path / 'no.xml', [])
    export_onnx(shapes_model, tmp_path / 'trt.onnx', form='trt', opset=17)
    with pytest.raises(ValueError, match=r'trt\.onnx must have the export format .* got trt'):
        quantize_openvino(tmp_path / 'trt.onnx', tmp_path / 'no.xml', images)
    assert not (tmp_path / 'no.xml').exists()
