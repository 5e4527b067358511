"""Dynamic-k matching with hard instead of soft costs, which the paper compares: `RTMHardCostAssigner`.

The paper describes the costs that it replaces: a binary target of the classification cost, a fixed centre region, and
GIoU as in the loss. It doesn't give their formulas; those here are SimOTA's, and 1 - GIoU.

Sources: RTMDet, arXiv 2212.07784, section 3.3; SimOTA, arXiv 2107.08430.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from .dynamic_soft_label import EPS, GroundTruth, RTMDynamicSoftLabelAssigner
from .matching import soft_center_cost

OUTSIDE = 1e5
"""Cost of a prior outside the centre region, as in SimOTA: so large that it is taken only if no other is left."""


@TASK_UTILS.register_module()
class RTMHardCostAssigner(RTMDynamicSoftLabelAssigner):
    """`RTMDynamicSoftLabelAssigner` with hard cost terms; with three soft ones, it assigns the same.

    Args:
        soft_cls: the IoU is the target of the classification cost; otherwise 1, in plain binary cross entropy.
        soft_center: the cost grows with the distance to the centre; otherwise a prior must lie in the object and less
            than `center_radius` strides from its centre, on both axes.
        log_iou: the cost of a box is -log(IoU); otherwise 1 - GIoU.
        center_radius: half the side of the fixed centre region, in strides.
        kwargs: arguments of `RTMDynamicSoftLabelAssigner`, except for `class_cost`. `center_weight` disables the centre
            region if it is 0; otherwise it is a factor only if `soft_center=True`.

    Raises:
        ValueError: if `class_cost` isn't 'all', or see `RTMDynamicSoftLabelAssigner`.
    """

    def __init__(
        self,
        *,
        soft_cls: bool = False,
        soft_center: bool = False,
        log_iou: bool = False,
        center_radius: float = 2.5,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if self.class_cost != 'all':
            raise ValueError(f"class_cost must be 'all' with hard costs, got {self.class_cost!r}")
        self.soft_cls = soft_cls
        self.soft_center = soft_center
        self.log_iou = log_iou
        self.center_radius = center_radius

    def _cost_function(self, logits: Tensor, boxes: Tensor, priors: Tensor) -> Callable[[GroundTruth, Tensor], Tensor]:
        """Return the function that computes the costs, see the base class."""

        def cost_of(objects: GroundTruth, iou: Tensor) -> Tensor:
            target = iou if self.soft_cls else torch.ones_like(iou)
            cost = self.cls_weight * cls_cost(logits, objects.labels, target, focal=self.soft_cls)
            overlap = -(iou + EPS).log() if self.log_iou else 1 - bbox_overlaps(objects.boxes, boxes, mode='giou')
            cost += self.iou_weight * overlap
            if self.center_weight and self.soft_center:
                cost += soft_center_cost(objects.centers, priors, self.soft_center_radius, self.center_weight)
            elif self.center_weight:
                cost += OUTSIDE * ~in_center(objects.boxes, priors, self.center_radius)
            return cost

        return cost_of


def cls_cost(logits: Tensor, labels: Tensor, target: Tensor, *, focal: bool) -> Tensor:
    """Compute the binary cross entropy of each pair, summed over classes; the target is 0 except at the object's class.

    Args:
        logits: class logits. (B, C, N)
        labels: classes of the objects. (B, G)
        target: target at the object's class. (B, G, N)
        focal: multiply each class by the squared difference of score and target, as in the paper's eq. 2.

    Returns:
        Cost. (B, G, N)
    """

    def entropy(logits: Tensor, target: Tensor | float) -> Tensor:
        cost = F.softplus(logits) - logits * target
        return cost * (target - logits.sigmoid()).square() if focal else cost

    batch = torch.arange(len(logits), device=logits.device)[:, None]
    own = logits[batch, labels]  # (B, G, N)
    return entropy(logits, 0).sum(dim=1, keepdim=True) - entropy(own, 0) + entropy(own, target)


def in_center(gt_boxes: Tensor, priors: Tensor, radius: float) -> Tensor:
    """Find the priors that lie strictly inside an object and the centre region of their level.

    Args:
        gt_boxes: objects, xyxy in pixels. (B, G, 4)
        priors: x, y, stride in pixels. (N, 3 or more)
        radius: half the side of the region in strides.

    Returns:
        True for pairs inside both. (B, G, N)
    """
    points = priors[:, :2]
    low, high = gt_boxes[:, :, None, :2], gt_boxes[:, :, None, 2:]  # (B, G, 1, 2)
    near = (points - (low + high) / 2).abs() < radius * priors[:, 2:3]
    return ((points > low) & (points < high) & near).all(dim=-1)
