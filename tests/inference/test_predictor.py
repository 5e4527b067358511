"""`RTMDetPredictor`: the boxes of the exported model, from PyTorch."""

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from samples import SHAPES_CONFIG, SHAPES_WEIGHTS

from rtmdet_plugin import RTMDetPredictor
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.predictor import TorchBackend, check_settings, cpu_has_bfloat16
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.choices import DEPLOY_THRESHOLDS


@pytest.fixture(scope='module')
def pictures(shape_images):
    return shape_images[:3]


def test_same_boxes_as_the_exported_model(shapes_model, pictures, tmp_path):
    export_onnx(shapes_model, tmp_path / 'm.onnx', form='raw', opset=17, score_thr=0.1)
    expected = RTMDetector(tmp_path / 'm.onnx').predict(pictures)
    found = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, score_thr=0.1).predict(pictures, batch_size=2)
    assert sum(map(len, expected)) > 5
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-2)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_it_is_a_detector_on_another_backend(pictures):
    predictor = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS)
    assert type(predictor) is RTMDetector and isinstance(predictor.backend, TorchBackend)
    fewer = RTMDetector(predictor.backend, max_per_img=1)
    assert (len(fewer.predict(pictures[0])), predictor.info.max_per_img) == (1, DEPLOY_THRESHOLDS['max_per_img'])


def test_thresholds_are_those_for_use_unless_asked_for_map():
    ours = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS).info
    assert (ours.score_thr, ours.max_per_img) == (DEPLOY_THRESHOLDS['score_thr'], DEPLOY_THRESHOLDS['max_per_img'])
    assert RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, for_map=True).info.score_thr == 0.001


def test_several_calls_at_a_time(pictures):
    """They give the outputs of one call; afterwards, PyTorch has its number of threads again."""
    detector = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, threads=2)
    before = torch.get_num_threads()
    inputs = [detector.preprocess([path])[0] for path in pictures]
    expected = [detector.backend(images) for images in inputs]
    torch.set_num_threads(before)
    streaming = detector.streaming.open()
    with ThreadPoolExecutor(2) as calls:
        found = list(calls.map(streaming, inputs * 3))
        assert calls.submit(torch.get_num_threads).result() == 1
    with ThreadPoolExecutor(1) as others:
        assert others.submit(torch.get_num_threads).result() == before
    assert torch.get_num_threads() == before
    assert detector.streaming.streams == 2 and streaming.network is detector.backend.network
    for outputs, wanted in zip(found, expected * 3, strict=True):
        for output, value in zip(outputs, wanted, strict=True):
            np.testing.assert_allclose(output, value, rtol=1e-4, atol=1e-4)
    assert TorchBackend(torch.nn.Identity(), None, 'float32', False, False, 'meta', 8).streams == 1, 'not the CPU'


@pytest.mark.skipif(not cpu_has_bfloat16(), reason='this CPU has no bfloat16')
def test_bfloat16_is_near_float32(pictures):
    exact = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS)
    rough = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, precision='bfloat16')
    inputs, _ = exact.preprocess(pictures)
    logits = (np.concatenate([maps.ravel() for maps in p.backend(inputs)[:3]]) for p in (exact, rough))
    a, b = (1 / (1 + np.exp(-values)) for values in logits)
    assert 0 < np.abs(a - b).max() < 0.15  # exactly 0 would be float32
    assert np.abs(a - b).mean() < 5e-3


def test_size_and_thresholds_are_the_callers(pictures):
    predictor = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, size=(192, 256), score_thr=0.2, max_per_img=2)
    assert predictor.preprocess(pictures[:1])[0].shape == (1, 3, 192, 256)
    found = predictor.predict(pictures[0])
    assert len(found) <= 2 and (found.scores > 0.2).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(precision='int8'), 'precision must be one of float32, .* got .int8.'),
        (dict(precision='float16'), 'precision must be float32 or bfloat16 .* got float16'),
        (dict(cuda_graphs=True), 'must be a CUDA device for cuda_graphs=True, got .cpu.'),
        (dict(size=(100, 320)), 'multiples of 32'),
    ],
)
def test_invalid_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, **arguments)


@pytest.mark.parametrize(
    ('count', 'accepted', 'refused'),
    [
        (0, ['cpu'], ['cuda', 'cuda:0']),
        (2, ['cpu', 'cuda', 'cuda:0', 'cuda:1'], ['cuda:2', 'cuda:99']),
    ],
)
def test_unavailable_devices(monkeypatch, count, accepted, refused):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    for device in accepted:
        check_settings(device, 'float32', False)
    seen = '' if count else '; PyTorch sees no CUDA device'
    for device in (*refused, 'zzz', 'mps', 'meta', 'cuda:-1', ''):
        with pytest.raises(ValueError) as caught:
            check_settings(device, 'float32', False)
        assert str(caught.value) == f'device must be one of {", ".join(accepted)}, got {device!r}{seen}'


