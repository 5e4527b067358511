"""A folder with `deploy.json`, run by mmdeploy's SDK."""

from pathlib import Path

import cv2
import torch
from mmengine.structures import InstanceData


def detect(folder: Path, image: str | Path, device: str = 'cpu') -> InstanceData:
    """Boxes of one picture through `mmdeploy_runtime.Detector`.

    Returns:
        `bboxes` (N, 4), xyxy in pixels of the picture, `scores` (N,), `labels` (N,).
    """
    from mmdeploy_runtime import Detector

    kind, _, index = device.partition(':')
    dets, labels, _ = Detector(str(folder), kind, int(index or 0))(cv2.imread(str(image)))
    dets = torch.from_numpy(dets)
    return InstanceData(bboxes=dets[:, :4], scores=dets[:, 4], labels=torch.from_numpy(labels).long())
