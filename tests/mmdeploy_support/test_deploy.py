"""A checkpoint through mmdeploy to each backend that runs here: random weights on noise, trained ones on images."""

import functools
import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import fake_tensorrt
import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from samples import SHAPES_WEIGHTS, assert_same_ap

pytest.importorskip('mmdeploy', reason='mmdeploy is not installed (docs/mmdeploy.md says how)')

from rtmdet_plugin.compat.torch_load import DamagedCheckpointError, UnsafeCheckpointError
from rtmdet_plugin.inference.evaluation import evaluate_checkpoint
from rtmdet_plugin.mmdeploy_support import deploy as deploy_module
from rtmdet_plugin.mmdeploy_support.comparison import compare
from rtmdet_plugin.mmdeploy_support.deploy import deploy, export_graph
from rtmdet_plugin.tensorrt.support import PLUGINS, SUPPORTED

CONFIGS = Path(__file__).parents[2] / 'configs'
BACKENDS = {
    'onnxruntime_static': ('onnxruntime',),
    'onnxruntime_dynamic': ('onnxruntime',),
    'openvino_static': ('openvino',),
    'openvino_dynamic': ('openvino',),
    'ncnn_static': ('ncnn', 'pnnx'),
    'sdk': ('mmdeploy_runtime',),
}
# The static graphs of OpenVINO and ONNX Runtime are the dynamic ones with fixed axes, and take as long.
SLOW = ('onnxruntime_static', 'openvino_static')
backends = pytest.mark.parametrize('name', [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in BACKENDS])


@pytest.fixture(scope='module')
def deployed(inputs, deploy_config, tmp_path_factory):
    """Results of `deploy` by config, computed once."""

    @functools.cache
    def call(name: str):
        for package in BACKENDS[name]:
            pytest.importorskip(package, reason=f'{package} is not installed')
        deploy_cfg = deploy_config(name, max_output_boxes_per_class=600, keep_top_k=600)  # none is cut off
        return deploy(*inputs._replace(deploy_cfg=deploy_cfg), tmp_path_factory.mktemp(name) / 'out')

    return call


@backends
def test_each_backend_finds_what_pytorch_finds(name, deployed):
    deployment = deployed(name)
    assert deployment.comparison.num_boxes > 10, 'too few boxes to compare'
    assert deployment.comparison.score < 1e-4
    assert all(file.parent == deployment.folder and file.stat().st_size for file in deployment.files)
    described = {path.name for path in deployment.folder.glob('*.json')}
    assert described == (set() if name == 'ncnn_static' else {'deploy.json', 'pipeline.json', 'detail.json'})


@pytest.mark.parametrize('name', ['onnxruntime_dynamic', 'openvino_dynamic'])
@pytest.mark.parametrize('size', [(64, 64), (96, 64), (64, 128)])
def test_a_batch_is_the_images_one_by_one_at_any_size(name, size, deployed, inputs, deploy_config):
    files = [str(file) for file in deployed(name).files]
    job = deploy_module.prepare(*inputs._replace(deploy_cfg=deploy_config(name, keep_top_k=600)), 'cpu')
    from rtmdet_plugin.mmdeploy_support.job import task_processor

    model = task_processor(job.model_cfg, job.deploy_cfg, 'cpu').build_backend_model(files)
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0))
    dets, labels = model.predict(images)
    metas = [dict(img_shape=size, ori_shape=size, scale_factor=(1, 1))] * 3
    with torch.no_grad():
        expected = job.model.bbox_head.predict_by_feat(*job.model(images), batch_img_metas=metas)
    assert len(dets) == len(expected) == 3
    for i, image in enumerate(images):
        (one_dets,), (one_labels,) = model.predict(image[None])
        one = InstanceData(bboxes=one_dets[:, :4], scores=one_dets[:, 4], labels=one_labels)
        of_batch = InstanceData(bboxes=dets[i, :, :4], scores=dets[i, :, 4], labels=labels[i])
        for found in (one, of_batch):
            comparison = compare(expected[i], found[found.scores > 0], sure_score=0.2501)
            assert comparison.num_boxes > 5, 'too few boxes to compare'
            assert comparison.box < 1e-2
            assert comparison.score < 1e-4


