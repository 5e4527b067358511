"""The TensorRT backend on stand-ins for `tensorrt` and CUDA; tests/tensorrt/test_on_gpu.py has the real ones."""

import gc
import json
import sys

import fake_tensorrt
import numpy as np
import pytest

from rtmdet_runtime import RTMDetector

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

BOXES = [[0, 0, 32, 32], [0, 0, 32, 30], [40, 10, 60, 20]]
SCORES = [[0.9, 0.0], [0.8, 0.05], [0.0, 0.5]]
PRIORS = 126  # of 64 x 96 pixels
PROFILE = [(1, 3, 64, 96), (2, 3, 64, 96), (4, 3, 64, 96)]


def image(height: int = 128, width: int = 192) -> np.ndarray:
    return np.full((height, width, 3), 50, np.uint8)


@pytest.fixture
def fake(monkeypatch):
    """The stand-ins for `tensorrt` and `cuda.bindings.runtime`."""
    return fake_tensorrt.install(monkeypatch)


@pytest.fixture
def engine(constant_model, info, tmp_path):
    """Return a function that writes an engine of the export format decoded, and its metadata file."""

    def write(profile=None, version=fake_tensorrt.VERSION, **settings):
        graph = constant_model(BOXES, SCORES, **{'batch': 'batch' if profile else 1, **settings})
        path = tmp_path / 'm.engine'
        path.write_bytes(fake_tensorrt.serialize(graph.read_bytes(), profile, version))
        (tmp_path / 'm.engine.json').write_text(json.dumps(info.to_properties()))
        return path

    return write


def test_boxes_are_those_of_onnxruntime(engine, constant_model, fake):
    expected = RTMDetector(constant_model(BOXES, SCORES)).predict([image(), image(64, 96)])
    for profile in (None, PROFILE):
        detector = RTMDetector(engine(profile))
        assert detector.backend.batch == (None if profile else 1) and detector.backend.size == (64, 96)
        for ours, theirs in zip(detector.predict([image(), image(64, 96)], batch_size=2), expected, strict=True):
            assert ours.boxes.tolist() == theirs.boxes.tolist() and len(ours) == 2
            assert ours.scores.tolist() == theirs.scores.tolist() and ours.labels.tolist() == theirs.labels.tolist()


def test_a_profile_of_one_batch_is_filled_up(engine, fake):
    detector = RTMDetector(engine([PROFILE[2]] * 3))
    assert detector.backend.batch == 4
    assert [len(found) for found in detector.predict([image()] * 5)] == [2] * 5


def test_what_lies_outside_the_profile_names_it(engine, fake):
    detector = RTMDetector(engine(PROFILE))
    for batch in (4, 1, 2):
        outputs = detector.backend(np.zeros((batch, 3, 64, 96), np.float32))
        assert [output.shape for output in outputs] == [(batch, PRIORS, 4), (batch, PRIORS, 2)]
    said = r'm.engine: .* must be from \(1, 3, 64, 96\) to \(4, 3, 64, 96\), .* got \(5, 3, 64, 96\)'
    with pytest.raises(ValueError, match=said):
        detector.predict([image()] * 5, batch_size=5)
    sizes = [(1, 3, 64, 64), (1, 3, 64, 96), (1, 3, 96, 128)]
    path = engine(sizes, size=('height', 'width'))
    outputs = RTMDetector(path, size=(96, 96)).backend(np.zeros((1, 3, 96, 96), np.float32))
    assert outputs[0].shape == (1, PRIORS, 4)
    with pytest.raises(ValueError, match=r'from \(1, 3, 64, 64\) to \(1, 3, 96, 128\), .* got \(1, 3, 128, 128\)'):
        RTMDetector(path, size=(128, 128)).predict(image())
    with pytest.raises(ValueError, match=r'size must be \(64, 96\), the fixed size of .*, got \(64, 64\)'):
        RTMDetector(engine(), size=(64, 64))


def test_a_shape_that_tensorrt_does_not_take(engine, fake, monkeypatch):
    detector = RTMDetector(engine(PROFILE))
    monkeypatch.setattr(fake_tensorrt.Engine, 'set_input_shape', lambda *args: False)
    with pytest.raises(RuntimeError, match=r'm.engine: TensorRT does not accept the shape \(1, 3, 64, 96\)'):
        detector.predict(image())
    assert 'TensorRT does not accept the shape (4, 3, 64, 96)' in refusal(engine(PROFILE), RuntimeError)


def test_memory_is_given_back(engine, fake):
    _, cuda = fake
    detector = RTMDetector(engine(PROFILE))
    floats = [len(content) // 4 for content in cuda.memory.values()]
    assert sorted(floats) == [4 * PRIORS * 2, 4 * PRIORS * 4, 4 * 3 * 64 * 96]  # of the largest batch
    del detector
    gc.collect()
    assert not cuda.memory and not cuda.queues


def refusal(path, kind=ValueError) -> str:
    with pytest.raises(kind) as caught:
        RTMDetector(path)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_an_engine_without_its_metadata(engine, fake):
    path = engine()
    properties = path.with_name('m.engine.json')
    properties.write_text('{')
    assert 'm.engine.json must be JSON' in refusal(path)
    properties.write_text('{}')
    assert 'm.engine.json must be a model that `rtmdet export` wrote' in refusal(path)
    properties.unlink()
    assert 'm.engine needs m.engine.json in the same folder' in refusal(path, FileNotFoundError)


def test_an_engine_of_another_version(engine, fake):
    said = refusal(engine(version='10.0'))
    assert 'm.engine must be an engine for this GPU and TensorRT 11.0, got one that does not load' in said


def test_metadata_of_another_model(engine, info, fake):
    path = engine()
    other = {**info.to_properties(), 'rtmdet.form': '"trt"'}
    path.with_name('m.engine.json').write_text(json.dumps(other))
    said = refusal(path)
    assert 'inputs and outputs must be images, num_dets, det_boxes' in said
    assert 'those of the export format trt in m.engine.json, got scores, boxes, images' in said


def test_no_gpu(engine, fake):
    fake[1].device = False
    assert 'CUDA: no CUDA-capable device is detected' in refusal(engine(), RuntimeError)


@pytest.mark.parametrize(('missing', 'package'), [('tensorrt', 'tensorrt'), ('cuda', 'cuda-bindings')])
def test_packages(engine, fake, monkeypatch, missing, package):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, 'cuda.bindings')
    said = refusal(engine(), ImportError)
    assert f'm.engine needs {package}, which is not installed: pip install ".[tensorrt]" in a checkout' in said
