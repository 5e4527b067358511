"""Make a model config and a deploy config agree before mmdeploy sees them.

By itself, mmdeploy stretches images to `input_shape` (mmdeploy#2267), and the model config's thresholds override those
of the deploy config. So mmdeploy gets configs without `input_shape`, whose test pipeline resizes and pads like that of
the model config, and with the same thresholds in both.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..checkpoints.load_model import load_config
from ..config.input_size import check_input_size
from ..config.pipelines import preprocessing, step_name, test_pipeline
from ..export.metadata import check_test_cfg
from .post_processing import PostProcessing

MASK_BACKENDS = ('onnxruntime', 'openvino')
"""Backends of models with masks.

For TensorRT and ncnn, NMS doesn't return which prior a box belongs to; the SDK's wheel returned other boxes each time.
"""
BACKENDS = ('onnxruntime', 'openvino', 'ncnn', 'tensorrt', 'sdk')
ONNX_FIELDS = dict(
    save_file=str, input_names=list, output_names=list, opset_version=int, keep_initializers_as_inputs=bool
)


def load_deploy_config(source: str | Path | Config) -> Config:
    """Read a deploy config and check that this package supports it.

    Raises:
        FileNotFoundError, ValueError: see `load_config`; ValueError also if it isn't a deploy config, or is for another
            codebase, task or backend; see `check_fields`.
    """
    cfg = load_config(source)
    name = cfg.filename or 'the deploy config'
    parts = [
        part for part in ('onnx_config', 'codebase_config', 'backend_config') if not isinstance(cfg.get(part), dict)
    ]
    if parts:
        raise ValueError(f'{name} must be a deploy config, got one without {", ".join(parts)}')
    codebase = (cfg.codebase_config.get('type'), cfg.codebase_config.get('task'))
    if codebase != ('mmdet', 'ObjectDetection'):
        raise ValueError(
            f"{name}: type and task of codebase_config must be 'mmdet' and 'ObjectDetection', got {codebase}"
        )
    if cfg.backend_config.get('type') not in BACKENDS:
        raise ValueError(
            f'{name}: backend_config.type must be one of {", ".join(BACKENDS)}, got {cfg.backend_config.get("type")!r}'
        )
    check_fields(cfg, name)
    return copy.deepcopy(cfg)


def check_fields(cfg: Config, name: str) -> None:
    """Raise a `ValueError` for the first field of a deploy config that is missing or has a wrong type."""
    onnx_config, backend_config = cfg.onnx_config, cfg.backend_config

    def check(good: bool, field: str, value: object, expected: str) -> None:
        if not good:
            raise ValueError(f'{name}: {field} must be {expected}, got {value!r}')

    for field, kind in ONNX_FIELDS.items():
        value = onnx_config.get(field)
        check(
            isinstance(value, kind),
            f'onnx_config.{field}',
            value,
            f'of type {kind.__name__}, as in the shipped deploy configs',
        )
    size = onnx_config.get('input_shape')
    check(size is None or _are_integers(size, 2), 'onnx_config.input_shape', size, '(width, height), or None')
    settings = cfg.codebase_config.get('post_processing')
    expected = 'a dict of thresholds, or None'
    check(settings is None or isinstance(settings, dict), 'codebase_config.post_processing', settings, expected)
    if backend_config.type == 'tensorrt':
        common = backend_config.get('common_config')
        check(isinstance(common, dict), 'backend_config.common_config', common, 'a dict such as dict(fp16_mode=True)')
        if onnx_config.get('dynamic_axes'):
            inputs = backend_config.get('model_inputs')
            expected = '[dict(input_shapes=dict(input=dict(min_shape=[1, 3, H, W], opt_shape=..., max_shape=...)))]'
            check(_profile(inputs), 'backend_config.model_inputs', inputs, expected)


def _are_integers(value: object, count: int) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == count and all(isinstance(item, int) for item in value)


def _profile(inputs: Any) -> bool:
    """Return whether these are valid `model_inputs` for one input."""
    try:
        ((shapes,),) = (model_input['input_shapes'].values() for model_input in inputs)
        return all(_are_integers(shapes[name], 4) for name in ('min_shape', 'opt_shape', 'max_shape'))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def agree(model_cfg: Config, deploy_cfg: Config) -> tuple[Config, Config]:
    """Return copies of both configs with the same input size, preprocessing and thresholds.

    `keep_ratio` and the padding are those of the model config's test pipeline. The size is the deploy config's
    `onnx_config.input_shape`, or else that of the test pipeline. `codebase_config.letterbox` in the deploy config
    replaces the test pipeline's `keep_ratio`: False stretches. For TensorRT, the images of the validation set get the
    usual input size of the engine, because INT8 is calibrated on them.

    Raises:
        ValueError: if the head's largest stride doesn't divide the size, the test pipeline has no letterbox (see
            `preprocessing`) or one that mmdeploy doesn't support (see `fit_steps`), or a threshold is invalid (see
            `PostProcessing.of`).
    """
    model_cfg, deploy_cfg = copy.deepcopy(model_cfg), copy.deepcopy(deploy_cfg)
    fit = preprocessing(model_cfg)
    size = check_input_size(model_cfg, deploy_cfg.onnx_config.get('input_shape') or fit['input_size'][::-1])
    fit['keep_ratio'] = deploy_cfg.codebase_config.get('letterbox', fit['keep_ratio'])
    pipeline = refitted(test_pipeline(model_cfg), fit_steps(size, fit['keep_ratio'], fit['pad_value']))
    model_cfg.test_pipeline = pipeline
    if model_cfg.get('test_dataloader'):
        model_cfg.test_dataloader.dataset.pipeline = pipeline
    deploy_cfg.onnx_config.input_shape = None
    fit_outputs(model_cfg, deploy_cfg)
    # mmdeploy passes these hooks to the runner that tests a backend; the EMA hook can't copy that model.
    model_cfg.get('default_hooks', {}).pop('ema', None)

    test_cfg = model_cfg.model.get('test_cfg')
    check_test_cfg(test_cfg)
    settings = PostProcessing.of(deploy_cfg, test_cfg)
    deploy_cfg.codebase_config.post_processing = vars(settings)
    test_cfg.update(score_thr=settings.score_threshold, max_per_img=settings.keep_top_k)
    test_cfg.nms.iou_threshold = settings.iou_threshold

    if deploy_cfg.backend_config.type == 'tensorrt':
        if not deploy_cfg.onnx_config.get('dynamic_axes'):
            shape = [1, 3, *size[::-1]]
            shapes = dict(min_shape=shape, opt_shape=shape, max_shape=shape)
            deploy_cfg.backend_config.model_inputs = [dict(input_shapes=dict(input=shapes))]
        if model_cfg.get('val_dataloader'):  # INT8 is calibrated on it
            (shapes,) = deploy_cfg.backend_config.model_inputs[0]['input_shapes'].values()
            height, width = shapes['opt_shape'][2:]
            # `Resize` swaps the sides for portrait images; mmdeploy would crop or repeat inputs of another size.
            step = dict(
                type='FixShapeResize',
                width=width,
                height=height,
                keep_ratio=fit['keep_ratio'],
                pad_val=dict(img=fit['pad_value']),
            )
            dataset = model_cfg.val_dataloader.dataset
            dataset.pipeline = refitted(dataset.pipeline, [step])
    return model_cfg, deploy_cfg


def fit_outputs(model_cfg: Config, deploy_cfg: Config) -> None:
    """Let the graph of a model with masks have the output `masks`, in place.

    Raises:
        ValueError: if the backend can't compute masks, or the deploy config has that output for a model without masks.
    """
    onnx_config, backend = deploy_cfg.onnx_config, deploy_cfg.backend_config.type
    with_masks = step_name(model_cfg.model.bbox_head).endswith('InsSepBNHead')  # ours and mmdet's
    if not with_masks and 'masks' in onnx_config.output_names:
        raise ValueError(
            f'onnx_config.output_names must be without masks for a model that predicts none, got '
            f'{onnx_config.output_names}'
        )
    if with_masks and backend not in MASK_BACKENDS:
        raise ValueError(
            f'backend_config.type must be {" or ".join(MASK_BACKENDS)} for a model with masks, got {backend!r}; '
            '`rtmdet export` writes models with masks for the others'
        )
    if with_masks:
        onnx_config.output_names = ['dets', 'labels', 'masks']
        if axes := onnx_config.get('dynamic_axes'):
            axes.masks = {**axes.dets, 2: 'height', 3: 'width'}


def fit_steps(size: tuple[int, int], keep_ratio: bool, pad_value: tuple[float, ...]) -> list[dict]:
    """Return the steps that fit an image into the network's input.

    Args:
        size: width and height in pixels. If they differ, images of the other orientation become larger, see
            docs/mmdeploy.md.
        keep_ratio: scale both sides by the same factor, and pad on the right and at the bottom; otherwise stretch.
        pad_value: value of the padding for each channel.

    Raises:
        ValueError: if the padding differs between the channels.
    """
    resize = dict(type='Resize', scale=size, keep_ratio=keep_ratio)
    if not keep_ratio:
        return [resize]
    if len(set(pad_value)) > 1:
        raise ValueError(
            "pad_val of the test pipeline must be one number for all channels, as mmdeploy's SDK requires, got "
            f'{pad_value}; `rtmdet export` supports a number per channel'
        )
    return [resize, dict(type='Pad', size=size, pad_val=dict(img=pad_value))]


def refitted(pipeline: Sequence[dict], fit: list[dict]) -> list[dict]:
    """Return a copy of a pipeline with the steps `fit`, after loading, in place of `Resize` and `Pad`."""
    rest = [copy.deepcopy(step) for step in pipeline if step_name(step) not in ('Resize', 'Pad')]
    return [rest[0], *fit, *rest[1:]]