@pytest.mark.parametrize(
    ('precision', 'shape'),
    [
        ('int8', 'dynamic'),
        # the same graphs: precision is chosen when the engine is built, and a static one has fixed axes
        *(
            pytest.param(*form, marks=pytest.mark.slow)
            for form in itertools.product(('fp32', 'fp16', 'int8'), ('static', 'dynamic'))
            if form != ('int8', 'dynamic')
        ),
    ],
)
def test_graph_for_tensorrt(precision, shape, inputs, deploy_config, tmp_path):
    """The graph has only operators of TensorRT's list and its NMS plugin, whose inputs equal PyTorch's."""
    deploy_cfg = deploy_config(f'tensorrt_{precision}_{shape}')
    export_graph(*inputs._replace(deploy_cfg=deploy_cfg), tmp_path / 'out' / 'm.onnx')
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['m.onnx']
    model = onnx.load(tmp_path / 'out' / 'm.onnx')
    onnx.checker.check_model(model)
    assert {node.op_type for node in model.graph.node} <= set(SUPPORTED) | set(PLUGINS)
    (nms,) = (node for node in model.graph.node if node.domain)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in nms.attribute}
    assert nms.op_type == 'EfficientNMS_TRT'
    assert attributes.pop('score_threshold') == pytest.approx(0.25)
    assert attributes.pop('iou_threshold') == pytest.approx(0.65)
    assert attributes == dict(
        plugin_version=b'1', background_class=-1, box_coding=0, score_activation=0, class_agnostic=0,
        max_output_boxes=100,
    )  # fmt: skip
    assert [output.name for output in model.graph.output] == ['dets', 'labels']
    dims = [axis.dim_param or axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ([1, 3, 96, 96] if shape == 'static' else ['batch', 3, 'height', 'width'])

    ort = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    del model.graph.node[list(model.graph.node).index(nms) :], model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in nms.input)
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    images = np.random.default_rng(0).normal(size=(1, 3, 96, 96)).astype(np.float32)
    boxes, scores = session.run(None, dict(input=images))
    reference = deploy_module.prepare(*inputs, 'cpu').model
    with torch.no_grad():
        logits, distances = reference(torch.from_numpy(images))
    logits = torch.cat([level.flatten(2) for level in logits], dim=2).transpose(1, 2)
    distances = torch.cat([level.flatten(2) for level in distances], dim=2).transpose(1, 2)
    priors = torch.cat(reference.bbox_head.prior_generator.grid_priors([(12, 12), (6, 6), (3, 3)], device='cpu'))
    expected = reference.bbox_head.bbox_coder.decode(priors[None], distances)
    torch.testing.assert_close(torch.from_numpy(boxes), expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(torch.from_numpy(scores), logits.sigmoid(), rtol=0, atol=1e-4)


def test_mmdeploys_own_tool_keeps_the_letterbox(inputs, tmp_path):
    """`torch2onnx` called as in tools/deploy.py, with a config of ours: no stretching, thresholds of that config."""
    ort = pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    from mmdeploy.apis import torch2onnx
    from mmdeploy.apis.utils import build_task_processor

    from rtmdet_plugin.compat.onnx_export import legacy_onnx_export

    deploy_cfg = Config.fromfile(CONFIGS / 'deploy' / 'onnxruntime_static.py')
    with legacy_onnx_export():
        files = dict(work_dir=str(tmp_path), save_file='end2end.onnx', model_checkpoint=str(inputs.checkpoint))
        torch2onnx(str(inputs.image), deploy_cfg=deploy_cfg, model_cfg=inputs.config, device='cpu', **files)
    cv2.imwrite(str(tmp_path / 'wide.png'), np.zeros((60, 90, 3), np.uint8))
    data, images = build_task_processor(inputs.config, deploy_cfg, 'cpu').create_input(str(tmp_path / 'wide.png'))
    assert images[0].shape == (3, 320, 320)
    assert data['data_samples'][0].scale_factor == pytest.approx((320 / 90, 213 / 60), abs=1e-3)
    assert (images[0][:, 214:] == 114).all()
    session = ort.InferenceSession(tmp_path / 'end2end.onnx', providers=['CPUExecutionProvider'])
    dets, _ = session.run(None, dict(input=images[0][None].numpy().astype(np.float32)))
    assert dets.shape[1] <= 100
    assert ((dets[..., 4] == 0) | (dets[..., 4] > 0.25)).all()


@pytest.mark.slow  # an export in another process
def test_pytorch_is_as_it_was(inputs, deploy_config, tmp_path):
    """mmdeploy's rewriting ends with the export."""
    job = deploy_module.prepare(*inputs, 'cpu')
    before = job.predict_torch(inputs.image)
    export_graph(*inputs._replace(deploy_cfg=deploy_config('tensorrt_fp32_static')), tmp_path / 'm.onnx')
    after = job.predict_torch(inputs.image)
    assert len(before) > 10
    torch.testing.assert_close(after.bboxes, before.bboxes, rtol=0, atol=0)


def test_the_sdks_detector_gives_the_boxes_of_its_pipeline(deployed, inputs):
    """Boxes and scores, but not its labels with numpy 2, see sdk.py."""
    folder = deployed('sdk').folder
    from mmdeploy_runtime import Detector

    from rtmdet_plugin.mmdeploy_support.sdk import detect

    dets, _, _ = Detector(str(folder), 'cpu', 0)(cv2.imread(str(inputs.image)))
    found = detect(folder, inputs.image)
    assert len(set(found.labels.tolist())) > 1, 'one class proves nothing'
    torch.testing.assert_close(torch.from_numpy(dets), torch.cat((found.bboxes, found.scores[:, None]), dim=1))


@pytest.mark.xfail(
    np.lib.NumpyVersion(np.__version__) >= '2.0.0',
    raises=AssertionError,
    strict=True,
    reason='mmdeploy_runtime 1.3.1 was built for numpy 1: with numpy 2 the labels of its Detector are all alike',
)
def test_the_sdks_detector_gives_the_labels_of_pytorch(deployed, inputs, deploy_config):
    folder = deployed('sdk').folder
    from mmdeploy_runtime import Detector

    deploy_cfg = deploy_config('sdk', max_output_boxes_per_class=600, keep_top_k=600)
    expected = deploy_module.prepare(*inputs._replace(deploy_cfg=deploy_cfg), 'cpu').predict_torch(inputs.image)
    if len(set(expected.labels.tolist())) < 3:
        pytest.fail('one class proves nothing')
    dets, labels, _ = Detector(str(folder), 'cpu', 0)(cv2.imread(str(inputs.image)))
    rows = [torch.from_numpy(part.copy()) for part in (dets[:, :4], dets[:, 4], labels.astype(np.int64))]
    found = InstanceData(**dict(zip(('bboxes', 'scores', 'labels'), rows, strict=True)))
    assert compare(expected, found, sure_score=0.26).box < 2  # infinite if a label differs


def test_pipeline_json_holds_letterbox_and_thresholds(deployed):
    folder = deployed('onnxruntime_static').folder
    tasks = json.loads((folder / 'pipeline.json').read_text())['pipeline']['tasks']
    resize, pad = tasks[0]['transforms'][1:3]
    assert resize == dict(type='Resize', keep_ratio=True, size=[96, 96])
    assert pad == dict(type='Pad', size=[96, 96], pad_val=dict(img=[114, 114, 114]))
    assert tasks[-1]['params']['score_thr'] == 0.25, "the model config's is 0.001"
    (model,) = json.loads((folder / 'deploy.json').read_text())['models']
    assert (model['net'], model['backend']) == ('end2end.onnx', 'onnxruntime')


def test_int8_is_calibrated_at_the_engines_size(shapes_config, shape_images, tmp_path, monkeypatch):
    """mmdeploy's calibration data without a GPU: its check for one and the engine are skipped."""
    h5py = pytest.importorskip('h5py', reason='h5py is not installed')
    monkeypatch.setattr('mmdeploy.apis.utils.utils.check_backend_device', lambda **kwargs: None)
    monkeypatch.setattr('rtmdet_plugin.mmdeploy_support.job.to_backend', lambda *args, **kwargs: [])
    from rtmdet_plugin.mmdeploy_support.job import Job

    deploy_cfg = Config.fromfile(CONFIGS / 'deploy' / 'tensorrt_int8_static.py')
    deploy_cfg.onnx_config.input_shape = (256, 192)
    job = Job.of(shapes_config(), SHAPES_WEIGHTS, deploy_cfg, 'cpu')
    job.convert(tmp_path / 'end2end.onnx')
    with h5py.File(tmp_path / 'calib_data.h5') as file:
        pictures = file['calib_data/end2end/input'].values()
        assert len(pictures) == len(shape_images) and {picture.shape for picture in pictures} == {(1, 3, 192, 256)}


# --- bad input ---


@pytest.fixture
def refused(inputs, tmp_path):
    """Call `deploy` with one argument changed; it must leave no files."""

    def call(error, message, **change):
        with pytest.raises(error, match=message) as caught:
            deploy(*inputs._replace(**change), tmp_path / 'results' / 'out')
        assert '\n' not in str(caught.value)
        assert not list((tmp_path / 'results').glob('*'))

    return call


def test_a_checkpoint_that_does_not_fit(inputs, refused, tmp_path):
    state = torch.load(inputs.checkpoint, weights_only=True)['state_dict']
    one_class = {k: v[:1] if 'rtm_cls' in k else v for k, v in state.items()}
    torch.save(one_class, tmp_path / 'other.pth')
    refused(ValueError, r'other\.pth does not fit the model.*rtm_cls', checkpoint=tmp_path / 'other.pth')
    (tmp_path / 'cut.pth').write_bytes(inputs.checkpoint.read_bytes()[:1000])
    refused(DamagedCheckpointError, r'cut\.pth is cut off', checkpoint=tmp_path / 'cut.pth')
    refused(FileNotFoundError, r'none\.pth: no such', checkpoint=tmp_path / 'none.pth')


class Malicious:
    def __reduce__(self):
        return print, ('ran',)


def test_a_checkpoint_runs_no_code(refused, tmp_path, capsys):
    torch.save(dict(state_dict={}, extra=Malicious()), tmp_path / 'evil.pth')
    refused(UnsafeCheckpointError, r'evil\.pth is refused.*print', checkpoint=tmp_path / 'evil.pth')
    assert 'ran\n' not in capsys.readouterr().out


def test_a_picture_that_cannot_be_read(refused, tmp_path):
    (tmp_path / 'text.jpg').write_text('no image')
    refused(ValueError, r'OpenCV can read, got .*text\.jpg', image=tmp_path / 'text.jpg')
    refused(ValueError, r'OpenCV can read, got .*none\.jpg', image=tmp_path / 'none.jpg')


def test_size_and_codebase(refused, deploy_config):
    refused(ValueError, 'multiples of 32', deploy_cfg=deploy_config('onnxruntime_static', size=(100, 96)))
    other = deploy_config('onnxruntime_static')
    other.codebase_config.type = 'mmseg'
    refused(ValueError, 'mmseg', deploy_cfg=other)


def test_a_backend_that_is_missing(refused, deploy_config):
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        cfg = deploy_config('tensorrt_fp16_static')
        refused(ModuleNotFoundError, 'tensorrt is not installed here: install', deploy_cfg=cfg)


def test_a_tensorrt_that_mmdeploy_does_not_know(refused, deploy_config, monkeypatch):
    fake_tensorrt.install(monkeypatch)
    said = 'tensorrt must be version 8 for mmdeploy 1.3.1, got 11.0; .* `rtmdet engine`'
    refused(RuntimeError, said, deploy_cfg=deploy_config('tensorrt_fp16_static'))


def test_mmdeploy_missing(refused, monkeypatch):
    monkeypatch.setattr(deploy_module.importlib.util, 'find_spec', lambda name: None)
    refused(ModuleNotFoundError, 'mmdeploy is not installed: pip install')


def test_a_picture_on_which_nothing_is_found(refused, deploy_config):
    deploy_cfg = deploy_config('onnxruntime_static', score_threshold=0.999)
    message = r'image.png must have an object that PyTorch detects with a score of 1\.01 or more, got none'
    refused(RuntimeError, message, deploy_cfg=deploy_cfg)


def test_results_that_differ_are_not_kept(refused, monkeypatch):
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    moved = InstanceData(bboxes=torch.tensor([[0.0, 0, 5, 5]]), scores=torch.tensor([0.9]), labels=torch.tensor([0]))
    from rtmdet_plugin.mmdeploy_support.job import Job

    monkeypatch.setattr(Job, 'predict_backend', lambda *args: moved)
    refused(RuntimeError, r'onnxruntime must differ from PyTorch by at most 1.0 px and .* in score, got \d+ boxes')


def test_a_folder_that_holds_something_is_left_alone(inputs, tmp_path):
    (tmp_path / 'mine').write_text('kept')
    with pytest.raises(FileExistsError, match='must be a new or an empty folder'):
        deploy(*inputs, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['mine']


def test_importing_the_folder_does_not_import_mmdeploy():
    code = 'import rtmdet_plugin.export, rtmdet_plugin.mmdeploy_support.deploy, sys; print("mmdeploy" in sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == 'False', done.stderr


# --- trained weights ---


def deployed_metrics(
    name: str, cfg: Config, checkpoint: Path, deploy_cfg: Config, max_boxes: int, folder: Path
) -> dict[str, float]:
    """Deploy with score 0.001, NMS 0.6 and `max_boxes` per image, and measure on the config's test set."""
    from mmdet.registry import DATASETS, METRICS

    from rtmdet_plugin.mmdeploy_support.job import Job, task_processor
    from rtmdet_plugin.mmdeploy_support.sdk import detect

    cfg.test_dataloader.update(num_workers=0, persistent_workers=False, batch_size=8 if 'dynamic' in name else 1)
    deploy_cfg.codebase_config.post_processing = dict(
        score_threshold=0.001,
        iou_threshold=0.6,
        pre_top_k=5000,
        max_output_boxes_per_class=max_boxes,
        keep_top_k=max_boxes,
    )
    job = Job.of(cfg, checkpoint, deploy_cfg, 'cpu')
    dataset = DATASETS.build(job.model_cfg.test_dataloader.dataset)
    deployment = deploy(cfg, checkpoint, deploy_cfg, dataset.get_data_info(0)['img_path'], folder / 'out')
    if name != 'sdk':
        tasks = task_processor(job.model_cfg, job.deploy_cfg, 'cpu')
        model = tasks.build_backend_model([str(file) for file in deployment.files])
        return tasks.build_test_runner(model, str(folder)).test()
    metric = METRICS.build(job.model_cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        found = detect(deployment.folder, info['img_path'])
        size = (info['height'], info['width'])
        metric.process({}, [dict(img_id=info['img_id'], ori_shape=size, pred_instances=found)])
    return metric.evaluate(len(dataset))


ALL_BOXES = 4 * 336
"""Number of classes times priors at 128 px; a shorter list could end with boxes that have no partner."""


@pytest.fixture(scope='module')
def expected_ap(shapes_config, tmp_path_factory) -> dict[str, float]:
    """Return PyTorch's metrics with the settings of `deployed_metrics`."""
    settings = {'score_thr': 0.001, 'nms.iou_threshold': 0.6, 'max_per_img': ALL_BOXES}
    config = shapes_config({f'model.test_cfg.{name}': value for name, value in settings.items()})
    metrics, _ = evaluate_checkpoint(config, SHAPES_WEIGHTS, tmp_path_factory.mktemp('runner'))
    assert metrics['coco/bbox_mAP'] > 0.6, 'a detector that finds nothing proves nothing'
    return metrics


@pytest.mark.slow
@backends
def test_ap_is_pytorch_s(name, shapes_config, expected_ap, deploy_config, tmp_path):
    for package in BACKENDS[name]:
        pytest.importorskip(package, reason=f'{package} is not installed')
    deploy_cfg = deploy_config(name, size=(128, 128))
    metrics = deployed_metrics(name, shapes_config(), SHAPES_WEIGHTS, deploy_cfg, ALL_BOXES, tmp_path)
    assert_same_ap(metrics, expected_ap)


@pytest.mark.slow
def test_ap_of_the_person_weights(data_root, weights_root, tmp_path, monkeypatch):
    """AP by each backend within 0.002 of PyTorch's 0.264 (tests/test_parity_mmdet.py)."""
    monkeypatch.setenv('RTMDET_COCO', str(data_root / 'coco_tiny') + '/')
    installed = [name for name, packages in BACKENDS.items() if all(map(importlib.util.find_spec, packages))]
    assert installed
    for name in installed:
        cfg = Config.fromfile(CONFIGS / 'rtmdet_nano_person.py')
        deploy_cfg = Config.fromfile(CONFIGS / 'deploy' / f'{name}.py')
        checkpoint = weights_root / 'rtmdet_nano_person.pth'
        metrics = deployed_metrics(name, cfg, checkpoint, deploy_cfg, 300, tmp_path / name)
        assert metrics['coco/bbox_mAP'] == pytest.approx(0.264, abs=0.002), name
        assert metrics['coco/bbox_mAP_50'] == pytest.approx(0.503, abs=0.002), name
