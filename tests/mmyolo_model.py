"""mmyolo's own RTMDet-tiny, and the same with our modules and equal weights."""

import copy
from pathlib import Path

import mmyolo
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmyolo.utils import register_all_modules
from oracle import vary_predictions
from torch import nn

from rtmdet_plugin.checkpoints.mmyolo_keys import rename

register_all_modules(init_default_scope=False)
CONFIGS = Path(mmyolo.__file__).parent / '.mim' / 'configs' / 'rtmdet'
TINY = Config.fromfile(CONFIGS / 'rtmdet_tiny_syncbn_fast_8xb32-300e_coco.py')
TINY.model.backbone.init_cfg = None  # no download
# Only types are replaced: the other arguments are mmyolo's.
PARTS = {
    'backbone': {'backbone.type': 'mmdet.RTMCSPNeXt'},
    'neck': {'neck.type': 'mmdet.RTMCSPNeXtPAFPN'},
    'losses': {'bbox_head.loss_cls.type': 'mmdet.RTMQualityFocalLoss', 'bbox_head.loss_bbox.type': 'mmdet.RTMGIoULoss'},
    'assigner': {
        'train_cfg.assigner.type': 'mmdet.RTMDynamicSoftLabelAssigner',
        'train_cfg.assigner.class_cost': 'own',
        'train_cfg.assigner.dynamic_k': 'all',
    },
}
PARTS['all'] = {key: value for part in PARTS.values() for key, value in part.items()}
HEAD = dict(type='mmdet.RTMSepBNHead', num_classes=80, in_channels=96, feat_channels=96)


def model_config(parts: dict | None = None, head: dict | None = None) -> ConfigDict:
    """Return the config of mmyolo's model with other parts, and with `head` in place of mmyolo's."""
    config = Config(dict(model=copy.deepcopy(TINY.model)))
    config.merge_from_dict({f'model.{key}': value for key, value in (parts or {}).items()})
    if head:
        config.model.bbox_head = ConfigDict(head)
    return config.model


def build(parts: dict | None = None, head: dict | None = None) -> nn.Module:
    """Build the model with the same weights for all parts, with which boxes and scores differ between priors."""
    init_default_scope('mmyolo')
    torch.manual_seed(0)
    ours = MODELS.build(model_config(PARTS['all'], HEAD))
    vary_predictions(ours)
    weights = rename(ours.state_dict(), 'mmyolo')
    model = MODELS.build(model_config(parts, head))
    model.load_state_dict({name: weights[theirs] for theirs, name in names_in(model, weights).items()})
    return model


def names_in(model: nn.Module, weights: dict) -> dict[str, str]:
    """Return mmyolo's name of each weight: its name in a model whose parts have mmyolo's or mmdet's names."""
    names = model.state_dict().keys()
    pairs = zip(weights, rename(weights, 'mmdet'), strict=True)
    return {theirs: theirs if theirs in names else ours for theirs, ours in pairs}
