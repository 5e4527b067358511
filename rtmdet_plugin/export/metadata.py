"""What goes into an exported model beside its weights, gathered from the config and the checkpoint."""

from __future__ import annotations

from typing import Any

from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from torch import nn

from rtmdet_runtime import ModelInfo
from rtmdet_runtime.info import fits

from ..version import __version__

ALL = 2**31 - 1
"""`nms_pre` of a model all of whose candidates take part."""


def class_names(model: nn.Module) -> tuple[str, ...]:
    """Those that the checkpoint names, else those of the config's test set, else numbers.

    Only names that are as many as the head's classes count.
    """
    dataset = (model.cfg.get('test_dataloader') or {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    count = model.bbox_head.num_classes
    for meta in (getattr(model, 'dataset_meta', None), dataset.get('metainfo')):
        names = meta.get('classes') if isinstance(meta, dict) else None
        names = (names,) if isinstance(names, str) else names
        names = tuple(names) if isinstance(names, (tuple, list)) else ()
        if len(names) == count:
            return names
    return numbered_classes(count)


def numbered_classes(count: int) -> tuple[str, ...]:
    """'class 0', 'class 1', ...: names where nobody has given any."""
    return tuple(f'class {i}' for i in range(count))


def test_pipeline(config: Config) -> list[dict]:
    """The steps that a picture goes through in testing: those of the test set, else `test_pipeline`.

    Raises:
        ValueError: where the config has neither, or it isn't a list of steps.
    """
    if config.get('test_dataloader'):
        try:
            steps = get_test_pipeline_cfg(config)
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f'test_dataloader of the config has no data set with a pipeline: {error}') from None
    else:
        steps = config.get('test_pipeline')
    if not steps:
        raise ValueError('the config says nothing about testing; accepted: one with test_dataloader or test_pipeline')
    if not isinstance(steps, (tuple, list)) or not all(isinstance(step, dict) and 'type' in step for step in steps):
        raise ValueError(f"the test pipeline is {steps}; accepted: a list of steps such as dict(type='Resize', ...)")
    return steps


def preprocessing(config: Config) -> dict:
    """`input_size`, `keep_ratio` and `pad_value` of a config's test pipeline.

    Raises:
        ValueError: where there is none, or it isn't `Resize` to a size, then (unless it stretches) `Pad` to it.
    """
    steps = {step_name(step): step for step in test_pipeline(config)}
    resize, pad = steps.get('Resize', {}), steps.get('Pad', {})
    scale = resize.get('scale')
    if not isinstance(scale, (tuple, list)) or len(scale) != 2 or not all(isinstance(side, int) for side in scale):
        raise ValueError(f'test_pipeline: Resize has scale={scale}; accepted: (width, height)')
    width, height = scale
    keep_ratio = resize.get('keep_ratio', False)
    if keep_ratio and pad.get('size') not in ((width, height), [width, height]):
        raise ValueError(f'test_pipeline: Pad has size={pad.get("size")}; accepted: that of Resize, {(width, height)}')
    value = pad.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, dict) else value
    pad_value = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
    return dict(input_size=(height, width), keep_ratio=keep_ratio, pad_value=pad_value)


def step_name(step: dict) -> str:
    """The type of a pipeline's step, without the scope in `mmdet.Resize`."""
    return str(step['type']).rpartition('.')[2]


def check_test_cfg(test_cfg: ConfigDict) -> None:
    """Raise a `ValueError` for a model's `test_cfg` that is none, or has a threshold that isn't a number."""
    if not isinstance(test_cfg, dict):
        raise ValueError(f"model.test_cfg={test_cfg!r}; accepted: dict(nms=dict(type='nms', iou_threshold=...), ...)")
    nms = test_cfg.get('nms', {})
    if not isinstance(nms, dict):
        raise ValueError(f"test_cfg.nms={nms!r}; accepted: dict(type='nms', iou_threshold=...)")
    for part, names in ((test_cfg, ('score_thr', 'nms_pre', 'max_per_img')), (nms, ('iou_threshold',))):
        for name in names:
            everything = name == 'nms_pre' and part.get(name) is None
            if name in part and not everything and not fits(part[name], float):
                raise ValueError(f'test_cfg: {name}={part[name]!r}; accepted: a number')


def thresholds(test_cfg: ConfigDict) -> dict:
    """`score_thr`, `iou_thr`, `nms_pre` and `max_per_img` of a model's `test_cfg`.

    `nms_pre` is `ALL` where mmdet has -1 or None for it.

    Raises:
        ValueError: see `check_test_cfg`; for another NMS than the greedy one as well.
    """
    check_test_cfg(test_cfg)
    nms = test_cfg.get('nms', {})
    if nms.get('type', 'nms') != 'nms' or 'iou_threshold' not in nms:
        raise ValueError(f"test_cfg.nms={nms}; accepted: dict(type='nms', iou_threshold=...)")
    nms_pre = test_cfg.get('nms_pre', 30000)
    return dict(
        score_thr=test_cfg.get('score_thr', 0),
        iou_thr=nms['iou_threshold'],
        nms_pre=ALL if nms_pre is None or nms_pre <= 0 else nms_pre,
        max_per_img=test_cfg.get('max_per_img', 100),
    )


def model_info(model: nn.Module, form: str, size: tuple[int, int] | None, replaced: dict) -> ModelInfo:
    """Everything that the runtime needs to know.

    Args:
        model: from `load_model`.
        form: of the graph.
        size: (height, width) of the input; None for the test pipeline's.
        replaced: `score_thr`, `iou_thr`, `max_per_img` that replace those of the model's `test_cfg`; None doesn't.

    Raises:
        ValueError: see `preprocessing` and `thresholds`.
    """
    head: Any = model.bbox_head
    config: Any = model.cfg
    normalization = config.model.get('data_preprocessor', {})
    settings = preprocessing(config)
    if size is not None:
        settings['input_size'] = size
    return ModelInfo(
        form=form,
        classes=class_names(model),
        mean=tuple(normalization.get('mean') or (0, 0, 0)),
        std=tuple(normalization.get('std') or (1, 1, 1)),
        to_rgb=normalization.get('bgr_to_rgb', False),
        strides=tuple(stride[0] for stride in head.prior_generator.strides),
        exp_on_reg=head.exp_on_reg,
        version=__version__,
        **settings,
        **(thresholds(head.test_cfg) | {name: value for name, value in replaced.items() if value is not None}),
    )
