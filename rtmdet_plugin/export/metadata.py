"""Collect the metadata of an exported model from the config and the checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmengine.config import ConfigDict
from torch import nn

from rtmdet_runtime import ModelInfo
from rtmdet_runtime.choices import DEPLOY_THRESHOLDS
from rtmdet_runtime.info import fits

from ..config.pipelines import preprocessing
from ..version import __version__

if TYPE_CHECKING:
    from mmdet.models import BaseDetector

NO_PRE_NMS_LIMIT = 2**31 - 1
"""`nms_pre` of a model whose NMS takes all candidates."""


def class_names(model: BaseDetector) -> tuple[str, ...]:
    """Return the class names of the checkpoint, or else of the config's test set, or else numbered names.

    Names are used only if there is one for each class of the head.
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
    """Return 'class 0', 'class 1', ...: names for classes without names."""
    return tuple(f'class {i}' for i in range(count))


def check_test_cfg(test_cfg: ConfigDict) -> None:
    """Raise a `ValueError` if a model's `test_cfg` isn't a dict, or a threshold in it isn't a number."""
    if not isinstance(test_cfg, dict):
        raise ValueError(
            "model.test_cfg must be a dict such as dict(nms=dict(type='nms', iou_threshold=0.65), ...), got "
            f'{test_cfg!r}'
        )
    nms = test_cfg.get('nms', {})
    if not isinstance(nms, dict):
        raise ValueError(f"test_cfg.nms must be a dict such as dict(type='nms', iou_threshold=0.6), got {nms!r}")
    for part, names in ((test_cfg, ('score_thr', 'nms_pre', 'max_per_img')), (nms, ('iou_threshold',))):
        for name in names:
            unlimited = name == 'nms_pre' and part.get(name) is None
            if name in part and not unlimited and not fits(part[name], float):
                raise ValueError(f'test_cfg: {name} must be a number, got {part[name]!r}')


def thresholds(test_cfg: ConfigDict) -> dict:
    """Return `score_thr`, `iou_thr`, `nms_pre` and `max_per_img` of a model's `test_cfg`.

    `nms_pre` is `NO_PRE_NMS_LIMIT` if mmdet has -1 or None for it.

    Raises:
        ValueError: see `check_test_cfg`; also if the NMS isn't the greedy one.
    """
    check_test_cfg(test_cfg)
    nms = test_cfg.get('nms', {})
    if nms.get('type', 'nms') != 'nms' or 'iou_threshold' not in nms:
        raise ValueError(f"test_cfg.nms must be dict(type='nms', iou_threshold=...), got {nms}")
    nms_pre = test_cfg.get('nms_pre', 30000)
    return dict(
        score_thr=test_cfg.get('score_thr', 0),
        iou_thr=nms['iou_threshold'],
        nms_pre=NO_PRE_NMS_LIMIT if nms_pre is None or nms_pre <= 0 else nms_pre,
        max_per_img=test_cfg.get('max_per_img', 100),
    )


def has_masks(head: nn.Module) -> bool:
    """Return whether a head predicts masks, as that of RTMDet-Ins."""
    return hasattr(head, 'rtm_kernel')


def model_info(
    model: BaseDetector, form: str, size: tuple[int, int] | None, *, for_map: bool = False, **given: float | None
) -> ModelInfo:
    """Collect everything that the runtime needs to know.

    Args:
        model: model of `load_model`.
        form: export format of the graph.
        size: (height, width) of the network's input in pixels; None for the test pipeline's.
        for_map: use the thresholds of the model's `test_cfg`, which are for mAP, instead of `DEPLOY_THRESHOLDS`.
        given: `score_thr`, `iou_thr` and `max_per_img`; each replaces that of `for_map`, unless it is None.

    Raises:
        ValueError: see `preprocessing` and `thresholds`.
    """
    head, config = model.bbox_head, model.cfg
    normalization = config.model.get('data_preprocessor', {})
    settings = preprocessing(config)
    own = thresholds(head.test_cfg)
    settings.update(own if for_map else DEPLOY_THRESHOLDS)
    settings.update({name: value for name, value in given.items() if value is not None})
    if has_masks(head):
        settings.update(
            mask_stride=head.prior_generator.strides[0][0], mask_thr=head.test_cfg.get('mask_thr_binary', 0.5)
        )
    settings.update(
        mean=tuple(normalization.get('mean') or (0, 0, 0)), std=tuple(normalization.get('std') or (1, 1, 1))
    )
    if size is not None:
        settings['input_size'] = size
    return ModelInfo(
        form=form,
        classes=class_names(model),
        to_rgb=normalization.get('bgr_to_rgb', False),
        strides=tuple(stride[0] for stride in head.prior_generator.strides),
        exp_on_reg=getattr(head, 'exp_on_reg', False),  # heads with masks don't have it
        version=__version__,
        **settings,
    )
