"""Configs agree on size, preprocessing and thresholds; configs that aren't for RTMDet are refused."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose

from rtmdet_plugin import find_step
from rtmdet_plugin.mmdeploy_support.config import BACKENDS, agree, load_deploy_config

CONFIGS = Path(__file__).parents[2] / 'configs'
LEAVES = sorted(path.stem for path in (CONFIGS / 'deploy').glob('*.py'))
PAD = dict(img=(114, 114, 114))


def load(name: str) -> Config:
    return Config.fromfile(CONFIGS / 'deploy' / f'{name}.py')


@pytest.fixture
def model_cfg():
    return Config.fromfile(CONFIGS / 'rtmdet_tiny.py')


@pytest.mark.parametrize('name', LEAVES)
def test_every_config_is_one_to_deploy_with(name, model_cfg):
    _, cfg = agree(model_cfg, load_deploy_config(CONFIGS / 'deploy' / f'{name}.py'))
    assert cfg.backend_config.type == name.split('_')[0]
    assert cfg.codebase_config.module == ['rtmdet_plugin.mmdeploy_support']
    assert bool(cfg.onnx_config.get('dynamic_axes')) is (not name.endswith('_static'))
    if name.startswith('tensorrt'):
        common = cfg.backend_config.common_config
        assert (common.fp16_mode, common.int8_mode) == ('fp32' not in name, 'int8' in name)
        assert ('calib_config' in cfg) is ('int8' in name)


@pytest.mark.parametrize('name', LEAVES)
def test_a_model_with_masks_has_an_output_for_them(name):
    model_cfg, deploy_cfg = Config.fromfile(CONFIGS / 'rtmdet_ins_tiny.py'), load(name)
    if name.startswith(('tensorrt', 'ncnn', 'sdk')):
        with pytest.raises(ValueError, match='must be onnxruntime or openvino for a model with masks, got'):
            agree(model_cfg, deploy_cfg)
        return
    _, cfg = agree(model_cfg, deploy_cfg)
    assert cfg.onnx_config.output_names == ['dets', 'labels', 'masks']
    if 'dynamic' in name:
        assert cfg.onnx_config.dynamic_axes.masks == {0: 'batch', 1: 'num_dets', 2: 'height', 3: 'width'}


def test_a_model_without_masks_can_not_have_them(model_cfg):
    deploy_cfg = load('onnxruntime_static')
    deploy_cfg.onnx_config.output_names = ['dets', 'labels', 'masks']
    with pytest.raises(ValueError, match='output_names must be without masks for a model that predicts none, got'):
        agree(model_cfg, deploy_cfg)


def test_each_backend_has_a_config():
    assert {name.split('_')[0] for name in LEAVES} == set(BACKENDS)


@pytest.mark.parametrize('size', [(640, 640), (640, 480)])
def test_size_and_letterbox_are_those_of_the_test_pipeline(model_cfg, size):
    resize, pad = model_cfg.test_dataloader.dataset.pipeline[1:3]
    resize.scale = pad.size = size
    model_cfg, _ = agree(model_cfg, load('onnxruntime_static'))
    resize, pad = model_cfg.test_pipeline[1:3]
    assert (resize.scale, resize.keep_ratio) == (size, True)
    assert (pad.size, pad.pad_val) == (size, PAD)
    assert model_cfg.test_dataloader.dataset.pipeline == model_cfg.test_pipeline


def test_input_shape_changes_the_size_and_keeps_the_letterbox(model_cfg):
    deploy_cfg = load('tensorrt_fp16_static')
    deploy_cfg.onnx_config.input_shape = (640, 480)
    model_cfg, agreed = agree(model_cfg, deploy_cfg)
    resize, pad = model_cfg.test_pipeline[1:3]
    assert (resize.type, resize.scale, resize.keep_ratio) == ('Resize', (640, 480), True)
    assert (pad.type, pad.size, pad.pad_val) == ('Pad', (640, 480), PAD)
    assert agreed.onnx_config.input_shape is None, 'mmdeploy stretches to an input_shape'
    (shapes,) = agreed.backend_config.model_inputs
    assert set(map(tuple, shapes.input_shapes.input.values())) == {(1, 3, 480, 640)}
    assert deploy_cfg.onnx_config.input_shape == (640, 480), 'the arguments stay as they are'


@pytest.mark.parametrize(
    ('name', 'input_shape', 'size'),
    [
        ('tensorrt_int8_static', (640, 480), (640, 480)),
        ('tensorrt_int8_static', None, (320, 320)),
        ('tensorrt_int8_dynamic', None, (640, 640)),  # the usual size of its profile
    ],
)
def test_calibration_pictures_have_the_engines_size(name, input_shape, size, tmp_path):
    model_cfg, deploy_cfg = Config.fromfile(CONFIGS / 'rtmdet_nano_person.py'), load(name)
    deploy_cfg.onnx_config.input_shape = input_shape
    model_cfg, agreed = agree(model_cfg, deploy_cfg)
    (shapes,) = agreed.backend_config.model_inputs
    assert shapes.input_shapes.input.opt_shape == [1, 3, *size[::-1]]
    transform = Compose(model_cfg.val_dataloader.dataset.pipeline)
    for height, width in ((300, 500), (500, 300)):  # mmdet would turn the canvas with the second one
        cv2.imwrite(str(tmp_path / 'image.png'), np.full((height, width, 3), 50, np.uint8))
        sample = transform(dict(img_path=str(tmp_path / 'image.png'), img_id=0, instances=[]))
        image = sample['inputs'].numpy()
        assert image.shape == (3, *size[::-1])
        scale = min(size[0] / width, size[1] / height)
        filled = (image == 50).all(0)
        assert filled.sum() == pytest.approx(height * width * scale**2, rel=0.01)
        assert (image[:, ~filled] == 114).all() and filled[0, 0]


def test_padding_is_that_of_the_test_pipeline(model_cfg):
    find_step(model_cfg.test_dataloader.dataset.pipeline, 'Pad').pad_val = 0
    model_cfg, _ = agree(model_cfg, load('tensorrt_int8_static'))
    assert find_step(model_cfg.test_pipeline, 'Pad').pad_val == dict(img=(0, 0, 0))
    assert find_step(model_cfg.val_dataloader.dataset.pipeline, 'FixShapeResize').pad_val == dict(img=(0, 0, 0))


def test_a_model_that_is_tested_on_stretched_images_is_deployed_so(model_cfg):
    pipeline = model_cfg.test_dataloader.dataset.pipeline
    find_step(pipeline, 'Resize').keep_ratio = False
    pipeline.remove(find_step(pipeline, 'Pad'))
    model_cfg, _ = agree(model_cfg, load('tensorrt_int8_static'))
    assert find_step(model_cfg.test_pipeline, 'Resize').keep_ratio is False
    assert 'Pad' not in [step.type for step in model_cfg.test_pipeline]
    assert find_step(model_cfg.val_dataloader.dataset.pipeline, 'FixShapeResize').keep_ratio is False


def test_padding_that_the_sdk_does_not_have_is_refused(model_cfg):
    find_step(model_cfg.test_dataloader.dataset.pipeline, 'Pad').pad_val = dict(img=(104, 117, 124))
    with pytest.raises(ValueError, match=r'pad_val of the test pipeline must be .* got \(104, 117, 124\)'):
        agree(model_cfg, load('onnxruntime_static'))


def test_stretching_can_be_asked_for(model_cfg):
    deploy_cfg = load('onnxruntime_static')
    deploy_cfg.codebase_config.letterbox = False
    model_cfg, _ = agree(model_cfg, deploy_cfg)
    assert model_cfg.test_pipeline[1].keep_ratio is False
    assert 'Pad' not in [step.type for step in model_cfg.test_pipeline]


def test_thresholds_of_the_deploy_config_win(model_cfg):
    agreed_model, agreed = agree(model_cfg, load('onnxruntime_static'))
    test_cfg, settings = agreed_model.model.test_cfg, agreed.codebase_config.post_processing
    assert (test_cfg.score_thr, test_cfg.nms.iou_threshold, test_cfg.max_per_img) == (0.25, 0.65, 100)
    assert (settings.score_threshold, settings.iou_threshold, settings.keep_top_k) == (0.25, 0.65, 100)
    assert model_cfg.model.test_cfg.score_thr == 0.001, 'the arguments stay as they are'


def test_what_the_deploy_config_leaves_open_is_the_models(model_cfg):
    deploy_cfg = load('onnxruntime_static')
    deploy_cfg.codebase_config.post_processing = dict(keep_top_k=50)
    _, agreed = agree(model_cfg, deploy_cfg)
    assert agreed.codebase_config.post_processing == dict(
        score_threshold=0.001, iou_threshold=0.65, pre_top_k=30000, max_output_boxes_per_class=300, keep_top_k=50
    )


def test_another_nms_is_refused(model_cfg):
    model_cfg.model.test_cfg.nms.type = 'soft_nms'
    with pytest.raises(ValueError, match="test_cfg.nms must be dict.type='nms', iou_threshold=...."):
        agree(model_cfg, load('onnxruntime_static'))


@pytest.mark.parametrize('size', [(640, 500), (0, 640), (16, 32)])
def test_size_must_be_divisible_by_32(model_cfg, size):
    deploy_cfg = load('onnxruntime_static')
    deploy_cfg.onnx_config.input_shape = size
    with pytest.raises(ValueError, match=rf'multiples of 32, got \({size[0]}, {size[1]}\)'):
        agree(model_cfg, deploy_cfg)


def test_the_heads_strides_divide_the_size(model_cfg):
    model_cfg.model.bbox_head.anchor_generator.strides = [8, 16, 32, 64]
    deploy_cfg = load('onnxruntime_static')
    deploy_cfg.onnx_config.input_shape = (640, 480)
    with pytest.raises(ValueError, match=r'multiples of 64, got \(640, 480\)'):
        agree(model_cfg, deploy_cfg)


def test_a_size_must_be_known(model_cfg):
    model_cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    with pytest.raises(ValueError, match=r'scale of Resize .* must be \(width, height\), got None'):
        agree(model_cfg, load('onnxruntime_static'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            dict(codebase_config=dict(type='mmseg', task='Segmentation')),
            "must be 'mmdet' and 'ObjectDetection', got .'mmseg', 'Segmentation'",
        ),
        (
            dict(codebase_config=dict(type='mmdet', task='InstanceSegmentation')),
            "must be 'mmdet' and 'ObjectDetection', got .* 'InstanceSegmentation'",
        ),
        (dict(backend_config=dict(type='pplnn')), "backend_config.type must be one of onnxruntime, .* got 'pplnn'"),
    ],
)
def test_configs_for_something_else_are_refused(change, message):
    cfg = load('onnxruntime_static')
    cfg.merge_from_dict(change)
    with pytest.raises(ValueError, match=message):
        load_deploy_config(cfg)


def test_a_model_config_is_no_deploy_config():
    with pytest.raises(ValueError, match=r'rtmdet_tiny\.py must be a deploy config, got one without onnx_config'):
        load_deploy_config(CONFIGS / 'rtmdet_tiny.py')


@pytest.mark.parametrize(
    ('name', 'change', 'message'),
    [
        ('onnxruntime_static', {'codebase_config': None}, 'got one without codebase_config'),
        ('onnxruntime_static', {'onnx_config': 1}, 'got one without onnx_config'),
        (
            'onnxruntime_static',
            {'onnx_config.save_file': None},
            'onnx_config.save_file must be of type str, .* got None',
        ),
        (
            'onnxruntime_static',
            {'onnx_config.input_names': 'input'},
            "onnx_config.input_names must be of type list, .* got 'input'",
        ),
        (
            'onnxruntime_static',
            {'onnx_config.input_shape': 64},
            r'input_shape must be \(width, height\), or None, got 64',
        ),
        ('onnxruntime_static', {'onnx_config.input_shape': ('a', 64)}, r"input_shape must be .*, got \('a', 64\)"),
        (
            'onnxruntime_static',
            {'codebase_config.post_processing': 'x'},
            "post_processing must be a dict of thresholds, or None, got 'x'",
        ),
        ('tensorrt_fp16_dynamic', {'backend_config.model_inputs': None}, 'model_inputs must be .* got None'),
        (
            'tensorrt_fp16_dynamic',
            {'backend_config.model_inputs': [dict(input_shapes=1)]},
            'model_inputs must be .* got ',
        ),
        (
            'tensorrt_fp16_static',
            {'backend_config.common_config': None},
            'common_config must be a dict such as .* got None',
        ),
    ],
)
def test_fields_that_can_not_serve(name, change, message):
    cfg = load(name)
    cfg.merge_from_dict(change)
    with pytest.raises(ValueError, match=message) as caught:
        load_deploy_config(cfg)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(score_threshold='x'), "score_threshold must be a number, got 'x'"),
        (dict(keep_top_k=1.5), 'keep_top_k must be an integer, got 1.5'),
    ],
)
def test_thresholds_that_are_none(model_cfg, change, message):
    deploy_cfg = load('onnxruntime_static')
    deploy_cfg.codebase_config.post_processing.update(change)
    with pytest.raises(ValueError, match=f'post_processing: {message}'):
        agree(model_cfg, deploy_cfg)
    model_cfg.model.test_cfg = None
    with pytest.raises(ValueError, match='model.test_cfg must be a dict .* got None'):
        agree(model_cfg, load('onnxruntime_static'))


def test_a_model_config_with_a_test_pipeline_alone(model_cfg):
    model_cfg.test_dataloader = None
    agreed, _ = agree(model_cfg, load('onnxruntime_static'))
    assert agreed.test_pipeline[1].scale == (640, 640)
