"""Run a folder with `deploy.json` by mmdeploy's SDK.

With numpy 2.4, `Detector` of `mmdeploy_runtime` 1.3.1 returns correct boxes and scores, but the same label for all: the
array has a stride of 0. (The wheel is older than numpy 2, whose array descriptors have another layout; with numpy
1.26.4 the labels are correct.) As a `Pipeline`, the same model returns plain Python numbers, which are correct.
"""

from pathlib import Path

import cv2
import torch
from mmengine.structures import InstanceData


def detect(folder: Path, image: str | Path, device: str = 'cpu') -> InstanceData:
    """Detect objects in one image.

    Args:
        folder: folder that `deploy` has written.
        image: file of the image.
        device: 'cpu' or 'cuda:0'.

    Returns:
        `bboxes` (N, 4), xyxy in pixels of the image, `scores` (N,), `labels` (N,).
    """
    from mmdeploy_runtime import Context, Device, Model, Pipeline

    kind, _, index = device.partition(':')
    task = dict(
        type='Inference', params=dict(model=Model(str(folder))), name='detector', input=['img'], output=['dets']
    )
    pipeline = Pipeline(
        dict(type='Pipeline', input=['img'], output=['dets'], tasks=[task]), Context(Device(kind, int(index or 0)))
    )
    (found,) = pipeline(dict(ori_img=cv2.imread(str(image))))
    return InstanceData(
        bboxes=torch.tensor([box['bbox'] for box in found]).reshape(-1, 4),
        scores=torch.tensor([box['score'] for box in found]),
        labels=torch.tensor([box['label_id'] for box in found], dtype=torch.long),
    )
