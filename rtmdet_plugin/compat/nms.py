"""NMS and soft-NMS as compiled mmcv's CPU ops do them, in PyTorch.

Same float32 arithmetic, order and comparison, so the same boxes: by score, downwards, equal scores in input order; a
box goes when its IoU with a kept one is *above* the threshold; `offset` is added to every width and height. Boxes
without area (0 / 0 is NaN, and NaN is above nothing) neither suppress nor get suppressed.

torchvision's compiled NMS does the work where it is installed, and `offset` is 0. Else `greedy_nms` does: no compiler,
any device, and no host round trip per box.
"""

import functools

import numpy as np
import torch
from torch import Tensor

BLOCK = 512
"""Boxes whose fate is settled together: pairs within a block are few, and one block removes most of a cluster."""
PAIRS = 1 << 18
"""Pairs computed at once: their float32 buffers stay in a core's cache."""


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Indices of the boxes that greedy NMS keeps, by score, downwards. (K,)

    The signature is that of `mmcv._ext.nms`.

    Args:
        bboxes: boxes, xyxy. (N, 4)
        scores: their scores. (N,)
        iou_threshold: a box goes where its IoU with a better one is above this.
        offset: 0 or 1, added to widths and heights (1: coordinates are pixel indices).
    """
    if bboxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=bboxes.device)
    # Compiled mmcv compares float with float: 0.6 as a double would let an IoU of float32(0.6) count as above it.
    threshold = float(np.float32(iou_threshold))
    bboxes, scores = _wide(bboxes), _wide(scores)
    compiled = _torchvision_nms()
    if compiled is not None and offset == 0:
        return compiled(bboxes, scores, threshold)
    return greedy_nms(bboxes, scores, threshold, offset)


@functools.cache
def _torchvision_nms():
    """torchvision's NMS, or None; a torchvision whose compiled part doesn't fit this torch counts as none."""
    try:
        from torchvision.ops import nms as compiled

        compiled(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, AttributeError):
        return None
    return compiled


def _wide(values: Tensor) -> Tensor:
    """Detached, and float32 for half types: half has no room for a pixel's coordinates plus a class offset."""
    values = values.detach()
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def greedy_nms(boxes: Tensor, scores: Tensor, threshold: float, offset: int) -> Tensor:
    """`nms` without compiled code."""
    order = torch.argsort(scores, descending=True, stable=True)
    sides = _Sides.of(boxes[order], offset)
    left = torch.arange(len(order), device=boxes.device)  # undecided, best first
    kept = []
    while len(left):
        block, left = left[:BLOCK], left[BLOCK:]
        block = block[_settle(sides[block], threshold)]
        kept.append(block)
        if len(left):
            left = left[~_suppressed(sides[block], sides[left], threshold)]
    return order[torch.cat(kept)]


class _Sides:
    """Boxes as five contiguous rows: x1, y1, x2, y2, area. (5, N)"""

    def __init__(self, rows: Tensor, offset: int):
        self.rows, self.offset = rows, offset

    @classmethod
    def of(cls, boxes: Tensor, offset: int) -> '_Sides':
        x1, y1, x2, y2 = boxes.unbind(1)
        return cls(torch.stack([x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset)]), offset)

    def __getitem__(self, index) -> '_Sides':
        return _Sides(self.rows[:, index], self.offset)

    def __len__(self) -> int:
        return self.rows.shape[1]

    def above(self, other: '_Sides', threshold: float) -> Tensor:
        """Whether the IoU of each own box with each other one is above the threshold. (N, M), bool"""
        x1, y1, x2, y2, area = self.rows[:, :, None]  # (N, 1) each
        other_x1, other_y1, other_x2, other_y2, other_area = other.rows[:, None]  # (1, M) each
        width = torch.minimum(x2, other_x2).sub_(torch.maximum(x1, other_x1))
        height = torch.minimum(y2, other_y2).sub_(torch.maximum(y1, other_y1))
        if self.offset:
            width += self.offset
            height += self.offset
        overlap = width.clamp_(min=0).mul_(height.clamp_(min=0))
        union = (area + other_area).sub_(overlap)
        return overlap.div_(union) > threshold


def _settle(block: _Sides, threshold: float) -> Tensor:
    """Greedy NMS within a block that is sorted by score: which of its boxes stay. (N,), bool"""
    above = block.above(block, threshold).triu_(1).cpu().numpy()
    keep = np.ones(len(above), dtype=bool)
    for row in np.flatnonzero(above.any(1)):
        if keep[row]:
            keep &= ~above[row]
    return torch.from_numpy(keep).to(block.rows.device)


def _suppressed(kept: _Sides, others: _Sides, threshold: float) -> Tensor:
    """Which of the others have an IoU above the threshold with one of the kept boxes. (M,), bool"""
    step = max(1, PAIRS // max(1, len(kept)))
    parts = [
        kept.above(others[start : start + step], threshold).any(0) for start in range(0, len(others), step)
    ]
    return torch.cat(parts)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    raise NotImplementedError
