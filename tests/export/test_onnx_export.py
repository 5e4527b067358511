"""The exported graph against the model that it came from."""

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.structures import InstanceData
from oracle import build_pair

from rtmdet_plugin import set_input_size
from rtmdet_plugin.export.convert import read_info
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_runtime import FORMS, ModelInfo

SIZE = (64, 96)
TORCHSCRIPT, DYNAMO = 17, 18  # opsets
SIZES = ('nano', 'tiny', 's', 'm', 'l', 'x')
NETWORK_FORMS = ('raw', 'decoded', 'nms')  # those that ONNX Runtime runs
QUICK = [('tiny', 'decoded'), ('s', 'nms'), ('m', 'raw')]  # nano: test_any_batch_and_size
slow = pytest.mark.slow


def pictures(batch: int = 1, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(3))


def run(path: Path, images: torch.Tensor) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {'images': images.numpy()}), strict=True))


def axes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]


@torch.no_grad()
def expected_outputs(model, form: str, images: torch.Tensor) -> dict[str, np.ndarray]:
    """By way of the head's own forward pass, mmdet's coder and mmdet's post-processing."""
    head, size = model.bbox_head, images.shape[-2:]
    maps = model(images)
    strides = [stride[0] for stride in head.prior_generator.strides]
    if form == 'raw':
        distances = [level / stride for level, stride in zip(maps[1], strides, strict=True)]
        distances = [level.log() if head.exp_on_reg else level for level in distances]
        found = {f'cls_{stride}': level for stride, level in zip(strides, maps[0], strict=True)}
        found |= {f'reg_{stride}': level for stride, level in zip(strides, distances, strict=True)}
    elif form in ('decoded', 'trt'):
        priors = torch.cat(head.prior_generator.grid_priors([m.shape[-2:] for m in maps[0]], device='cpu'))
        logits, distances = (torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2) for levels in maps)
        boxes = head.bbox_coder.decode(priors.expand(len(images), -1, 2), distances, max_shape=[size] * len(images))
        found = {'boxes': boxes, 'scores': logits.sigmoid()}
    else:
        metas = [dict(img_shape=tuple(size))] * len(images)
        results: list[InstanceData] = head.predict_by_feat(*maps, batch_img_metas=metas, rescale=False)
        dets = torch.zeros(len(images), head.test_cfg['max_per_img'], 5)
        labels = torch.full(dets.shape[:2], -1)
        for i, result in enumerate(results):
            dets[i, : len(result)] = torch.cat((result.bboxes, result.scores[:, None]), dim=1)
            labels[i, : len(result)] = result.labels
        found = {'dets': dets, 'labels': labels}
    return {name: value.numpy() for name, value in found.items()}


def assert_same(path: Path, model, form: str, images: torch.Tensor) -> None:
    expected = expected_outputs(model, form, images)
    found = run(path, images)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert value.std() > 0.01, 'constant outputs prove nothing'
        assert found[name].shape == value.shape
        if form == 'nms':
            continue
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=5e-3, err_msg=name)
    if form == 'nms':
        assert_same_boxes(found, expected)


