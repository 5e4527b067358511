"""NMS as compiled mmcv's CPU op does it, without compiled code of our own.

Same float32 arithmetic, order and comparison, so the same boxes: by score, downwards, equal scores in input order; a
box goes when its IoU with a kept one is *above* the threshold; `offset` is added to every width and height. Boxes
without area (0 / 0 is NaN, and NaN is above nothing) neither suppress nor get suppressed.

torchvision's NMS does the work where it is installed and `offset` is 0. Else numpy does, on the CPU: boxes on a GPU
make one round trip. numpy and not PyTorch because these are many small steps, and PyTorch's thread pool makes each of
them wait for a core that a data loader holds (seen on 2 busy cores: seconds instead of 50 ms).
"""

import functools

import numpy as np
import torch
from torch import Tensor

BLOCK = 512
"""Boxes whose fate is settled together: one block of the best removes most of a cluster."""
GROUP = 32
"""Kept boxes, neighbours in x, that look together for boxes to suppress."""
PAIRS = 1 << 16
"""Pairs computed at once: their buffers stay in a core's cache."""


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
    order = torch.argsort(scores, descending=True, stable=True)
    kept = greedy_nms(_Sides.of(bboxes[order].cpu().numpy(), offset), threshold)
    return order[torch.from_numpy(kept).to(order.device)]


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


class _Sides:
    """Boxes as contiguous rows x1, y1, x2, y2, area. (5, N)"""

    def __init__(self, rows: np.ndarray, offset: int):
        self.rows, self.offset = rows, offset

    @classmethod
    def of(cls, boxes: np.ndarray, offset: int) -> '_Sides':
        x1, y1, x2, y2 = boxes.T
        return cls(np.stack([x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset)]), offset)

    def __getitem__(self, index) -> '_Sides':
        return _Sides(self.rows[:, index], self.offset)

    def __len__(self) -> int:
        return self.rows.shape[1]

    def iou(self, other: '_Sides') -> np.ndarray:
        """IoU of each own box with each other one. (N, M)"""
        x1, y1, x2, y2, area = self.rows[:, :, None]  # (N, 1) each
        other_x1, other_y1, other_x2, other_y2, other_area = other.rows[:, None]  # (1, M) each
        overlap = self._extent(np.minimum(x2, other_x2), np.maximum(x1, other_x1))
        overlap *= self._extent(np.minimum(y2, other_y2), np.maximum(y1, other_y1))
        union = area + other_area
        union -= overlap
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.divide(overlap, union, out=overlap)

    def _extent(self, end: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """Length of the common part, 0 where there is none; works in `end`."""
        end -= begin
        if self.offset:
            end += self.offset
        return np.maximum(end, 0, out=end)


def greedy_nms(boxes: _Sides, threshold: float) -> np.ndarray:
    """Which boxes stay; they are sorted by score, downwards, and so is the result. (K,)"""
    undecided = np.argsort(boxes.rows[0], kind='stable')  # lined up by x1
    kept = []
    while len(undecided):
        last = min(BLOCK, len(undecided)) - 1
        best = undecided <= np.partition(undecided, last)[last]
        block = np.sort(undecided[best])
        block = block[_settle(boxes[block], threshold)]
        kept.append(block)
        undecided = undecided[~best]
        if len(undecided):
            undecided = undecided[~_suppressed(boxes[block], boxes[undecided], threshold)]
    return np.concatenate(kept)


def _settle(block: _Sides, threshold: float) -> np.ndarray:
    """Greedy NMS one by one, among boxes that are sorted by score: which of them stay. (N,), bool"""
    above = np.triu(block.iou(block) > threshold, 1)
    keep = np.ones(len(block), dtype=bool)
    for row in np.flatnonzero(above.any(1)):
        if keep[row]:
            keep &= ~above[row]
    return keep


def _suppressed(kept: _Sides, others: _Sides, threshold: float) -> np.ndarray:
    """Which of the others have an IoU above the threshold with one of the kept boxes. (M,), bool

    The others are sorted by x1. Two boxes whose IoU is above t have their left sides at most `width * (1 - t) / t`
    apart, with the width of either: what both cover together is at most `width / t` long.
    """
    kept = kept[np.argsort(kept.rows[0])]
    x1 = kept.rows[0]
    width = np.maximum(kept.rows[2] - x1 + kept.offset, 0)
    # A bit more than the bound, for the rounding of the IoU.
    reach = width * ((1 - threshold) / threshold * 1.001 + 1e-4) if threshold > 0 else width + np.inf
    groups = np.arange(0, len(kept), GROUP)
    begins = np.searchsorted(others.rows[0], np.minimum.reduceat(x1 - reach, groups))
    ends = np.searchsorted(others.rows[0], np.maximum.reduceat(x1 + reach, groups), side='right')
    hit = np.zeros(len(others), dtype=bool)
    step = PAIRS // GROUP
    for group, begin, end in zip(groups, begins, ends, strict=True):
        some = kept[group : group + GROUP]
        for start in range(begin, end, step):
            part = slice(start, min(start + step, end))
            hit[part] |= (some.iou(others[part]) > threshold).any(0)
    return hit
