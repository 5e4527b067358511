"""The maths of dynamic-k matching over a padded batch. Objects are rows, priors columns: (B, G, N).

Rows of priors are contiguous in memory, so that broadcasting a box against all priors, taking a class's row of logits
and selecting an object's cheapest priors all run along memory.

Source: OTA, arXiv 2103.14259, in the form of YOLOX, arXiv 2107.08430; RTMDet, arXiv 2212.07784.
"""

import math

import torch
from torch import Tensor


def inside_any(priors: Tensor, boxes: Tensor, mask: Tensor, max_pairs: int) -> Tensor:
    """Which priors lie strictly inside at least one box of each image.

    Args:
        priors: x, y in pixels, then anything. (N, 2 or more)
        boxes: xyxy in pixels. (B, G, 4)
        mask: False for boxes that don't count. (B, G)
        max_pairs: pairs in memory at a time.

    Returns:
        (B, N)
    """
    x, y = priors[:, 0].contiguous(), priors[:, 1].contiguous()  # (N,)
    found = torch.zeros(len(boxes), len(priors), dtype=torch.bool, device=boxes.device)
    step = max(1, max_pairs // max(1, found.numel()))
    for start in range(0, boxes.size(1), step):
        x1, y1, x2, y2 = boxes[:, start : start + step, :, None].unbind(2)  # (B, g, 1)
        inside = (x > x1) & (y > y1) & (x < x2) & (y < y2) & mask[:, start : start + step, None]
        found |= inside.any(dim=1)
    return found


def pairwise_iou(gt_boxes: Tensor, boxes: Tensor) -> Tensor:
    """IoU of each object with each predicted box; xyxy in pixels. (B, G, 4), (B, N, 4) -> (B, G, N)"""
    gx1, gy1, gx2, gy2 = gt_boxes[..., None].unbind(2)  # (B, G, 1)
    x1, y1, x2, y2 = boxes.transpose(1, 2).contiguous()[:, :, None].unbind(1)  # (B, 1, N)
    width = (torch.minimum(x2, gx2) - torch.maximum(x1, gx1)).clamp_(min=0)
    height = (torch.minimum(y2, gy2) - torch.maximum(y1, gy1)).clamp_(min=0)
    intersection = width.mul_(height)
    union = ((x2 - x1) * (y2 - y1) + (gx2 - gx1) * (gy2 - gy1)).sub_(intersection)
    return intersection.div_(union.clamp_(min=1e-6))  # mmdet's epsilon


def soft_center_cost(gt_boxes: Tensor, priors: Tensor, radius: float, weight: float = 1.0) -> Tensor:
    """Cost of the distance from a prior to an object's centre: weight * 10^(distance - radius), in strides.

    Args:
        gt_boxes: objects, xyxy in pixels. (B, G, 4)
        priors: x, y, stride in pixels. (N, 3 or more)
        radius: distance in strides at which the cost is `weight`.
        weight: positive.

    Returns:
        Cost, finite. (B, G, N)

    Source: RTMDet, arXiv 2212.07784, eq. 4.
    """
    x, y, stride = priors[:, :3].T.contiguous()  # (N,)
    cx, cy = ((gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2)[..., None].unbind(2)  # (B, G, 1)
    distance = (x - cx).square_().add_((y - cy).square_()).sqrt_().div_(stride)
    cost = distance.sub_(radius).mul_(math.log(10)).exp_()  # exp costs a tenth of pow
    return cost.mul_(weight).clamp_(max=torch.finfo(cost.dtype).max)


def cheapest(cost: Tensor, ks: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Each object's k cheapest priors.

    Among equal costs the choice is mmdet's on CPUs: what `torch.topk` takes for exactly this k. On accelerators the
    lower index goes first, among those that `torch.topk` takes.

    Args:
        cost: (B, G, N)
        ks: how many, at most `topk`. (B, G)
        topk: at most N.

    Returns:
        Indices of priors (B, G, topk), and which of them count (B, G, topk).
    """
    counts = torch.arange(topk, device=cost.device) < ks[..., None]
    if cost.device.type == 'cpu' and not torch.compiler.is_compiling():
        indices = torch.zeros(*ks.shape, topk, dtype=torch.long)
        for k in ks.unique().tolist():
            rows = ks == k
            indices[rows, :k] = cost[rows].topk(k, dim=-1, largest=False).indices
        return indices, counts
    indices = cost.topk(topk, dim=-1, largest=False).indices.sort(dim=-1).values
    order = cost.gather(-1, indices).argsort(dim=-1, stable=True)
    return indices.gather(-1, order), counts


class Matches:
    """Collects, object by object or many at a time, which object each prior goes to.

    Each object takes its k cheapest priors, k the sum of its `topk` largest IoUs, rounded down, at least 1. A prior
    that several objects took goes to the one, of all objects, for which it is cheapest.

    Args:
        candidates: priors that may be taken. (B, N)
        topk: how many IoUs count.
    """

    def __init__(self, candidates: Tensor, topk: int) -> None:
        self.candidates = candidates
        self.topk = min(topk, candidates.size(1))
        self.num_objects = 0
        self.taken = torch.zeros_like(candidates, dtype=torch.long)  # how many objects took the prior
        self.taker = torch.zeros_like(self.taken)  # the sum of their indices: the index, where it is one
        self.taker_iou = torch.zeros(candidates.shape, device=candidates.device)
        self.best_cost = torch.full_like(self.taker_iou, math.inf)
        self.best = torch.zeros_like(self.taken)
        self.best_iou = torch.zeros_like(self.taker_iou)

    def add(self, cost: Tensor, iou: Tensor, mask: Tensor) -> None:
        """Take in more objects.

        Args:
            cost: lower is better; overwritten. (B, G, N)
            iou: IoU of each object with each prediction. (B, G, N)
            mask: False for objects that are padding. (B, G)
        """
        usable = mask[..., None] & self.candidates[:, None]
        # A prediction that is NaN goes last of the usable ones: with no other left it is taken, and the loss shows it.
        cost.nan_to_num_(nan=torch.finfo(cost.dtype).max).masked_fill_(~usable, math.inf)
        ks = iou.masked_fill(~usable, 0).topk(self.topk, dim=-1).values.sum(dim=-1).int().clamp_(1, self.topk)
        indices, counts = cheapest(cost, ks, self.topk)
        counts &= cost.gather(-1, indices) < math.inf  # an object without so many candidates

        numbers = torch.arange(self.num_objects, self.num_objects + mask.size(1), device=cost.device)
        priors = indices.flatten(1)
        self.taken.scatter_add_(1, priors, counts.flatten(1).long())
        self.taker.scatter_add_(1, priors, (numbers[:, None] * counts).flatten(1))
        self.taker_iou.scatter_add_(1, priors, iou.gather(-1, indices).mul_(counts).flatten(1))

        row_cost, row = cost.min(dim=1)  # (B, N)
        better = row_cost < self.best_cost
        self.best_cost = torch.where(better, row_cost, self.best_cost)
        self.best = torch.where(better, numbers[row], self.best)
        self.best_iou = torch.where(better, iou.gather(1, row[:, None]).squeeze(1), self.best_iou)
        self.num_objects += mask.size(1)

    def result(self) -> tuple[Tensor, Tensor]:
        """Index of the object of each prior, -1 for none (B, N), and its IoU, 0 for none (B, N)."""
        alone = self.taken == 1
        index = torch.where(alone, self.taker, self.best).masked_fill(self.taken == 0, -1)
        return index, torch.where(alone, self.taker_iou, self.best_iou).masked_fill(self.taken == 0, 0)
