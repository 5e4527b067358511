"""Compare a backend's detections with PyTorch's on one image."""

from dataclasses import dataclass

import numpy as np
import torch
from mmengine.structures import InstanceData
from torch import Tensor


@dataclass(frozen=True)
class Comparison:
    """Largest differences between two sets of detections.

    Attributes:
        num_boxes: number of PyTorch's boxes that were compared.
        box: largest difference of a coordinate to the nearest box of the same class, in pixels of the image;
            infinite if the other set has no box of a class.
        score: largest difference of the score to that box's.
        masks: IoU of the masks, see `mask_iou`; None if one of the sets has none.
    """

    num_boxes: int
    box: float
    score: float
    masks: float | None = None

    def __str__(self) -> str:
        text = f'{self.num_boxes} boxes, differences of at most {self.box:.3g} px and {self.score:.3g} in score'
        return text if self.masks is None else f'{text}, IoU of masks {self.masks:.3f}'


def compare(expected: InstanceData, actual: InstanceData, *, sure_score: float) -> Comparison:
    """Compare two sets of detections in both directions: every box must have a partner in the other set.

    Args:
        expected: PyTorch's `bboxes` (N, 4), `scores` (N,) and `labels` (N,), and maybe `masks`.
        actual: the backend's.
        sure_score: boxes with lower scores may be missing in the other set: the score threshold plus a margin.
    """
    box, score = 0.0, 0.0
    for one, other in ((expected, actual), (actual, expected)):
        sure = one.scores >= sure_score
        boxes, scores = _differences(_rows(one)[sure], _rows(other))
        box, score = max([box, *boxes]), max([score, *scores])
    sure = expected[expected.scores >= sure_score]
    masks = mask_iou(sure, actual) if 'masks' in expected and 'masks' in actual else None
    return Comparison(len(sure), box, score, masks)


def mask_iou(expected: InstanceData, actual: InstanceData) -> float:
    """Return the IoU of all masks together: the sum of common pixels over that of pixels in either mask.

    Each of PyTorch's masks is compared with that of the other set's box of its class that differs least in coordinates
    and score.

    Args:
        expected: `masks` that index as arrays (H, W), and `bboxes`, `scores` and `labels`.
        actual: the same of the other set.
    """
    if not len(expected) or not len(actual):
        return float(len(expected) == 0)
    rows, others = _rows(expected), _rows(actual)
    partners = (_distances(rows, others) + (rows[:, None, 4] - others[None, :, 4]).abs()).argmin(dim=1).tolist()
    common = either = 0
    for place, partner in enumerate(partners):
        mask, other = (np.asarray(masks[:, :], bool) for masks in (expected.masks[place], actual.masks[partner]))
        common += np.count_nonzero(mask & other)
        either += np.count_nonzero(mask | other)
    return float(common / either) if either else 1.0


def _rows(instances: InstanceData) -> Tensor:
    """Return rows of x1, y1, x2, y2, score, label. (N, 6)."""
    return torch.cat((instances.bboxes, instances.scores[:, None], instances.labels[:, None]), dim=1).double().cpu()


def _differences(rows: Tensor, others: Tensor) -> tuple[list[float], list[float]]:
    """Return each row's difference from the nearest row of the same class: of the coordinates, and of the score."""
    if not len(rows):
        return [], []
    if not len(others):
        return [float('inf')], [0.0]
    nearest = _distances(rows, others).min(dim=1)
    return nearest.values.tolist(), (rows[:, 4] - others[nearest.indices, 4]).abs().tolist()


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    """Return the largest difference of a coordinate between rows, infinite for different classes: (N, M)."""
    distance = (rows[:, None, :4] - others[None, :, :4]).abs().amax(dim=2)
    distance[rows[:, None, 5] != others[None, :, 5]] = float('inf')
    return distance
