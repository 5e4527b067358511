"""The maths of dynamic-k matching over a padded batch. Objects are rows, priors are columns: (B, G, N).

Rows of priors are contiguous in memory, so broadcasting a box against all priors, taking a class's row of logits and
selecting an object's cheapest priors all access memory sequentially.

Source: OTA, arXiv 2103.14259, in YOLOX's variant, arXiv 2107.08430; RTMDet, arXiv 2212.07784.
"""

import math

import torch
from torch import Tensor


def inside_any(priors: Tensor, boxes: Tensor, mask: Tensor, max_pairs: int) -> Tensor:
    """Find the priors that lie strictly inside at least one box of each image.

    Args:
        priors: x, y in pixels; further columns are ignored. (N, 2 or more)
        boxes: xyxy in pixels. (B, G, 4)
        mask: False for boxes to ignore. (B, G)
        max_pairs: pairs of prior and box in memory at a time.

    Returns:
        True for priors inside a box. (B, N)
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
    """Compute the IoU of each object with each predicted box; xyxy in pixels, (B, G, 4), (B, N, 4) -> (B, G, N)."""
    gx1, gy1, gx2, gy2 = gt_boxes[..., None].unbind(2)  # (B, G, 1)
    x1, y1, x2, y2 = boxes.transpose(1, 2).contiguous()[:, :, None].unbind(1)  # (B, 1, N)
    width = (torch.minimum(x2, gx2) - torch.maximum(x1, gx1)).clamp_(min=0)
    height = (torch.minimum(y2, gy2) - torch.maximum(y1, gy1)).clamp_(min=0)
    intersection = width.mul_(height)
    union = ((x2 - x1) * (y2 - y1) + (gx2 - gx1) * (gy2 - gy1)).sub_(intersection)
    return intersection.div_(union.clamp_(min=1e-6))  # mmdet's epsilon


def box_centers(boxes: Tensor) -> Tensor:
    """Return the centres (x, y) of boxes, xyxy, (..., 4) -> (..., 2)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def soft_center_cost(centers: Tensor, priors: Tensor, radius: float, weight: float = 1.0) -> Tensor:
    """Compute the cost of a prior's distance to an object's centre: weight * 10^(distance - radius), in strides.

    Args:
        centers: x, y of the objects' centres in pixels. (B, G, 2)
        priors: x, y, stride in pixels. (N, 3 or more)
        radius: distance in strides at which the cost is `weight`.
        weight: positive.

    Returns:
        Cost, finite. (B, G, N)

    Source: RTMDet, arXiv 2212.07784, eq. 4.
    """
    x, y, stride = priors[:, :3].T.contiguous()  # (N,)
    cx, cy = centers[..., None].unbind(2)  # (B, G, 1)
    distance = (x - cx).square_().add_((y - cy).square_()).sqrt_().div_(stride)
    cost = distance.sub_(radius).mul_(math.log(10)).exp_()  # exp costs a tenth of pow
    return cost.mul_(weight).clamp_(max=torch.finfo(cost.dtype).max)


def dynamic_ks(iou: Tensor, topk: int) -> Tensor:
    """Return each object's number of priors: the sum of its `topk` largest IoUs, rounded down, but at least 1.

    Args:
        iou: IoU of each object with each prediction. (B, G, N)
        topk: number of IoUs that are summed.

    Returns:
        The numbers. (B, G)
    """
    return iou.topk(min(topk, iou.size(-1)), dim=-1).values.sum(dim=-1).int().clamp_(min=1)


def cheapest(cost: Tensor, ks: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Select each object's k cheapest priors.

    On CPUs ties are resolved as in mmdet: as `torch.topk` does for exactly this k. On accelerators the lower index
    comes first, among those that `torch.topk` selects.

    Args:
        cost: lower is better. (B, G, N)
        ks: number of priors of each object, at most `topk`. (B, G)
        topk: number of columns of the result, at most N.

    Returns:
        Indices of priors (B, G, topk), and True for the first k of each object (B, G, topk).
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
    """Matches priors to objects, which are added one or several at a time.

    Each object takes its k cheapest priors. k is the sum of its `topk` largest IoUs, rounded down, but at least 1. A
    prior that several objects took is assigned to the object, of all objects, for which it is cheapest.

    Args:
        candidates: True for priors that may be assigned. (B, N)
        topk: number of IoUs that are summed, and largest k.
    """

    def __init__(self, candidates: Tensor, topk: int) -> None:
        self.candidates = candidates
        self.topk = topk
        self.num_objects = 0
        self.taken = torch.zeros_like(candidates, dtype=torch.long)  # number of objects that took the prior
        self.taker = torch.zeros_like(self.taken)  # sum of their indices, which is the index if there is one object
        self.taker_iou = torch.zeros(candidates.shape, device=candidates.device)
        self.best_cost = torch.full_like(self.taker_iou, math.inf)
        self.best = torch.zeros_like(self.taken)
        self.best_iou = torch.zeros_like(self.taker_iou)

    def add(self, cost: Tensor, iou: Tensor, mask: Tensor, iou_of_all: Tensor | None = None) -> None:
        """Add objects.

        Args:
            cost: lower is better; overwritten. (B, G, N)
            iou: IoU of each object with each prediction. (B, G, N)
            mask: False for objects that are padding. (B, G)
            iou_of_all: IoUs that decide k, also with predictions that aren't columns; by default those of the
                candidates. (B, G, any)
        """
        usable = mask[..., None] & self.candidates[:, None]
        # A NaN prediction comes last of the usable ones. If no other is left, it is taken, and the loss becomes NaN.
        cost.nan_to_num_(nan=torch.finfo(cost.dtype).max).masked_fill_(~usable, math.inf)
        most = min(self.topk, cost.size(-1))
        ks = dynamic_ks(iou.masked_fill(~usable, 0) if iou_of_all is None else iou_of_all, self.topk).clamp_(max=most)
        indices, counts = cheapest(cost, ks, most)
        counts &= cost.gather(-1, indices) < math.inf  # if an object has fewer than k candidates

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
        """Return the index of each prior's object, -1 for none (B, N), and the IoU with it, 0 for none (B, N)."""
        unique = self.taken == 1
        index = torch.where(unique, self.taker, self.best).masked_fill(self.taken == 0, -1)
        return index, torch.where(unique, self.taker_iou, self.best_iou).masked_fill(self.taken == 0, 0)
