"""Boxes and AP of trained weights on images of several sizes: every export format and backend against PyTorch."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from samples import ROOT, SHAPES_WEIGHTS, assert_same_ap

from rtmdet_plugin.checkpoints.load_model import load_model
from rtmdet_plugin.export.convert import to_ncnn, to_openvino
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.evaluation import evaluate, evaluate_checkpoint, use_thresholds
from rtmdet_runtime import RTMDetector

TORCHSCRIPT, DYNAMO = 17, 18  # opsets
NMS = dict(for_map=True, iou_thr=0.6)  # differs from the config's 0.65


@pytest.fixture(scope='module')
def models(shapes_model, tmp_path_factory):
    """Return a function that returns the file of a name, and exports it on first use."""
    folder = tmp_path_factory.mktemp('models')
    settings = {
        'raw': dict(form='raw'),
        'decoded': dict(form='decoded', dynamic='all'),
        'decoded_fixed': dict(form='decoded'),
        'decoded_dynamo': dict(form='decoded', opset=DYNAMO),
        'nms': dict(form='nms', dynamic='batch'),
    }

    def get(name: str, suffix: str = '.onnx'):
        source, path = folder / f'{name}.onnx', folder / f'{name}{suffix}'
        if not source.exists():
            export_onnx(shapes_model, source, **{'opset': TORCHSCRIPT, **NMS, **settings[name]})
        if not path.exists():
            {'.xml': to_openvino, '.param': to_ncnn}[suffix](source, path)
        return path

    return get


def open_detector(models, name, suffix='.onnx', backend=None, **settings):
    pytest.importorskip({'.onnx': backend or 'onnxruntime', '.xml': 'openvino', '.param': 'ncnn'}[suffix])
    if suffix == '.param':
        pytest.importorskip('pnnx')
    settings = dict(precision='float32', threads=1) | settings
    return RTMDetector(models(name, suffix), backend=backend, **settings)


@pytest.fixture(scope='module')
def pictures(shape_images):
    return shape_images[:8]


def as_rows(boxes, scores, labels) -> np.ndarray:
    """Return boxes in pixels with scaled scores and labels, so that one distance compares all: (N, 6)."""
    return np.concatenate([boxes, 1000 * scores[:, None], 1000 * labels[:, None]], axis=1)


@pytest.fixture(scope='module')
def expected(shapes_model, pictures):
    """PyTorch's boxes: mmdet's test pipeline, network and post-processing. One array for each image."""
    pipeline = [step for step in shapes_model.cfg.test_dataloader.dataset.pipeline if step.type != 'LoadAnnotations']
    prepare = Compose(pipeline)
    model = copy.deepcopy(shapes_model)  # other tests share it
    model.bbox_head.test_cfg = Config(
        dict(model.bbox_head.test_cfg, nms=dict(type='nms', iou_threshold=NMS['iou_thr']))
    )
    with torch.no_grad():
        samples = [
            model.test_step(pseudo_collate([prepare(dict(img_path=str(path), img_id=0))]))[0] for path in pictures
        ]
    return [
        as_rows(s.bboxes.numpy(), s.scores.numpy(), s.labels.numpy())
        for s in (sample.pred_instances for sample in samples)
    ]


def assert_same_boxes(found, expected, pixels: float = 0.05) -> None:
    """Compare as sets, because rounding can change the order of almost equal scores; NMS may drop 1 % of the boxes."""
    assert len(expected) > 20, 'too few boxes to compare'
    assert abs(len(found) - len(expected)) <= 1
    distance = np.abs(as_rows(found.boxes, found.scores, found.labels)[:, None] - expected).max(2)
    for nearest in (distance.min(0), distance.min(1)):
        assert (nearest > pixels).sum() <= max(1, 0.01 * len(expected))
    # a box with a score that a user sees must always be found
    assert distance.min(0)[expected[:, 4] > 50].max(initial=0) < pixels


@pytest.fixture(scope='module')
def nms_config(shapes_config) -> Config:
    return shapes_config({'model.test_cfg.nms.iou_threshold': NMS['iou_thr']})


@pytest.fixture(scope='module')
def expected_ap(nms_config, tmp_path_factory) -> dict[str, float]:
    """Metrics of the checkpoint, from mmengine's Runner."""
    metrics, _ = evaluate_checkpoint(nms_config, SHAPES_WEIGHTS, tmp_path_factory.mktemp('runner'))
    assert metrics['coco/bbox_mAP'] > 0.6, 'a detector that finds nothing tests nothing'
    return metrics


