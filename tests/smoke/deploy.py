"""The extras `lite` and `deploy`: random weights become ONNX through both exporters, and give PyTorch's boxes."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from rtmdet_plugin import RTMDetPredictor
from rtmdet_runtime import RTMDetector

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from oracle import vary_predictions  # noqa: E402

CONFIG = 'rtmdet_plugin::rtmdet_nano_person.py'
OPSETS = (17, 18)  # TorchScript's exporter, and dynamo's
THRESHOLDS = dict(score_thr=0.1, max_per_img=50)


def write_weights(path: Path) -> None:
    """Write random weights of `CONFIG` with which boxes differ between priors."""
    base = Path('nano.py')
    base.write_text(f"_base_ = '{CONFIG}'\n")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(base).model)
    vary_predictions(model, cls_std=3, norm_std=0.1)
    torch.save(dict(state_dict=model.state_dict()), path)


def rtmdet(*arguments: object) -> None:
    subprocess.run(['rtmdet', *map(str, arguments)], check=True)


weights, image = Path('nano.pth'), Path('image.png')
write_weights(weights)
cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8))
expected = RTMDetPredictor(CONFIG, weights, **THRESHOLDS).predict(image)
assert len(expected) == THRESHOLDS['max_per_img'], f'{len(expected)} boxes are too few to compare'
for opset in OPSETS:
    exported = Path(f'opset_{opset}.onnx')
    rtmdet('export', CONFIG, weights, '-o', exported, '--opset', opset)
    found = RTMDetector(exported, **THRESHOLDS).predict(image)
    assert np.allclose(found.scores, expected.scores, atol=1e-4), opset
    distance = np.abs(found.boxes[:, None] - expected.boxes[None]).max(2).min(0)  # pixels to the nearest box
    assert (distance < 0.5).mean() > 0.9, (opset, distance)  # scores that are equal but for rounding may change places
    rtmdet('predict', exported, image, '--json', f'{opset}.json')
rtmdet('benchmark', exported)
