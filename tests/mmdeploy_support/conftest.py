"""A small model with weights that find boxes everywhere, and an image."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from oracle import vary_predictions

CONFIGS = Path(__file__).parents[2] / 'configs'
SIZE = 96  # pixels: 12, 6 and 3 cells


class Inputs(NamedTuple):
    """The first four arguments of `deploy`; change one with `_replace`."""

    config: Config
    checkpoint: Path
    deploy_cfg: Config
    image: Path


@pytest.fixture(scope='session')
def deploy_config():
    """See `_deploy_config`."""
    return _deploy_config


def _deploy_config(name: str, *, size=(SIZE, SIZE), **post_processing) -> Config:
    """Return one of configs/deploy/ at a small size, which is fast."""
    cfg = Config.fromfile(CONFIGS / 'deploy' / f'{name}.py')
    cfg.onnx_config.input_shape = size
    cfg.codebase_config.post_processing.update(post_processing)
    return cfg


@pytest.fixture(scope='session')
def inputs(tmp_path_factory) -> Inputs:
    folder = tmp_path_factory.mktemp('inputs')
    torch.manual_seed(0)
    config = Config.fromfile(CONFIGS / 'rtmdet_nano.py')
    config.model.bbox_head.num_classes = 3
    model = MODELS.build(config.model)
    model.init_weights()
    vary_predictions(model, cls_std=0.5, cls_bias=-1.0)
    torch.save(dict(state_dict=model.state_dict()), folder / 'nano.pth')
    pixels = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / 'image.png'), pixels)
    return Inputs(config, folder / 'nano.pth', _deploy_config('onnxruntime_static'), folder / 'image.png')
