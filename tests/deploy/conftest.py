"""A model to export: the published person weights, or random ones of any size."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from torch import nn

from rtmdet_plugin.deploy.checkpoint import load_model

CONFIGS = Path(__file__).parents[2] / 'configs'


def random_model(size: str, seed: int = 0) -> nn.Module:
    """A model of configs/, with weights and statistics such that its boxes and scores differ between priors."""
    torch.manual_seed(seed)
    config = Config.fromfile(CONFIGS / f'rtmdet_{size}.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    model.init_weights()
    head = model.bbox_head
    with torch.no_grad():
        for layer in head.rtm_cls:
            layer.weight.normal_(std=0.3)
            layer.bias.fill_(-2.0)
        for layer in head.rtm_reg:
            layer.weight.normal_(std=0.1)
            layer.bias.fill_(0.7 if head.exp_on_reg else 2.0)  # boxes of about four cells
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(std=0.1)
    model.cfg = config
    return model.eval()


@pytest.fixture(scope='session')
def person_model(weights_root) -> nn.Module:
    return load_model(CONFIGS / 'rtmdet_nano_person.py', weights_root / 'rtmdet_nano_person.pth')