def assert_same_boxes(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """As sets: neighbouring priors can have the same score to the last bit but one."""
    np.testing.assert_allclose(found['dets'][:, :, 4], expected['dets'][:, :, 4], atol=1e-4)
    for i, (dets, labels) in enumerate(zip(expected['dets'], expected['labels'], strict=True)):
        assert (labels >= 0).sum() > 10, 'too few boxes to compare'
        rows = [
            np.concatenate([d[:, :4], 100 * d[:, 4:], 1000 * t[:, None]], axis=1)
            for d, t in ((dets, labels), (found['dets'][i], found['labels'][i]))
        ]
        distance = np.abs(rows[0][:, None] - rows[1]).max(2)
        # A box that another one replaces at the threshold of NMS is one of a thousand pairs of a random model.
        assert (distance.min(1) > 0.05).mean() <= 0.02 and (distance.min(0) > 0.05).mean() <= 0.02


class TestSizes:
    """Every size, in each form; most pairs only when asked for, because each takes seconds."""

    @pytest.mark.parametrize(
        ('size', 'form'),
        [pytest.param(*pair, marks=() if pair in QUICK else slow) for pair in itertools.product(SIZES, NETWORK_FORMS)],
    )
    def test_outputs(self, random_model, size, form, tmp_path):
        model = random_model(size)
        path = tmp_path / 'model.onnx'
        export_onnx(model, path, form=form, size=SIZE, opset=TORCHSCRIPT, for_map=True)
        assert_same(path, model, form, pictures())

    @pytest.mark.parametrize(
        ('size', 'form'),
        [
            pytest.param(*pair, marks=() if pair == ('tiny', 'decoded') else slow)
            for pair in itertools.product(SIZES, NETWORK_FORMS)
        ],
    )
    def test_dynamo(self, random_model, size, form, tmp_path):
        model = random_model(size)
        path = tmp_path / 'model.onnx'
        export_onnx(model, path, form=form, size=SIZE, opset=DYNAMO, for_map=True)
        assert_same(path, model, form, pictures())

    @pytest.mark.parametrize('size', [pytest.param(size, marks=() if size == 'tiny' else slow) for size in SIZES])
    def test_trt(self, random_model, size, tmp_path):
        """The plugin's inputs equal the decoded boxes and scores; the plugin itself runs only in TensorRT."""
        model = random_model(size)
        path = tmp_path / 'model.onnx'
        info = export_onnx(model, path, form='trt', size=SIZE, opset=TORCHSCRIPT, dynamic='batch', iou_thr=0.6)
        graph = onnx.load(path)
        node = graph.graph.node[-1]
        assert (node.op_type, node.domain, list(node.input)) == ('EfficientNMS_TRT', 'TRT', ['boxes', 'scores'])
        assert {o.domain for o in graph.opset_import} == {'', 'TRT'}
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == dict(
            plugin_version=b'1', background_class=-1, score_activation=0, class_agnostic=0, box_coding=0,
            max_output_boxes=100, score_threshold=pytest.approx(0.25), iou_threshold=pytest.approx(0.6),
        )  # fmt: skip
        shapes = {
            o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in graph.graph.output
        }
        assert shapes == dict(
            num_dets=['batch', 1], det_boxes=['batch', 100, 4], det_scores=['batch', 100], det_classes=['batch', 100]
        )
        del graph.graph.node[-1], graph.graph.output[:]
        graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in ('boxes', 'scores'))
        for output in graph.graph.output:
            output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        onnx.save(graph, path)
        assert_same(path, model, 'decoded', pictures(2))
        assert info.form == 'trt'

    @slow
    def test_memory_of_the_largest(self, tmp_path):
        """x at 640 px, by either exporter, within 8 GiB."""
        code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from oracle import build_random
from mmengine.registry import init_default_scope
from rtmdet_plugin.export.onnx_export import export_onnx
init_default_scope('mmdet')
model = build_random('x')
for opset in (17, 18):
    export_onnx(model, {str(tmp_path / 'x.onnx')!r}, form='nms', opset=opset)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
        done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[-1]) * 1024 < 8 * 2**30


@pytest.mark.parametrize(
    ('form', 'opset'),
    [(form, TORCHSCRIPT) for form in NETWORK_FORMS]
    + [pytest.param(form, DYNAMO, marks=slow) for form in NETWORK_FORMS],
)
def test_any_batch_and_size(random_model, form, opset, tmp_path):
    model = random_model('nano')
    path = tmp_path / 'model.onnx'
    export_onnx(model, path, form=form, size=SIZE, opset=opset, dynamic='all', for_map=True)
    for batch, size in ((1, (64, 64)), (3, (96, 160)), (2, (160, 64))):
        assert_same(path, model, form, pictures(batch, size))
    assert axes(onnx.load(path).graph.input[0]) == ['batch', 3, 'height', 'width']


def test_any_batch_at_a_fixed_size_has_constant_priors(random_model, tmp_path):
    model = random_model('nano')
    path = tmp_path / 'model.onnx'
    export_onnx(model, path, size=SIZE, opset=TORCHSCRIPT, dynamic='batch')
    for batch in (1, 4):
        assert_same(path, model, 'decoded', pictures(batch))
    assert 'Range' not in {node.op_type for node in onnx.load(path).graph.node}


