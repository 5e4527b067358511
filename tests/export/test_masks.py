"""Exported models with masks against the model that they came from: outputs, and the runtime's boxes and masks."""

import copy
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from oracle import build_small_ins, to_mmdet

from rtmdet_plugin.export.convert import read_info, to_ncnn, to_openvino
from rtmdet_plugin.export.onnx_export import export_onnx
from rtmdet_plugin.models.dynamic_conv import mask_logits
from rtmdet_runtime import RTMDetector
from rtmdet_runtime.image import Placement

SIZE = (64, 96)
TORCHSCRIPT, DYNAMO = 17, 18  # opsets
FORMS = ('raw', 'decoded', 'nms')
TEST_CFG = ConfigDict(score_thr=0.25, nms_pre=30000, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100)
slow = pytest.mark.slow


@pytest.fixture(scope='module')
def model():
    return build_small_ins()


def pictures(batch: int = 1, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(3))


def run(path: Path, images: torch.Tensor) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {'images': images.numpy()}), strict=True))


@torch.no_grad()
def expected_outputs(model, form: str, images: torch.Tensor) -> dict[str, np.ndarray]:
    """By way of the head's own forward pass, mmdet's coder, and the masks of the head."""
    head = model.bbox_head
    logits, distances, kernels, prototypes = model(images)
    if form == 'raw':
        levels = zip((8, 16, 32), logits, distances, kernels, strict=True)
        maps = {stride: (cls, sides / stride, kernel) for stride, cls, sides, kernel in levels}
        names = ('cls', 'reg', 'kernel')
        found = {f'{name}_{stride}': maps[stride][i] for i, name in enumerate(names) for stride in maps}
        return {name: value.numpy() for name, value in found.items()} | {'prototypes': prototypes.numpy()}
    priors = torch.cat(head.prior_generator.grid_priors([m.shape[-2:] for m in logits], device='cpu', with_stride=True))
    scores, sides, kernels = (
        torch.cat([level.flatten(2) for level in part], 2).transpose(1, 2) for part in (logits, distances, kernels)
    )
    points = priors[:, :2].expand(len(images), -1, 2)
    boxes = head.bbox_coder.decode(points, sides, max_shape=[images.shape[-2:]] * len(images))
    if form == 'decoded':
        found = dict(boxes=boxes, scores=scores.sigmoid(), kernels=kernels, prototypes=prototypes)
        return {name: value.numpy() for name, value in found.items()}
    return dict(boxes=boxes.numpy(), masks=list(map(mask_logits, prototypes, kernels, [priors] * 2, [8] * 2)))


def assert_same(path: Path, model, form: str, images: torch.Tensor) -> None:
    expected, found = expected_outputs(model, form, images), run(path, images)
    if form == 'nms':
        assert list(found) == ['dets', 'labels', 'mask_logits']
        for i, dets in enumerate(found['dets']):  # each row has the mask of a prior with its box
            rows = found['labels'][i] >= 0
            assert 5 < rows.sum() < len(rows) and not found['mask_logits'][i][~rows].any()
            distance = np.abs(dets[rows, None, :4] - expected['boxes'][i]).max(2)
            assert (distance.min(1) < 5e-3).all()
            logits = expected['masks'][i][distance.argmin(1)]
            assert (logits > 0).any((1, 2)).float().mean() > 0.5, 'masks without pixels prove nothing'
            np.testing.assert_allclose(found['mask_logits'][i][rows], logits, rtol=1e-3, atol=5e-3)
        return
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert value.std() > 0.01 and found[name].shape == value.shape
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=5e-3, err_msg=name)


@pytest.fixture(scope='module')
def exported(model, tmp_path_factory):
    """Function from an export format to the file; sizes and batch are dynamic."""
    folder = tmp_path_factory.mktemp('exported')

    def get(form: str, opset: int = TORCHSCRIPT) -> Path:
        path = folder / f'{form}_{opset}.onnx'
        if not path.exists():
            export_onnx(model, path, form=form, size=SIZE, opset=opset, dynamic='all', score_thr=0.25, iou_thr=0.6)
        return path

    return get


@pytest.mark.parametrize(
    ('form', 'opset'),
    [(form, TORCHSCRIPT) for form in FORMS] + [pytest.param(form, DYNAMO, marks=slow) for form in FORMS],
)
def test_any_batch_and_size(model, exported, form, opset):
    path = exported(form, opset)
    for batch, size in ((1, SIZE), (2, (96, 64))):
        assert_same(path, model, form, pictures(batch, size))
    info = read_info(path)
    assert (info.mask_stride, info.mask_thr) == (8, 0.5)
    outputs = onnx.load(path).graph.output
    for output, (name, shape) in zip(outputs, info.output_shapes.items(), strict=True):
        axes = [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim]
        assert (output.name, len(axes), axes[0]) == (name, 1 + len(shape), 'batch')


