"""`RTMDetector` on models without a network, and without PyTorch."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from model_info import INFO

from rtmdet_runtime import RTMDetector
from rtmdet_runtime.image import Placement

pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

BOXES = [[0, 0, 32, 32], [0, 0, 32, 30], [40, 10, 60, 20]]
SCORES = [[0.9, 0.0], [0.8, 0.05], [0.0, 0.5]]


def image(height: int = 128, width: int = 192) -> np.ndarray:
    return np.full((height, width, 3), 50, np.uint8)


def test_boxes_in_coordinates_of_the_image(constant_model):
    found = RTMDetector(constant_model(BOXES, SCORES)).predict(image())
    assert found.boxes.tolist() == [[0, 0, 64, 64], [80, 20, 120, 40]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.5]) and found.labels.tolist() == [0, 1]
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
    assert len(found.above(0.6)) == 1


def test_one_image_or_a_list(constant_model, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), image())
    detector = RTMDetector(constant_model(BOXES, SCORES))
    assert len(detector.predict(tmp_path / 'a.png')) == len(detector.predict(str(tmp_path / 'a.png'))) == 2
    several = detector.predict([tmp_path / 'a.png', image(64, 96), image(256, 384)], batch_size=2)
    assert [found.boxes[0, 2] for found in several] == [64, 32, 128]
    assert detector.predict([]) == []


@pytest.mark.parametrize('batch', [1, 4])
def test_a_fixed_batch_is_filled_up(constant_model, batch):
    detector = RTMDetector(constant_model(BOXES, SCORES, batch=batch))
    assert detector.backend.batch == batch
    assert [len(found) for found in detector.predict([image()] * 5, batch_size=3)] == [2] * 5


def test_thresholds_can_be_replaced(constant_model):
    path = constant_model(BOXES, SCORES)
    assert len(RTMDetector(path, score_thr=0.6).predict(image())) == 1
    assert len(RTMDetector(path, iou_thr=0.99).predict(image())) == 3
    assert len(RTMDetector(path, max_per_img=1).predict(image())) == 1
    assert len(RTMDetector(path, nms_pre=1).predict(image())) == 1


def test_a_loaded_backend_serves_several_detectors():
    class Loaded:
        batch = size = None

        def __init__(self, info):
            self.info = info

        def __call__(self, images):
            boxes, scores = np.zeros((len(images), 126, 4), np.float32), np.zeros((len(images), 126, 2), np.float32)
            boxes[:, :3], scores[:, :3] = BOXES, SCORES
            return [boxes, scores]

    backend = Loaded(INFO)
    all_found, best = RTMDetector(backend), RTMDetector(backend, score_thr=0.6)
    assert (len(all_found.predict(image())), len(best.predict(image()))) == (2, 1)
    assert (all_found.info.score_thr, best.info.score_thr) == (0.1, 0.6)
    for settings in (dict(backend='onnxruntime'), dict(threads=1), dict(precision='float32')):
        with pytest.raises(ValueError, match='model must be a file if .* got Loaded'):
            RTMDetector(backend, **settings)


def test_openvino_gives_the_same(constant_model):
    pytest.importorskip('openvino', reason='openvino is not installed')
    path = constant_model(BOXES, SCORES)
    ours, theirs = (
        RTMDetector(path, backend=backend, precision='float32').predict(image())
        for backend in ('onnxruntime', 'openvino')
    )
    assert ours.boxes.tolist() == theirs.boxes.tolist()


class TestRefusals:
    def said(self, kind=ValueError, *args, **settings) -> str:
        with pytest.raises(kind) as caught:
            RTMDetector(*args, **settings)
        assert '\n' not in str(caught.value)
        return str(caught.value)

    def test_files(self, constant_model, tmp_path):
        assert 'none.onnx: no such model' in self.said(FileNotFoundError, tmp_path / 'none.onnx')
        (tmp_path / 'm.pt').write_text('')
        assert 'model must end in one of .engine, .onnx, .param, .xml, got' in self.said(ValueError, tmp_path / 'm.pt')
        (tmp_path / 'bad.onnx').write_text('no')
        assert 'bad.onnx must be a model that ONNX Runtime can load' in self.said(ValueError, tmp_path / 'bad.onnx')
        message = self.said(ValueError, constant_model(BOXES, SCORES, properties={'author': 'somebody'}))
        assert "must be a model that `rtmdet export` wrote, got metadata without 'rtmdet.form'" in message

    def test_ncnn_s_files(self, tmp_path, info):
        pytest.importorskip('ncnn', reason='ncnn is not installed')
        (tmp_path / 'm.param').write_text('7767517\n')
        assert 'needs m.json in the same folder' in self.said(FileNotFoundError, tmp_path / 'm.param')
        (tmp_path / 'm.json').write_text(json.dumps(info.to_properties()))
        assert 'needs m.bin in the same folder' in self.said(FileNotFoundError, tmp_path / 'm.param')

    def test_openvino_s_files(self, tmp_path, constant_model):
        pytest.importorskip('openvino', reason='openvino is not installed')
        (tmp_path / 'bad.xml').write_text('<net/>')
        assert 'bad.xml must be a model that OpenVINO can load' in self.said(ValueError, tmp_path / 'bad.xml')
        path = constant_model(BOXES, SCORES, properties={})
        assert 'must be a model that `rtmdet export` wrote' in self.said(ValueError, path, backend='openvino')

    def test_backends(self, constant_model, monkeypatch):
        path = constant_model(BOXES, SCORES)
        assert "backend must be one of onnxruntime, openvino, ncnn, tensorrt, got 'tvm'" in self.said(
            ValueError, path, backend='tvm'
        )
        assert 'backend must be onnxruntime or openvino for' in self.said(ValueError, path, backend='ncnn')
        monkeypatch.setitem(sys.modules, 'onnxruntime', None)
        monkeypatch.delitem(sys.modules, 'rtmdet_runtime.backends.onnxruntime', raising=False)
        message = self.said(ImportError, path)
        assert 'needs onnxruntime, which is not installed: pip install ".[runtime]" in a checkout' in message

    def test_sizes(self, constant_model, info):
        path = constant_model(BOXES, SCORES)
        message = self.said(ValueError, path, size=(64, 64))
        assert 'size must be (64, 96), the fixed size of ' in message
        path = constant_model(BOXES, SCORES, size=('height', 'width'))
        said = 'size must be (height, width), multiples of 32 up to 16384, got'
        for size in ((64, 100), (64,), (64, 0), (-64, 64), (32768, 64)):
            assert self.said(ValueError, path, size=size).startswith(f'{said} {size}')
        assert 'size must be (height, width), got 64' in self.said(ValueError, path, size=64)
        assert RTMDetector(path, size=(96, 64)).info.input_size == (96, 64)
        for thresholds in (dict(score_thr=float('nan')), dict(iou_thr=1.5), dict(max_per_img=0)):
            (name,) = thresholds
            assert self.said(ValueError, path, **thresholds).startswith(f'{name} must be ')

    def test_thresholds_in_the_graph(self, constant_model, info):
        path = constant_model(BOXES, SCORES, properties={**info.to_properties(), 'rtmdet.form': '"nms"'})
        said = self.said(ValueError, path, score_thr=0.5, max_per_img=1)
        assert 'max_per_img can not be changed, because NMS is part of its graph' in said
        said = self.said(ValueError, path, score_thr=info.score_thr / 2)
        assert f'score_thr must be at least {info.score_thr}, that of the NMS in its graph' in said

    def test_batch_size(self, constant_model):
        with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
            RTMDetector(constant_model(BOXES, SCORES)).predict([image()], batch_size=0)


def test_no_torch_and_nothing_of_openmmlab(constant_model, tmp_path):
    """From the file to the boxes, with either of two backends; and the module of the command."""
    cv2.imwrite(str(tmp_path / 'a.png'), image())
    code = f"""