def test_no_batch_norm_and_one_convolution_a_level(random_model, tmp_path):
    export_onnx(random_model('s'), tmp_path / 'model.onnx', form='raw', size=SIZE, opset=TORCHSCRIPT)
    graph = onnx.load(tmp_path / 'model.onnx').graph
    assert 'BatchNormalization' not in {node.op_type for node in graph.node}
    head = [i for i in graph.initializer if 'cls_convs' in i.name and i.name.endswith('weight')]
    assert len(head) == 6  # 2 convolutions on each of 3 levels


def test_nms_of_an_image_does_not_depend_on_the_others(random_model, tmp_path):
    model = random_model('nano')
    settings = dict(form='nms', size=SIZE, opset=TORCHSCRIPT, dynamic='batch', for_map=True, max_per_img=20)
    export_onnx(model, tmp_path / 'm.onnx', **settings)
    images = pictures(3)
    together = run(tmp_path / 'm.onnx', images)
    for i in range(3):
        alone = run(tmp_path / 'm.onnx', images[i : i + 1])
        np.testing.assert_allclose(together['dets'][i], alone['dets'][0], atol=1e-3)
        np.testing.assert_array_equal(together['labels'][i], alone['labels'][0])
    assert (np.diff(together['dets'][:, :, 4], axis=1) <= 0).all()


def test_nms_without_a_single_box(random_model, tmp_path):
    export_onnx(random_model('nano'), tmp_path / 'm.onnx', form='nms', size=SIZE, opset=TORCHSCRIPT, score_thr=1.0)
    found = run(tmp_path / 'm.onnx', pictures())
    assert (found['dets'] == 0).all() and (found['labels'] == -1).all()


def test_mmdet_s_own_model_exports_to_the_same(tmp_path):
    ours, mmdets = build_pair('tiny')
    config = Config.fromfile(Path(__file__).parents[2] / 'configs' / 'rtmdet_tiny.py')
    outputs = []
    for model in (ours.eval(), mmdets.eval()):
        model.cfg = config
        export_onnx(model, tmp_path / 'm.onnx', size=SIZE, opset=TORCHSCRIPT)
        outputs.append(run(tmp_path / 'm.onnx', pictures()))
    for name in ('boxes', 'scores'):
        np.testing.assert_allclose(outputs[0][name], outputs[1][name], rtol=1e-4, atol=1e-3)


def test_the_file_describes_itself(shapes_model, tmp_path):
    given = dict(score_thr=0.3, iou_thr=0.5, max_per_img=7)
    info = export_onnx(shapes_model, tmp_path / 'm.onnx', opset=TORCHSCRIPT, for_map=True, **given)
    model = onnx.load(tmp_path / 'm.onnx')
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert ModelInfo.from_properties(properties, 'm.onnx') == info
    assert json.loads(properties['rtmdet.classes']) == ['circle', 'square', 'triangle', 'cross']
    assert (info.form, info.input_size, info.keep_ratio, info.to_rgb) == ('decoded', (128, 128), True, False)
    assert (info.mean, info.std) == ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
    assert (info.pad_value, info.strides, info.exp_on_reg) == ((114, 114, 114), (8, 16, 32), False)
    assert (info.score_thr, info.iou_thr, info.nms_pre, info.max_per_img) == (0.3, 0.5, 30000, 7)
    assert model.producer_name == 'rtmdet_plugin' and model.producer_version == info.version
    onnx.checker.check_model(model, full_check=True)


def test_the_file_has_the_size_of_set_input_size(shapes_model, shapes_config, tmp_path):
    model = copy.copy(shapes_model)
    model.cfg = shapes_config()
    set_input_size(model.cfg, 512)
    info = export_onnx(model, tmp_path / 'm.onnx', form='raw', opset=TORCHSCRIPT)
    assert read_info(tmp_path / 'm.onnx') == info and info.input_size == (512, 512)
    assert axes(onnx.load(tmp_path / 'm.onnx').graph.input[0]) == [1, 3, 512, 512]