EACH = [
    ('raw', '.onnx', None),
    ('decoded', '.onnx', None),
    pytest.param('decoded_dynamo', '.onnx', None, marks=pytest.mark.slow),
    ('nms', '.onnx', None),
    ('decoded', '.onnx', 'openvino'),
    ('nms', '.xml', None),
    ('raw', '.param', None),
    ('decoded_fixed', '.param', None),
    pytest.param('decoded_dynamo', '.param', None, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(('name', 'suffix', 'backend'), EACH)
def test_boxes_are_pytorch_s(models, pictures, expected, name, suffix, backend):
    detector = open_detector(models, name, suffix, backend)
    for path, boxes in zip(pictures, expected, strict=True):
        assert_same_boxes(detector.predict(path), boxes)


@pytest.mark.parametrize(
    ('name', 'suffix', 'backend'),
    [('raw', '.onnx', None), ('decoded', '.onnx', None), ('nms', '.onnx', None), ('decoded', '.xml', None),
     ('raw', '.param', None)],
)  # fmt: skip
def test_ap_is_pytorch_s(models, nms_config, expected_ap, name, suffix, backend):
    detector = open_detector(models, name, suffix, backend)
    before = detector.info
    adapted = use_thresholds(detector, nms_config.model.test_cfg)
    assert_same_ap(evaluate(nms_config, adapted, batch_size=8), expected_ap)
    assert detector.info is before and adapted.backend is detector.backend


def in_bfloat16(path, **settings) -> RTMDetector:
    """Open a model in bfloat16, which OpenVINO emulates on CPUs with AVX512 that don't have it."""
    try:
        return RTMDetector(path, threads=1, precision='bfloat16', **settings)
    except (ImportError, ValueError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(('name', 'suffix', 'backend'), [('decoded', '.onnx', 'openvino'), ('raw', '.param', 'ncnn')])
def test_bfloat16_is_near_float32(models, pictures, name, suffix, backend):
    exact = open_detector(models, name, suffix, backend)
    rough = in_bfloat16(models(name, suffix), backend=backend)
    assert (exact.backend.precision, rough.backend.precision) == ('float32', 'bfloat16')
    inputs, _ = exact.preprocess(pictures[:1])
    pairs = list(zip(exact.backend(inputs), rough.backend(inputs), strict=True))
    assert all(np.abs(a - b).max() > 0 for a, b in pairs)  # exactly 0 would be float32
    assert all(np.abs(a - b).mean() < 0.02 * np.abs(a).mean() for a, b in pairs)


@pytest.mark.slow
def test_ap_of_the_person_weights(data_root, weights_root, monkeypatch, tmp_path):
    """The AP is 0.264 in each export format, as in PyTorch: see tests/test_parity_mmdet.py."""
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    config = Config.fromfile(ROOT / 'configs' / 'rtmdet_nano_person.py')
    config.model.test_cfg.nms.iou_threshold = NMS['iou_thr']
    model = load_model(config, weights_root / 'rtmdet_nano_person.pth')
    for form in ('raw', 'decoded', 'nms'):
        path = tmp_path / f'{form}.onnx'
        export_onnx(model, path, form=form, dynamic='batch', opset=TORCHSCRIPT, **NMS)
        metrics = evaluate(config, RTMDetector(path, threads=1), batch_size=8)
        assert metrics['coco/bbox_mAP'] == pytest.approx(0.264, abs=0.002), form
        assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.503, abs=0.002), form
    detector = in_bfloat16(tmp_path / 'decoded.onnx', backend='openvino')
    # AP on 50 images varies by as much if only the rounding differs; it was 0.268.
    assert evaluate(config, detector, batch_size=8)['coco/bbox_mAP'] == pytest.approx(0.264, abs=0.005)


@pytest.mark.parametrize(('name', 'backend'), [('decoded', None), ('nms', None), ('decoded', 'openvino')])
def test_a_batch_of_eight_equals_eight_images(models, pictures, name, backend):
    detector = open_detector(models, name, backend=backend)
    together = detector.predict(pictures, batch_size=8)
    for path, found in zip(pictures, together, strict=True):
        single = detector.predict(path)
        sure = single.scores > 0.05  # boxes with lower, almost equal scores can change their order
        np.testing.assert_allclose(found.scores, single.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes[sure], single.boxes[sure], atol=1e-2)
        np.testing.assert_array_equal(found.labels[sure], single.labels[sure])
    assert sum((found.scores > 0.05).sum() for found in together) > 10


@pytest.mark.parametrize(
    ('name', 'suffix', 'backend'),
    [('raw', '.onnx', None), ('decoded', '.onnx', 'openvino'), ('raw', '.param', None)],
)
def test_several_calls_at_a_time_give_the_boxes_of_one(models, pictures, name, suffix, backend):
    detector = open_detector(models, name, suffix, backend, threads=2)
    detector.streaming.open()
    expected = [detector.predict(path) for path in pictures]
    found = list(detector([*pictures] * 3))
    assert detector.streaming.streams == 2 and sum(map(len, expected)) > 5
    for one, other in zip(found, expected * 3, strict=True):
        assert one.source == other.source and one.names == other.names
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_sizes_on_one_model(models, pictures, shapes_model, backend):
    """The trained size, a larger one and a wide one: outputs equal PyTorch's for the same input."""
    for size in ((128, 128), (320, 320), (192, 256)):
        detector = open_detector(models, 'decoded', backend=backend, size=size)
        inputs, _ = detector.preprocess([pictures[0]])
        assert inputs.shape == (1, 3, *size)
        boxes, scores = detector.backend(inputs)
        with torch.no_grad():
            logits, distances = shapes_model(torch.from_numpy(inputs))
        expected_scores = torch.cat([level.flatten(2) for level in logits], 2).sigmoid()[0].T.numpy()
        np.testing.assert_allclose(scores[0], expected_scores, atol=1e-4)
        generator = shapes_model.bbox_head.prior_generator
        priors = torch.cat(generator.grid_priors([m.shape[-2:] for m in logits], device='cpu'))
        sides = torch.cat([level.flatten(2) for level in distances], 2)[0].T
        expected_boxes = shapes_model.bbox_head.bbox_coder.decode(priors, sides, max_shape=size).numpy()
        np.testing.assert_allclose(boxes[0], expected_boxes, atol=0.02)
        assert len(detector.predict(pictures[0])) > 10


def test_a_test_set_of_other_classes_is_refused(models, shapes_config):
    config = shapes_config({'test_dataloader.dataset.metainfo': dict(classes=('circle', 'cross'))})
    with pytest.raises(ValueError, match='the model must have the 2 classes of the test set, got 4'):
        evaluate(config, open_detector(models, 'raw'))