import sys
from rtmdet_runtime import RTMDetector
from rtmdet_cli.predict import command
for backend in ('onnxruntime', 'openvino'):
    try:
        detector = RTMDetector({str(constant_model(BOXES, SCORES))!r}, backend=backend)
    except ImportError:
        continue
    assert len(detector.predict({str(tmp_path / 'a.png')!r})) == 2
heavy = ('torch', 'mmdet', 'mmengine', 'mmcv', 'rtmdet_plugin', 'onnx')
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[]'


def test_metadata_of_another_network(constant_model, info):
    """Metadata edited by hand: errors that only the network's outputs reveal are raised at the first image."""
    for change, said in (
        (
            {'rtmdet.classes': '["cat"]'},
            r"scores of the network must have the shape \(126, 1\), got \(126, 2\); .*'decoded', 1 rtmdet.classes",
        ),
        ({'rtmdet.form': '"nms"'}, r'output dets of the network must have the shape \(any, 5\), got \(126, 4\)'),
        ({'rtmdet.strides': '[8, 16]'}, r'output boxes of the network must have the shape \(120, 4\), got \(126, 4\)'),
        (
            {'rtmdet.form': '"raw"'},
            "rtmdet.form and .*strides must be those of the network with its 2 outputs, got 'raw'",
        ),
    ):
        detector = RTMDetector(constant_model(BOXES, SCORES, properties={**info.to_properties(), **change}))
        with pytest.raises(ValueError, match=said) as caught:
            detector.predict(image())
        assert '\n' not in str(caught.value)


def test_a_label_without_a_name(constant_model, info):
    """The outputs of a graph with NMS don't show the number of classes."""
    detector = RTMDetector(constant_model(BOXES, SCORES, properties={**info.to_properties(), 'rtmdet.form': '"nms"'}))
    dets, labels = np.ones((2, 5), np.float32), np.array([1, -1])
    placement = Placement((1, 1), (64, 96))
    assert len(detector.postprocess([dets, labels], placement)) == 1
    with pytest.raises(ValueError, match='rtmdet.classes must have at least 3 names, .* label 2, got 2'):
        detector.postprocess([dets, labels + 1], placement)


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_a_network_that_gives_nan(constant_model, backend):
    pytest.importorskip(backend, reason=f'{backend} is not installed')
    scores = np.array(SCORES)
    scores[1, 1] = np.nan
    for name, outputs in (('scores', (BOXES, scores)), ('boxes', (np.full((3, 4), np.nan), SCORES))):
        with pytest.raises(ValueError, match=f'the output {name} of the network must be numbers, got NaN'):
            RTMDetector(constant_model(*outputs), backend=backend).predict(image())


def test_a_graph_of_another_size_than_its_metadata(constant_model):
    with pytest.raises(
        ValueError, match=r'model.onnx: metadata rtmdet.input_size must be \(32, 32\), .*, got \(64, 96\)'
    ):
        RTMDetector(constant_model(BOXES, SCORES, size=(32, 32)))


def test_what_onnx_runtime_does_not_run_is_one_line(constant_model):
    backend = RTMDetector(constant_model(BOXES, SCORES)).backend
    with pytest.raises(ValueError, match=r'model.onnx: ONNX Runtime fails on images of shape \(1, 3, 9, 9\)') as caught:
        backend(np.zeros((1, 3, 9, 9), np.float32))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('threads', [-3, 0, 1025])
def test_threads_out_of_range(constant_model, threads):
    with pytest.raises(ValueError, match=f'threads must be from 1 to 1024, got {threads}'):
        RTMDetector(constant_model(BOXES, SCORES), threads=threads)