def test_cuda_graphs_are_recorded_on_their_own_device(monkeypatch):
    """With two fake devices: kernels are launched on the current device's stream, and recorded on the same one."""
    devices, streams, launched = [0], [], []

    @contextlib.contextmanager
    def on_device(device):
        assert device == torch.device('cpu')  # stands for cuda:1
        devices.append(1)
        yield
        devices.pop()

    @contextlib.contextmanager
    def on_stream(stream):
        streams.append(stream)
        yield
        streams.pop()

    def network(inputs):
        launched.append((devices[-1], streams[-1].device))
        return (inputs,)

    monkeypatch.setattr(torch.cuda, 'device', on_device)
    monkeypatch.setattr(torch.cuda, 'stream', on_stream)
    first = SimpleNamespace(device=0)  # PyTorch's own stream for recordings, on the first device that recorded
    monkeypatch.setattr(torch.cuda, 'graph', lambda graph, stream=first: on_stream(stream))
    monkeypatch.setattr(torch.cuda, 'CUDAGraph', lambda: SimpleNamespace(replay=lambda: None))
    stand_in = lambda device=None: SimpleNamespace(device=devices[-1], wait_stream=lambda stream: None)  # noqa: E731
    monkeypatch.setattr(torch.cuda, 'Stream', stand_in)
    monkeypatch.setattr(torch.cuda, 'current_stream', stand_in)
    backend = TorchBackend(torch.nn.Identity(), None, 'float32', False, True, 'cpu')
    backend.network = network
    backend(np.zeros((1, 3, 32, 32), np.float32))
    assert launched == [(1, 1)] * 4


@pytest.mark.gpu
def test_cuda_graphs_replay_what_they_recorded(pictures):
    plain = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, score_thr=0.3, device='cuda')
    graphs = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, score_thr=0.3, device='cuda', cuda_graphs=True)
    for picture in pictures:  # the first records
        np.testing.assert_allclose(graphs.predict(picture).boxes, plain.predict(picture).boxes, atol=0.1)


@pytest.mark.slow
def test_compiled_network_gives_the_same(pictures):
    plain = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, score_thr=0.1).predict(pictures)
    compiled = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS, score_thr=0.1, compile=True).predict(pictures)
    assert sum(map(len, plain)) > 5
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-2)


def test_the_detector_opens_a_checkpoint(pictures, shapes_model, shapes_config, tmp_path, monkeypatch):
    """With its config inside, or given; the boxes are those of `RTMDetPredictor`."""
    meta = dict(dataset_meta=shapes_model.dataset_meta, cfg=shapes_config().pretty_text)
    torch.save(dict(state_dict=shapes_model.state_dict(), meta=meta), tmp_path / 'a.pth')
    expected = RTMDetPredictor(SHAPES_CONFIG, SHAPES_WEIGHTS).predict(pictures[0])
    assert len(expected) > 0
    for detector in (
        RTMDetector(tmp_path / 'a.pth', device='cpu'),
        RTMDetector(str(SHAPES_WEIGHTS), config=SHAPES_CONFIG, device='cpu'),
    ):
        found = detector(pictures[0])
        np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-3)
        assert found.names == expected.names and found.image is not None
    find = lambda size, _: tmp_path / f'{size}.pth'  # noqa: E731
    monkeypatch.setattr('rtmdet_plugin.inference.predictor.published_weights', find)
    (tmp_path / 'a.pth').rename(tmp_path / 's.pth')
    assert len(RTMDetector('rtmdet_s', device='cpu')(pictures[0])) == len(expected)


def test_settings_that_do_not_fit_a_checkpoint(monkeypatch):
    for settings, said in (
        (dict(backend='openvino'), 'backend must be None for .*, which PyTorch runs'),
        (dict(device='cuda:7'), "device must be one of cpu.*, got 'cuda:7'"),
        (dict(precision='int8', device='cpu'), 'precision must be one of float32'),
    ):
        with pytest.raises(ValueError, match=said):
            RTMDetector(SHAPES_WEIGHTS, config=SHAPES_CONFIG, **settings)
    monkeypatch.setitem(sys.modules, 'rtmdet_plugin.inference.predictor', None)
    with pytest.raises(ImportError, match=r'needs rtmdet_plugin, .* pip install ".\[lite\]"'):
        RTMDetector(SHAPES_WEIGHTS, config=SHAPES_CONFIG)
