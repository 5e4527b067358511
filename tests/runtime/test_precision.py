"""The precision that a model computes in: what is asked of the backends, and what they say they run in."""

import numpy as np
import pytest

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.backends.onnxruntime import is_quantised

BOXES, SCORES = [[0, 0, 32, 32]], [[0.9, 0.0]]


@pytest.fixture
def openvino(monkeypatch):
    """A function that opens a model and returns the settings that OpenVINO got; its own choice can be replaced."""
    ov = pytest.importorskip('openvino', reason='openvino is not installed')

    def settings_of(path, precision: str, own_choice: str) -> dict:
        seen = []

        class Core(ov.Core):
            def get_property(self, *names):
                assert names == ('CPU', 'INFERENCE_PRECISION_HINT')
                return getattr(ov.Type, own_choice)

            def compile_model(self, model, device, settings):
                seen.append(settings)
                return super().compile_model(model, device, settings)

        with monkeypatch.context() as patch:
            patch.setattr('rtmdet_runtime.backends.openvino.ov.Core', Core)
            RTMDetector(path, backend='openvino', precision=precision)
        return seen[0]

    return settings_of


@pytest.mark.parametrize(
    ('precision', 'own_choice', 'hint'),
    [('auto', 'f32', None), ('auto', 'bf16', None), ('auto', 'f16', 'f32'), ('float32', 'bf16', 'f32')],
)
def test_auto_is_openvino_s_choice_between_float32_and_bfloat16(constant_model, openvino, precision, own_choice, hint):
    settings = openvino(constant_model(BOXES, SCORES), precision, own_choice)
    assert settings == dict(PERFORMANCE_HINT='LATENCY', **({'INFERENCE_PRECISION_HINT': hint} if hint else {}))


def test_openvino_says_what_it_runs_in(constant_model):
    ov = pytest.importorskip('openvino', reason='openvino is not installed')
    path = constant_model(BOXES, SCORES)
    names = dict(f32='float32', bf16='bfloat16', f16='float16')
    own = names[ov.Core().get_property('CPU', 'INFERENCE_PRECISION_HINT').to_string()]
    detector = RTMDetector(path, backend='openvino')
    assert detector.backend.precision == ('float32' if own == 'float16' else own)
    assert repr(detector) == f'RTMDetector({path}, OpenVINOBackend, {detector.backend.precision}, 64x96)'
    supported = ['float32']
    for precision in ('bfloat16', 'float16'):
        try:
            supported.append(RTMDetector(path, backend='openvino', precision=precision).backend.precision)
        except ValueError as error:
            assert str(error) == (  # noqa: PT017  which precisions there are depends on the CPU
                f'precision must be one that OpenVINO has on this CPU, got {precision}, for which it takes float32'
            )
    assert own in supported and supported == [name for name in names.values() if name in supported]


def test_a_precision_that_the_backend_does_not_have(constant_model):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    path = constant_model(BOXES, SCORES)
    for precision in ('auto', 'float32'):
        assert RTMDetector(path, precision=precision).backend.precision == 'float32'
    with pytest.raises(ValueError, match="precision must be one of auto, float32 for onnxruntime, got 'bfloat16'"):
        RTMDetector(path, precision='bfloat16')
    with pytest.raises(ValueError, match="precision must be one of auto, float32, bfloat16, .*openvino, got 'half'"):
        RTMDetector(path, backend='openvino', precision='half')


def test_nodes_that_round(constant_model):
    onnx = pytest.importorskip('onnx', reason='onnx is not installed')
    path = constant_model(BOXES, SCORES)
    assert not is_quantised(path)
    model = onnx.load(path)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.uint8(0), 'point'))
    rounding = [
        onnx.helper.make_node(f'{kind}Linear', [source, 'zero_scale', 'point'], [target])
        for kind, source, target in (('Quantize', 'images', 'rounded'), ('Dequantize', 'rounded', 'unused'))
    ]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), 'zero_scale'))
    model.graph.node.extend(rounding)
    onnx.save(model, path)
    assert is_quantised(path)