def test_a_dynamic_size_is_a_multiple_of_the_largest_stride(shapes_model, tmp_path, monkeypatch):
    model = copy.deepcopy(shapes_model)
    model.bbox_head.prior_generator.strides[-1] = (64, 64)
    sides = []

    def stop(*args, dynamic_shapes, **kwargs):
        sides.extend(dynamic_shapes[0][axis].__name__ for axis in (2, 3))
        raise InterruptedError

    monkeypatch.setattr(torch.onnx, 'export', stop)
    with pytest.raises(InterruptedError):
        export_onnx(model, tmp_path / 'm.onnx', dynamic='all', opset=DYNAMO)
    assert sides == ['64*height', '64*width']


@slow
def test_a_network_with_a_fourth_level(tmp_path):
    config = Config.fromfile(Path(__file__).parents[2] / 'configs' / 'rtmdet_tiny.py')
    strides = [8, 16, 32, 64]
    config.model.backbone.update(arch='P6', widen_factor=0.125, out_indices=(2, 3, 4, 5), init_cfg=None)
    config.model.neck.update(in_channels=[32, 64, 96, 128], out_channels=16)
    config.model.bbox_head.update(in_channels=16, feat_channels=16)
    config.model.bbox_head.anchor_generator.strides = strides
    set_input_size(config, 128)
    model = MODELS.build(config.model).eval()
    model.cfg = config
    info = export_onnx(model, tmp_path / 'm.onnx', form='raw', dynamic='all', opset=DYNAMO)
    assert info.strides == tuple(strides)
    found = run(tmp_path / 'm.onnx', pictures(size=(64, 192)))
    assert [found[f'reg_{stride}'].shape[2:] for stride in strides] == [(64 // n, 192 // n) for n in strides]


def test_statistics_that_make_no_number(random_model, tmp_path):
    model = copy.deepcopy(random_model('nano'))
    next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)).running_var.fill_(-1)
    with pytest.raises(ValueError, match='m.onnx: weights must be finite, got NaN or infinity in [12] of'):
        export_onnx(model, tmp_path / 'm.onnx', size=SIZE, opset=TORCHSCRIPT)
    assert not list(tmp_path.iterdir())


class TestRefusals:
    @pytest.mark.parametrize(
        ('settings', 'said'),
        [
            (dict(form='boxes'), f"form must be one of {', '.join(FORMS)}, got 'boxes'"),
            (dict(dynamic='size'), "dynamic must be one of none, batch, all, got 'size'"),
            (dict(opset=11), 'opset must be from 13 to 20, got 11'),
            (dict(size=(320, 300)), r'^size must be \(height, width\), multiples of 32 .*, got \(320, 300\)'),
            (dict(size=(0, 320)), r'got \(0, 320\)'),
            (dict(iou_thr=1.5), 'iou_thr must be from 0 to 1, got 1.5'),
            (dict(max_per_img=0), 'max_per_img must be at least 1, got 0'),
        ],
    )
    def test_values(self, random_model, settings, said, tmp_path):
        with pytest.raises(ValueError, match=said):
            export_onnx(random_model('nano'), tmp_path / 'm.onnx', **{'opset': TORCHSCRIPT, **settings})
        assert not list(tmp_path.iterdir())

    def test_another_model(self, tmp_path):
        with pytest.raises(ValueError, match='bbox_head must be RTMSepBNHead or RTMInsSepBNHead, .* got Linear'):
            export_onnx(torch.nn.Linear(1, 1), tmp_path / 'm.onnx')

    def test_nothing_is_left_of_a_graph_that_the_checker_refuses(self, random_model, tmp_path, monkeypatch):
        def refuse(*args, **kwargs):
            raise onnx.checker.ValidationError('no')

        monkeypatch.setattr(onnx.checker, 'check_model', refuse)
        (tmp_path / 'm.onnx').write_text('before')
        with pytest.raises(onnx.checker.ValidationError):
            export_onnx(random_model('nano'), tmp_path / 'm.onnx', size=SIZE, opset=TORCHSCRIPT)
        assert [file.read_text() for file in tmp_path.iterdir()] == ['before']
