"""Compare a backend's detections with PyTorch's on one image."""

from dataclasses import dataclass

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
    """

    num_boxes: int
    box: float
    score: float

    def __str__(self) -> str:
        return f'{self.num_boxes} boxes, differences of at most {self.box:.3g} px and {self.score:.3g} in score'


def compare(expected: InstanceData, actual: InstanceData, *, sure_score: float) -> Comparison:
    """Compare two sets of detections in both directions: every box must have a partner in the other set.

    Args:
        expected: PyTorch's `bboxes` (N, 4), `scores` (N,) and `labels` (N,).
        actual: the backend's.
        sure_score: boxes with lower scores may be missing in the other set: the score threshold plus a margin.
    """
    box, score = 0.0, 0.0
    for one, other in ((expected, actual), (actual, expected)):
        sure = one.scores >= sure_score
        boxes, scores = _differences(_rows(one)[sure], _rows(other))
        box, score = max([box, *boxes]), max([score, *scores])
    return Comparison(int((expected.scores >= sure_score).sum()), box, score)


def _rows(instances: InstanceData) -> Tensor:
    """Return rows of x1, y1, x2, y2, score, label. (N, 6)."""
    return torch.cat((instances.bboxes, instances.scores[:, None], instances.labels[:, None]), dim=1).double().cpu()


def _differences(rows: Tensor, others: Tensor) -> tuple[list[float], list[float]]:
    """Return each row's difference from the nearest row of the same class: of the coordinates, and of the score."""
    if not len(rows):
        return [], []
    if not len(others):
        return [float('inf')], [0.0]
    distance = (rows[:, None, :4] - others[None, :, :4]).abs().amax(dim=2)  # (N, M)
    distance[rows[:, None, 5] != others[None, :, 5]] = float('inf')
    nearest = distance.min(dim=1)
    return nearest.values.tolist(), (rows[:, 4] - others[nearest.indices, 4]).abs().tolist()
