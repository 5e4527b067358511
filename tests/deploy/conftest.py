"""Models to export: random ones of any size. Trained ones are `shapes_model` of tests/conftest.py."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from oracle import vary_predictions
from torch import nn

pytest.importorskip('onnx', reason='onnx is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

CONFIGS = Path(__file__).parents[2] / 'configs'


def build_random(size: str) -> nn.Module:
    torch.manual_seed(0)
    config = Config.fromfile(CONFIGS / f'rtmdet_{size}.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    vary_predictions(model, norm_std=0.1)
    model.cfg = config
    return model.eval()


@pytest.fixture(scope='session')
def random_model():
    """A function: a size of configs/ -> its model with weights and statistics by which boxes differ between priors.

    One model is kept, because the large ones are large.
    """
    kept = {}

    def get(size: str) -> nn.Module:
        if size not in kept:
            kept.clear()
            kept[size] = build_random(size)
        return kept[size]

    return get
