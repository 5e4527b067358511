"""Compute the same NMS as compiled mmcv's CPU op, without compiling any code.

The float32 arithmetic, order and comparison are mmcv's, so the same boxes are kept. Boxes are visited by descending
score, equal scores in input order. A box is suppressed if its IoU with a kept box is *above* the threshold. `offset`
is added to every width and height. Boxes without area neither suppress others nor are suppressed: their IoU is 0 / 0,
which is NaN, and NaN is never above the threshold.

If torchvision is installed and `offset` is 0, its NMS is used. Otherwise NumPy computes it on the CPU, so boxes on a
GPU make one round trip. NumPy is used instead of PyTorch because the work consists of many small steps, and PyTorch's
thread pool makes each of them wait for a core that a data loader holds (on 2 busy cores: seconds instead of 50 ms).

`rtmdet_runtime.postprocess.class_wise_nms` is a second NMS in NumPy, which runs without PyTorch. It is for the few
boxes above a threshold, stops at the number of boxes that are wanted, and drops boxes without area. The one here has
mmcv's signature, and is fast for the tens of thousands of boxes of an evaluation. A test compares the two.
"""

import functools

import numpy as np
import torch
from torch import Tensor

BLOCK = 512
"""Number of boxes that are decided together: one block of the best boxes removes most of a cluster."""
GROUP = 32
"""Number of kept boxes, neighbours in x, that are compared with the other boxes together."""
PAIRS = 1 << 16
"""Number of pairs that are computed at once, so that their buffers stay in a core's cache."""


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """Select boxes by greedy NMS; the signature is that of `mmcv._ext.nms`.

    Args:
        bboxes: boxes, xyxy. (N, 4)
        scores: scores of the boxes. (N,)
        iou_threshold: a box is suppressed if its IoU with a kept box of a higher score is above this.
        offset: 0 or 1, added to widths and heights (1: coordinates are pixel indices).

    Returns:
        Indices of the kept boxes, by descending score. (K,)
    """
    if bboxes.numel() == 0:
        return torch.empty(0, dtype=torch.long, device=bboxes.device)
    # Compiled mmcv compares in float32. Against 0.6 as a double, an IoU of float32(0.6) would count as above.
    threshold = float(np.float32(iou_threshold))
    bboxes, scores = _at_least_float32(bboxes), _at_least_float32(scores)
    compiled = _torchvision_nms()
    if compiled is not None and offset == 0:
        return compiled(bboxes, scores, threshold)
    order = torch.argsort(scores, descending=True, stable=True)
    kept = greedy_nms(_Boxes.from_xyxy(bboxes[order].cpu().numpy(), offset), threshold)
    return order[torch.from_numpy(kept).to(order.device)]


@functools.cache
def _torchvision_nms():
    """Return torchvision's NMS, or None if it is missing or its compiled part doesn't match this PyTorch."""
    try:
        from torchvision.ops import nms as compiled

        compiled(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, RuntimeError, AttributeError):
        return None
    return compiled


def _at_least_float32(values: Tensor) -> Tensor:
    """Detach, and convert 16-bit types, which can't represent pixel coordinates plus a class offset, to float32."""
    values = values.detach()
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


class _Boxes:
    """Boxes stored as contiguous rows x1, y1, x2, y2, area of shape (5, N)."""

    def __init__(self, rows: np.ndarray, offset: int):
        self.rows, self.offset = rows, offset

    @classmethod
    def from_xyxy(cls, boxes: np.ndarray, offset: int) -> '_Boxes':
        x1, y1, x2, y2 = boxes.T
        return cls(np.stack([x1, y1, x2, y2, (x2 - x1 + offset) * (y2 - y1 + offset)]), offset)

    def __getitem__(self, index) -> '_Boxes':
        return _Boxes(self.rows[:, index], self.offset)

    def __len__(self) -> int:
        return self.rows.shape[1]

    def iou(self, other: '_Boxes') -> np.ndarray:
        """Return the IoU of each of these N boxes with each of `other`'s M boxes, (N, M)."""
        x1, y1, x2, y2, area = self.rows[:, :, None]  # (N, 1) each
        other_x1, other_y1, other_x2, other_y2, other_area = other.rows[:, None]  # (1, M) each
        overlap = self._extent(np.minimum(x2, other_x2), np.maximum(x1, other_x1))
        overlap *= self._extent(np.minimum(y2, other_y2), np.maximum(y1, other_y1))
        union = area + other_area
        union -= overlap
        with np.errstate(divide='ignore', invalid='ignore'):
            return np.divide(overlap, union, out=overlap)

    def _extent(self, end: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """Return the length of the overlap on one axis, 0 if there is none; overwrites `end`."""
        end -= begin
        if self.offset:
            end += self.offset
        return np.maximum(end, 0, out=end)


def greedy_nms(boxes: _Boxes, threshold: float) -> np.ndarray:
    """Return the indices (K,) of the boxes to keep; input and result are in descending order of score."""
    undecided = np.argsort(boxes.rows[0], kind='stable')  # sorted by x1
    kept = []
    while len(undecided):
        last = min(BLOCK, len(undecided)) - 1
        best = undecided <= np.partition(undecided, last)[last]
        block = np.sort(undecided[best])
        block = block[_nms_one_by_one(boxes[block], threshold)]
        kept.append(block)
        undecided = undecided[~best]
        if len(undecided):
            undecided = undecided[~_suppressed(boxes[block], boxes[undecided], threshold)]
    return np.concatenate(kept)


def _nms_one_by_one(block: _Boxes, threshold: float) -> np.ndarray:
    """Apply greedy NMS to boxes in descending order of score, box by box; return which to keep, bool (N,)."""
    above = np.triu(block.iou(block) > threshold, 1)
    keep = np.ones(len(block), dtype=bool)
    for row in np.flatnonzero(above.any(1)):
        if keep[row]:
            keep &= ~above[row]
    return keep


def _suppressed(kept: _Boxes, others: _Boxes, threshold: float) -> np.ndarray:
    """Return which of the others have an IoU above the threshold with a kept box, bool (M,).

    The others are sorted by x1, so only those within a window of each kept box are compared. If the IoU of two boxes
    is above t, their union is at most `width / t` long in x for the width of either box. So their left sides are at
    most `width * (1 - t) / t` apart.
    """
    kept = kept[np.argsort(kept.rows[0])]
    x1 = kept.rows[0]
    width = np.maximum(kept.rows[2] - x1 + kept.offset, 0)
    # Slightly more than the bound, because the IoU is rounded.
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
