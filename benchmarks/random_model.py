"""An image and random weights with which prediction has as much work as with trained ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rtmdet_plugin.export.forms import predict_boxes
from rtmdet_runtime.image import Image, letterbox

CONFIGS = Path(__file__).parents[1] / 'configs'


def load_image() -> Image:
    """Return an image of 480 x 640, BGR, uint8."""
    if 'RTMDET_DATA' in os.environ:
        folder = Path(os.environ['RTMDET_DATA']) / 'coco_tiny' / 'val2017'
        return cv2.resize(cv2.imread(str(sorted(folder.iterdir())[0])), (640, 480))
    return np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)


def random_checkpoint(size: str, path: Path, image: Image, candidates: int = 3000) -> Path:
    """Save random weights of a config's model that give `candidates` scores above its threshold on an image."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    config = Config.fromfile(CONFIGS / f'rtmdet_{size}.py')
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model).eval()
    head, normalization = model.bbox_head, config.model.data_preprocessor
    canvas, _ = letterbox(image, (640, 640), (114, 114, 114))
    inputs = (torch.from_numpy(canvas).float() - torch.tensor(normalization.mean)) / torch.tensor(normalization.std)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
        for layer in head.rtm_cls:
            layer.weight.normal_(std=0.3)
        for layer in head.rtm_reg:
            layer.weight.normal_(std=0.1)
            layer.bias.fill_(0.7 if head.exp_on_reg else 2.0)  # boxes of about four cells
        logits, _ = predict_boxes(model, model.extract_feat(inputs.permute(2, 0, 1)[None]))
        lowest = torch.cat([level.flatten() for level in logits]).topk(candidates).values[-1]
        threshold = torch.tensor(config.model.test_cfg.score_thr).logit()
        for layer in head.rtm_cls:
            layer.bias += threshold - lowest
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path
