"""The configs for ImageNet load without mmpretrain, and their weights reach the backbone of a detector."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from rtmdet_plugin import publish

ROOT = Path(__file__).parents[2]
PARAMS = dict(tiny=2.73, s=4.89, m=13.05, l=27.16, x=48.85)
"""Millions of parameters that mmdet reports for backbone and classifier."""


def load(folder: str, name: str) -> Config:
    init_default_scope('mmdet')
    return Config.fromfile(ROOT / folder / f'{name}.py', import_custom_modules=False)


def classifier(config: Config) -> nn.ModuleDict:
    """Backbone and classifier with the keys that mmpretrain's ImageClassifier gives them."""
    head = nn.ModuleDict(dict(fc=nn.Linear(config.model.head.in_channels, config.model.head.num_classes)))
    return nn.ModuleDict(dict(backbone=MODELS.build(config.model.backbone), head=head))


@pytest.mark.parametrize('size', PARAMS)
def test_the_backbone_is_that_of_the_detector(size):
    with torch.device('meta'):
        model = classifier(load('projects/imagenet', f'cspnext_{size}')).eval()
        (features,) = model.backbone(torch.empty(1, 3, 224, 224))
        detector = MODELS.build(load('configs', f'rtmdet_{size}').model.backbone)
    assert features.shape == (1, model.head.fc.in_features, 7, 7)
    found, expected = model.backbone.state_dict(), detector.state_dict()
    assert {name: value.shape for name, value in found.items()} == {k: v.shape for k, v in expected.items()}
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == pytest.approx(PARAMS[size], abs=0.011)


def test_settings_that_follow_from_each_other():
    config = load('projects/imagenet', 'cspnext_s')
    warm_up, cosine = config.param_scheduler
    assert warm_up.end == cosine.begin and cosine.end == config.train_cfg.max_epochs == 600
    assert cosine.T_max == cosine.end - cosine.begin
    assert config.auto_scale_lr.base_batch_size == 8 * config.train_dataloader.batch_size
    blue_to_red = config.model.data_preprocessor.mean[::-1]
    assert config.train_pipeline[3].hparams.pad_val == [round(value) for value in blue_to_red]


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth', None])
def test_a_checkpoint_becomes_the_backbone_of_a_detector(suffix, tmp_path):
    """`None`: the checkpoint of the training itself."""
    if suffix == '.safetensors':
        pytest.importorskip('safetensors')
    torch.manual_seed(0)
    weights = classifier(load('projects/imagenet', 'cspnext_tiny')).state_dict()
    weights = {name: torch.rand_like(value) if value.is_floating_point() else value for name, value in weights.items()}
    path = tmp_path / 'epoch_600.pth'
    torch.save(dict(state_dict=weights, meta=dict(epoch=600), optimizer=dict(state={}), message_hub={}), path)
    if suffix:
        path = publish(path, tmp_path / f'backbone{suffix}').path

    config = load('configs', 'rtmdet_tiny').model.backbone
    config.init_cfg = dict(type='Pretrained', prefix='backbone.', checkpoint=str(path))
    for kind in ('RTMCSPNeXt', 'CSPNeXt'):
        backbone = MODELS.build(dict(config, type=kind))
        backbone.init_weights()
        for name, value in backbone.state_dict().items():
            assert value.equal(weights[f'backbone.{name}']), name
