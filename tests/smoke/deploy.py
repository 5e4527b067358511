"""The extras `lite` and `deploy`: random weights become ONNX through both exporters, and give PyTorch's boxes."""

import subprocess

import cv2
import numpy as np
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from rtmdet_plugin.deploy.predictor import RTMDetPredictor
from rtmdet_runtime import RTMDetector

CONFIG = 'rtmdet_plugin::rtmdet_nano_person.py'
OPSETS = (17, 18)  # TorchScript's exporter, and dynamo's


def rtmdet(*arguments: object) -> None:
    subprocess.run(['rtmdet', *map(str, arguments)], check=True)


init_default_scope('mmdet')
torch.manual_seed(0)
with open('nano.py', 'w') as file:
    file.write(f"_base_ = '{CONFIG}'\n")
model = MODELS.build(Config.fromfile('nano.py').model)
model.init_weights()
torch.save(dict(state_dict=model.state_dict()), 'nano.pth')
cv2.imwrite('image.png', np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8))

expected = RTMDetPredictor('nano.py', 'nano.pth').predict('image.png')
assert len(expected) > 0, 'random weights give boxes above the threshold of evaluation'
for opset in OPSETS:
    name = f'nano_{opset}.onnx'
    rtmdet('export', CONFIG, 'nano.pth', '-o', name, '--opset', opset)
    found = RTMDetector(name).predict('image.png')
    assert abs(len(found) - len(expected)) <= 1, (opset, len(found), len(expected))
    assert np.allclose(np.sort(found.scores)[-50:], np.sort(expected.scores)[-50:], atol=1e-4), opset
    rtmdet('predict', name, 'image.png', '--json', f'{opset}.json')
rtmdet('benchmark', 'nano_17.onnx')