@pytest.mark.parametrize('opset', [TORCHSCRIPT, pytest.param(DYNAMO, marks=slow)])
def test_a_fixed_size(model, opset, tmp_path):
    path = tmp_path / 'm.onnx'
    export_onnx(model, path, form='nms', size=SIZE, opset=opset, score_thr=0.25)
    assert_same(path, model, 'nms', pictures())
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    assert all(node.input[1] in constants for node in graph.node if node.op_type == 'Conv'), 'to be quantised'
    assert sum(node.op_type == 'Conv' for node in graph.node) == 97, 'the layers of both branches run once'


def test_mmdets_own_model_exports_to_the_same(model, exported, tmp_path):
    mmdets = MODELS.build(ConfigDict(to_mmdet(model.cfg.model))).eval()
    mmdets.load_state_dict(model.state_dict())
    mmdets.cfg = model.cfg
    export_onnx(mmdets, tmp_path / 'm.onnx', form='raw', size=SIZE, opset=TORCHSCRIPT)
    found, expected = run(tmp_path / 'm.onnx', pictures()), run(exported('raw'), pictures())
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def predicted(model, inputs: np.ndarray, placements: list[Placement]):
    """What the model's head finds in the input of the runtime."""
    metas = [
        dict(img_shape=inputs.shape[2:], ori_shape=placement.size, scale_factor=placement.scale)
        for placement in placements
    ]
    maps = model(torch.from_numpy(inputs))
    return model.bbox_head.predict_by_feat(*maps, batch_img_metas=metas, cfg=TEST_CFG, rescale=True)


def noise_images() -> list[np.ndarray]:
    noise = np.random.default_rng(0).normal(113, 57, (*SIZE, 3)).clip(0, 255).astype(np.uint8)
    return [cv2.resize(noise, size, interpolation=cv2.INTER_NEAREST) for size in ((96, 64), (301, 427), (2048, 1365))]


def assert_the_head_finds_the_same(model, detector: RTMDetector) -> None:
    """Compare boxes and masks in images of different sizes, in one batch."""
    images = noise_images()
    expected = predicted(model, *detector.preprocess(images))
    for image, ours, theirs in zip(images, detector.predict(images, batch_size=3), expected, strict=True):
        assert len(ours) == len(theirs) > 10
        order = np.abs(ours.boxes - theirs.bboxes.numpy()[:, None]).max(2).argmin(1)  # equal scores have no order
        found = ours[order]
        np.testing.assert_allclose(found.boxes, theirs.bboxes, atol=0.02 * image.shape[1] / SIZE[1])
        np.testing.assert_allclose(found.scores, theirs.scores, atol=1e-4)
        np.testing.assert_array_equal(found.labels, theirs.labels)
        masks, others = found.masks.numpy(), theirs.masks.numpy()
        assert masks.shape[1:] == image.shape[:2] and np.mean([mask.any() for mask in others]) > 0.3
        union = (masks | others).sum((1, 2))
        assert ((masks & others).sum((1, 2))[union > 0] / union[union > 0]).min() > 0.999
        assert np.mean(masks == others) > 0.9999


@pytest.mark.parametrize('form', FORMS)
def test_the_runtime_finds_what_the_head_finds(model, exported, form):
    detector = RTMDetector(exported(form), **({} if form == 'nms' else dict(nms_pre=10**6)))
    assert_the_head_finds_the_same(model, detector)


def test_a_checkpoint_in_pytorch_finds_what_the_head_finds(model, tmp_path):
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'ins.pth')
    given = dict(size=SIZE, score_thr=0.25, iou_thr=0.6, nms_pre=10**6)
    detector = RTMDetector(tmp_path / 'ins.pth', config=model.cfg, device='cpu', **given)
    assert detector.info.mask_stride == 8
    assert_the_head_finds_the_same(model, detector)


@pytest.mark.parametrize(
    ('module', 'convert', 'name'), [('openvino', to_openvino, 'm.xml'), ('pnnx', to_ncnn, 'm.param')]
)
def test_other_runtimes_compute_the_same(model, tmp_path, module, convert, name):
    pytest.importorskip(module)
    export_onnx(model, tmp_path / 'm.onnx', form='raw', size=SIZE, opset=TORCHSCRIPT)
    convert(tmp_path / 'm.onnx', tmp_path / name)
    expected, found = RTMDetector(tmp_path / 'm.onnx'), RTMDetector(tmp_path / name, precision='float32')
    inputs, _ = expected.preprocess(noise_images()[:1])
    for output, ours, theirs in zip(
        expected.info.outputs, found.backend(inputs), expected.backend(inputs), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3, err_msg=output)


def test_refusals(model, tmp_path):
    with pytest.raises(ValueError, match='form must be one of raw, decoded, nms with masks, got .trt.'):
        export_onnx(model, tmp_path / 'm.onnx', form='trt', size=SIZE, opset=TORCHSCRIPT)
    changed = copy.deepcopy(model)
    changed.bbox_head.rtm_kernel[0] = torch.nn.Conv2d(16, 233, 1)
    with pytest.raises(ValueError, match='a mask kernel must have 169 weights to export, .* got 233'):
        export_onnx(changed, tmp_path / 'm.onnx', size=SIZE, opset=TORCHSCRIPT)
