"""Make a model config and a deploy config agree before mmdeploy sees them.

mmdeploy stretches pictures to `input_shape` (mmdeploy#2267) and lets the model config's thresholds win. Both follow
from what stands in the configs, so what it gets here is: the letterbox written out in the test pipeline and no
`input_shape`, and one set of thresholds in both.
"""

import copy
from pathlib import Path

from mmengine.config import Config

from ..checkpoint import load_config
from .post_processing import PostProcessing

BACKENDS = ('onnxruntime', 'openvino', 'ncnn', 'tensorrt', 'sdk')
STRIDE = 32
PAD_VALUE = 114


def load_deploy_config(source: str | Path | Config) -> Config:
    """Read a deploy config and check that it is one of ours to serve.

    Raises:
        FileNotFoundError, ValueError: see `load_config`; ValueError as well for a config that isn't a deploy config, of
            another codebase or task, or for another backend.
    """
    cfg = load_config(source)
    name = cfg.filename or 'the deploy config'
    parts = [part for part in ('onnx_config', 'codebase_config', 'backend_config') if part not in cfg]
    if parts:
        raise ValueError(f'{name} is not a deploy config: it has no {", ".join(parts)}')
    codebase = (cfg.codebase_config.get('type'), cfg.codebase_config.get('task'))
    if codebase != ('mmdet', 'ObjectDetection'):
        raise ValueError(f"{name} is for {codebase}; accepted: codebase_config type='mmdet', task='ObjectDetection'")
    if cfg.backend_config.get('type') not in BACKENDS:
        raise ValueError(f'{name} has backend_config.type={cfg.backend_config.get("type")!r}; accepted: {BACKENDS}')
    return copy.deepcopy(cfg)


def agree(model_cfg: Config, deploy_cfg: Config) -> tuple[Config, Config]:
    """Copies of both configs with the same input size, preprocessing and thresholds.

    The size is the deploy config's `onnx_config.input_shape`, else that of the model config's test pipeline.
    `codebase_config.letterbox=False` in the deploy config asks for mmdeploy's stretching instead.

    Raises:
        ValueError: for a size that isn't divisible by 32, or where none is known.
    """
    model_cfg, deploy_cfg = copy.deepcopy(model_cfg), copy.deepcopy(deploy_cfg)
    pipeline = test_pipeline(model_cfg)
    size = input_size(pipeline, deploy_cfg.onnx_config.get('input_shape'))
    pipeline = sized_pipeline(pipeline, size, letterbox=deploy_cfg.codebase_config.get('letterbox', True))
    model_cfg.test_pipeline = pipeline
    if 'test_dataloader' in model_cfg:
        model_cfg.test_dataloader.dataset.pipeline = pipeline
    deploy_cfg.onnx_config.input_shape = None
    # mmdeploy hands these to the runner that tests a backend, whose model can't be copied.
    model_cfg.get('default_hooks', {}).pop('ema', None)

    settings = PostProcessing.of(deploy_cfg, model_cfg.model.test_cfg)
    deploy_cfg.codebase_config.post_processing = vars(settings)
    test_cfg = model_cfg.model.test_cfg
    test_cfg.update(score_thr=settings.score_threshold, max_per_img=settings.keep_top_k)
    test_cfg.nms.iou_threshold = settings.iou_threshold

    if deploy_cfg.backend_config.type == 'tensorrt' and not deploy_cfg.onnx_config.get('dynamic_axes'):
        shape = [1, 3, *size[::-1]]
        shapes = dict(min_shape=shape, opt_shape=shape, max_shape=shape)
        deploy_cfg.backend_config.model_inputs = [dict(input_shapes=dict(input=shapes))]
    return model_cfg, deploy_cfg


def test_pipeline(model_cfg: Config) -> list[dict]:
    """The steps that a picture goes through in testing."""
    if 'test_dataloader' in model_cfg:
        return model_cfg.test_dataloader.dataset.pipeline
    return model_cfg.test_pipeline


def input_size(pipeline: list[dict], asked: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height of the network's input: what is asked for, else what the pipeline pads or resizes to.

    Raises:
        ValueError: see `agree`.
    """
    steps = {step['type'].split('.')[-1]: step for step in pipeline}
    size = asked or steps.get('Pad', {}).get('size') or steps.get('Resize', {}).get('scale')
    if not size:
        raise ValueError('the test pipeline neither pads nor resizes to a size: set onnx_config.input_shape=(w, h)')
    width, height = size
    if width < STRIDE or height < STRIDE or width % STRIDE or height % STRIDE:
        raise ValueError(f'the input size (w, h) must be multiples of {STRIDE}, got {(width, height)}')
    return width, height


def sized_pipeline(pipeline: list[dict], size: tuple[int, int], *, letterbox: bool) -> list[dict]:
    """The pipeline with its resizing and padding replaced.

    Args:
        pipeline: steps of mmdet; stays as it is.
        size: width and height.
        letterbox: keep the ratio and pad with 114 at the right and the bottom, as in training; otherwise stretch. Like
            mmdet's `Resize`, a canvas that isn't square is turned on its side for a picture that is.
    """
    fit = [dict(type='Resize', scale=size, keep_ratio=letterbox)]
    if letterbox:
        fit.append(dict(type='Pad', size=size, pad_val=dict(img=(PAD_VALUE,) * 3)))
    rest = [copy.deepcopy(step) for step in pipeline if step['type'].split('.')[-1] not in ('Resize', 'Pad')]
    return [rest[0], *fit, *rest[1:]]
