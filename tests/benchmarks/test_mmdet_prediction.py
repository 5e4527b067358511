"""benchmarks/mmdet_prediction.py: each way to run mmdet's own model predicts what mmdet predicts."""

from pathlib import Path

import cv2
import mmdet
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from oracle import vary_predictions

pytest.importorskip('mmdeploy', reason='mmdeploy is not installed')

from mmdet_prediction import mmdet_steps  # noqa: E402

MMDET_CONFIGS = Path(mmdet.__file__).parent / '.mim' / 'configs' / 'rtmdet'


@pytest.mark.slow
def test_each_way_finds_what_mmdet_finds(tmp_path):
    config = Config.fromfile(MMDET_CONFIGS / 'rtmdet_tiny_8xb32-300e_coco.py')
    config.model.backbone.init_cfg = None
    config.model.test_cfg.max_per_img = 100
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    vary_predictions(model, norm_std=0.1)
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'w.pth')
    # Square, because mmdeploy's stock export stretches other images.
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    image = cv2.resize(noise, (640, 640), interpolation=cv2.INTER_CUBIC)
    steps = mmdet_steps(config, tmp_path / 'w.pth', image, tmp_path, threads=1)
    in_torch, by_mmdeploy, graph = (step() for step in steps.values())
    expected = in_torch.pred_instances
    assert len(expected) == 100
    for boxes, scores in (
        (by_mmdeploy.bboxes.numpy(), by_mmdeploy.scores.numpy()),
        (graph[0][:, :4].clip(0, 640), None),
    ):
        # A graph doesn't clip before its NMS: a few boxes at the border differ.
        distance = np.abs(expected.bboxes.numpy()[:, None] - boxes.clip(0, 640)[None]).max(-1).min(1)
        assert (distance < 0.5).mean() > 0.8
        if scores is not None:
            assert scores[0] == pytest.approx(expected.scores[0].item(), abs=1e-3)
