"""The published person weights on real pictures: every form and backend against PyTorch, boxes and AP."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate

from rtmdet_plugin.export.convert import to_ncnn, to_openvino
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.inference.evaluation import evaluate, use_thresholds
from rtmdet_runtime import RTMDetector

CONFIGS = Path(__file__).parents[2] / 'configs'
TORCHSCRIPT, DYNAMO = 17, 18  # opsets
NMS = dict(iou_thr=0.6)  # with which AP 0.264 was measured


@pytest.fixture(scope='module')
def models(person_model, tmp_path_factory):
    """A function: a name -> the file, exported when it is first asked for."""
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
            export_onnx(person_model, source, **{'opset': TORCHSCRIPT, **NMS, **settings[name]})
        if not path.exists():
            {'.xml': to_openvino, '.param': to_ncnn}[suffix](source, path)
        return path

    return get


def open_detector(models, name, suffix='.onnx', backend=None, **settings):
    pytest.importorskip({'.onnx': backend or 'onnxruntime', '.xml': 'openvino', '.param': 'ncnn'}[suffix])
    if suffix == '.param':
        pytest.importorskip('pnnx')
    return RTMDetector(models(name, suffix), backend=backend, threads=1, **settings)


@pytest.fixture(scope='module')
def pictures(data_root):
    paths = sorted((data_root / 'coco_tiny' / 'val2017').glob('*.jpg'))[:8]
    assert len(paths) == 8
    return paths


@pytest.fixture(scope='module')
def expected(person_model, pictures):
    """PyTorch's boxes: mmdet's test pipeline, network and post-processing."""
    pipeline = [step for step in person_model.cfg.test_dataloader.dataset.pipeline if step.type != 'LoadAnnotations']
    prepare = Compose(pipeline)
    model = copy.deepcopy(person_model)  # other tests have it as well
    model.bbox_head.test_cfg = Config(
        dict(model.bbox_head.test_cfg, nms=dict(type='nms', iou_threshold=NMS['iou_thr']))
    )
    with torch.no_grad():
        samples = [
            model.test_step(pseudo_collate([prepare(dict(img_path=str(path), img_id=0))]))[0] for path in pictures
        ]
    return [
        np.concatenate([s.bboxes.numpy(), s.scores[:, None].numpy()], axis=1)
        for s in (sample.pred_instances for sample in samples)
    ]


def assert_same_boxes(found, expected, pixels: float = 0.05) -> None:
    """As sets, because scores that are equal but for rounding change places; a thousandth may fall otherwise in NMS."""
    assert len(expected) > 50, 'too few boxes to compare'
    assert abs(len(found) - len(expected)) <= 1
    rows = np.concatenate([found.boxes, 1000 * found.scores[:, None]], axis=1)
    distance = np.abs(rows[:, None] - np.concatenate([expected[:, :4], 1000 * expected[:, 4:]], axis=1)).max(2)
    assert (distance.min(0) > pixels).mean() <= 0.01 and (distance.min(1) > pixels).mean() <= 0.01
    # what a user sees has to be there without exception
    assert distance.min(0)[expected[:, 4] > 0.05].max(initial=0) < pixels


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
def test_ap_is_pytorch_s(models, data_root, monkeypatch, name, suffix, backend):
    """0.264, see test_parity_mmdet.py."""
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    config = Config.fromfile(CONFIGS / 'rtmdet_nano_person.py')
    config.model.test_cfg.nms.iou_threshold = NMS['iou_thr']
    detector = open_detector(models, name, suffix, backend)
    use_thresholds(detector, config.model.test_cfg)
    metrics = evaluate(config, detector, batch_size=8)
    assert metrics['coco/bbox_mAP'] == pytest.approx(0.264, abs=0.002)
    assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.503, abs=0.002)


@pytest.mark.parametrize(('name', 'backend'), [('decoded', None), ('nms', None), ('decoded', 'openvino')])
def test_a_batch_of_eight_is_eight_pictures(models, pictures, name, backend):
    detector = open_detector(models, name, backend=backend)
    together = detector.predict(pictures, batch_size=8)
    for path, found in zip(pictures, together, strict=True):
        alone = detector.predict(path)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
        np.testing.assert_allclose(found.boxes[:50], alone.boxes[:50], atol=1e-2)


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
def test_sizes_on_one_model(models, pictures, person_model, backend):
    """320, 640 and 480x640: each as PyTorch gives it for the same input."""
    for size in ((320, 320), (640, 640), (480, 640)):
        detector = open_detector(models, 'decoded', backend=backend, size=size)
        inputs, _ = detector.preprocess([pictures[0]])
        assert inputs.shape == (1, 3, *size)
        boxes, scores = detector.backend(inputs)
        with torch.no_grad():
            logits, distances = person_model(torch.from_numpy(inputs))
        expected_scores = torch.cat([level.flatten(2) for level in logits], 2).sigmoid()[0, 0].numpy()
        np.testing.assert_allclose(scores[0, :, 0], expected_scores, atol=1e-4)
        generator = person_model.bbox_head.prior_generator
        priors = torch.cat(generator.grid_priors([m.shape[-2:] for m in logits], device='cpu'))
        sides = torch.cat([level.flatten(2) for level in distances], 2)[0].T
        expected_boxes = person_model.bbox_head.bbox_coder.decode(priors, sides, max_shape=size).numpy()
        np.testing.assert_allclose(boxes[0], expected_boxes, atol=0.02)
        assert len(detector.predict(pictures[0])) > 10


def test_a_test_set_of_other_classes_is_refused(models, data_root, monkeypatch):
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    config = Config.fromfile(CONFIGS / 'rtmdet_nano.py')
    with pytest.raises(ValueError, match='the model has 1 classes, the test set 80'):
        evaluate(config, open_detector(models, 'raw'))
