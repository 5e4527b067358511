"""A folder with `deploy.json`, run by mmdeploy's SDK.

With numpy 2.4, `Detector` of `mmdeploy_runtime` 1.3.1 gives right boxes and scores, but labels that are all alike: the
array comes back with a stride of 0. (The wheel is older than numpy 2, whose array descriptors are laid out differently;
with numpy 1.26.4 the labels are right.) As a `Pipeline`, the same model gives plain Python numbers, which are right.
"""

from pathlib import Path

import cv2
import torch
from mmengine.structures import InstanceData


def detect(folder: Path, image: str | Path, device: str = 'cpu') -> InstanceData:
    """Boxes of one picture.

    Args:
        folder: what `deploy` has written.
        image: the picture.
        device: 'cpu' or 'cuda:0'.

    Returns:
        `bboxes` (N, 4), xyxy in pixels of the picture, `scores` (N,), `labels` (N,).
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
