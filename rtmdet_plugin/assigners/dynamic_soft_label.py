"""RTMDynamicSoftLabelAssigner: each object takes the k cheapest priors, k from the IoUs, the cost from soft labels.

Source: RTMDet, arXiv 2212.07784, section 3.3, eq. 1-4.

Differences from mmdet, none of which changes an assignment:
- The classification cost is a sum over classes of f(logit, target) with a target of 0 everywhere but at the object's
  class. So it is sum_c f(logit_c, 0), once a prior, plus f(logit, iou) - f(logit, 0) at the object's class, once a
  pair: no tensor of priors x objects x classes, which is what fills the memory on crowded images.
- 10^(distance - radius) overflows float32 beyond 41 strides; here it stops at the largest finite number.
- Centres are the boxes' own, also where masks are loaded.
"""

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

EPS = 1e-7
UNASSIGNED_IOU = -1e8  # what mmdet writes as the overlap of a prior without an object


@TASK_UTILS.register_module()
class RTMDynamicSoftLabelAssigner(BaseAssigner):
    """Dynamic soft label assignment.

    Args:
        topk: the IoUs of so many best predictions, summed, give the number of priors of an object.
        soft_center_radius: distance from an object's centre, in strides, at which the centre cost is 1.
        cls_weight: weight of the classification cost; 0 leaves it out.
        iou_weight: weight of -log(IoU); 0 leaves it out.
        center_weight: weight of 10^(distance - radius); 0 leaves it out.

    Raises:
        ValueError: where ``topk`` isn't positive or a weight is negative.
    """

    def __init__(
        self,
        *,
        topk: int = 13,
        soft_center_radius: float = 3.0,
        cls_weight: float = 1.0,
        iou_weight: float = 3.0,
        center_weight: float = 1.0,
    ) -> None:
        if topk < 1:
            raise ValueError(f'topk must be at least 1, got {topk}')
        for name, weight in dict(cls_weight=cls_weight, iou_weight=iou_weight, center_weight=center_weight).items():
            if weight < 0:
                raise ValueError(f'{name} must not be negative (0 leaves the term out), got {weight}')
        self.topk = topk
        self.soft_center_radius = soft_center_radius
        self.cls_weight = cls_weight
        self.iou_weight = iou_weight
        self.center_weight = center_weight

    @torch.no_grad()
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the priors of one image.

        Args:
            pred_instances: ``scores``, logits (N, C); ``bboxes``, decoded, xyxy in pixels (N, 4); ``priors``, x, y and
                stride in pixels (N, 4).
            gt_instances: ``bboxes``, xyxy in pixels (G, 4); ``labels`` (G,).
            gt_instances_ignore: not used.

        Returns:
            ``gt_inds``: 0 for background, else 1 + the object's index (N,); ``max_overlaps``: IoU with that object,
            -1e8 for background (N,), 0 where no prior lies in any object; ``labels``: its class, -1 for background.
        """
        logits = pred_instances.scores.float()
        boxes = pred_instances.bboxes.float()
        priors = pred_instances.priors.float()
        gt_boxes = get_box_tensor(gt_instances.bboxes).float()
        gt_labels = gt_instances.labels.long()

        gt_inds = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        labels = torch.full_like(gt_inds, -1)
        candidates = inside_any(priors[:, :2], gt_boxes).nonzero().squeeze(1)
        if len(candidates) == 0:
            return AssignResult(len(gt_boxes), gt_inds, boxes.new_zeros(len(boxes)), labels=labels)

        ious = bbox_overlaps(boxes[candidates], gt_boxes)  # (n, G)
        cost = torch.zeros_like(ious)
        if self.cls_weight:
            cost += self.cls_weight * soft_label_cost(logits[candidates], gt_labels, ious)
        if self.iou_weight:
            cost += self.iou_weight * -(ious + EPS).log()
        if self.center_weight:
            cost += soft_center_cost(priors[candidates], gt_boxes, self.soft_center_radius, self.center_weight)

        match = dynamic_k_match(cost, ious, self.topk)  # (n,)
        positive = match >= 0
        gt_inds[candidates] = match + 1
        labels[candidates[positive]] = gt_labels[match[positive]]
        max_overlaps = boxes.new_full((len(boxes),), UNASSIGNED_IOU)
        max_overlaps[candidates[positive]] = ious[positive].gather(1, match[positive, None]).squeeze(1)
        return AssignResult(len(gt_boxes), gt_inds, max_overlaps, labels=labels)


def inside_any(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points (N, 2) lie strictly inside at least one of the boxes (G, 4), xyxy -> (N,) bool."""
    sides = torch.cat((points[:, None] - boxes[:, :2], boxes[:, 2:] - points[:, None]), dim=-1)  # (N, G, 4)
    return (sides > 0).all(dim=-1).any(dim=1)


def soft_label_cost(logits: Tensor, labels: Tensor, ious: Tensor) -> Tensor:
    """Classification cost: binary cross entropy against the IoU at the object's class and 0 elsewhere, times the
    squared distance of the score from that target, summed over the classes.

    Args:
        logits: class logits. (n, C)
        labels: the objects' classes. (G,)
        ious: IoU of each prediction with each object. (n, G)

    Returns:
        Cost, lower is better. (n, G)

    Source: RTMDet, arXiv 2212.07784, eq. 2.
    """
    background = _soft_bce(logits, torch.zeros_like(logits))  # (n, C)
    at_label = logits[:, labels]  # (n, G)
    correction = _soft_bce(at_label, ious) - background[:, labels]
    return background.sum(dim=1, keepdim=True) + correction


def _soft_bce(logits: Tensor, targets: Tensor) -> Tensor:
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction='none')
    return bce * (targets - logits.sigmoid()).square()


def soft_center_cost(priors: Tensor, boxes: Tensor, radius: float, weight: float = 1.0) -> Tensor:
    """Cost of the distance from a prior to an object's centre: weight * 10^(distance - radius), in strides.

    Args:
        priors: x, y, stride in pixels. (n, 3 or more)
        boxes: objects, xyxy in pixels. (G, 4)
        radius: distance in strides at which the cost is ``weight``.

    Returns:
        Cost, finite. (n, G)

    Source: RTMDet, arXiv 2212.07784, eq. 4.
    """
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    distance = (priors[:, None, :2] - centers).square().sum(dim=-1).sqrt() / priors[:, 2:3]  # (n, G)
    return (weight * torch.pow(10, distance - radius)).clamp(max=torch.finfo(distance.dtype).max)


def dynamic_k_match(cost: Tensor, ious: Tensor, topk: int) -> Tensor:
    """Give each object its k cheapest priors; a prior that several objects want goes to the cheapest of them.

    k is the sum of an object's ``topk`` largest IoUs, rounded down, at least 1.

    Args:
        cost: lower is better. (n, G)
        ious: IoU of each prediction with each object. (n, G)
        topk: how many IoUs count.

    Returns:
        Index of the object of each prior, -1 for none. (n,)

    Source: OTA, arXiv 2103.14259, in the form of YOLOX, arXiv 2107.08430.
    """
    num_priors, num_gts = cost.shape
    ks = ious.topk(min(topk, num_priors), dim=0).values.sum(dim=0).int().clamp(min=1).tolist()
    wanted = torch.zeros_like(cost, dtype=torch.bool)
    for j in range(num_gts):
        # top-k column by column, with this k, because its choice among equal costs depends on k
        wanted[cost[:, j].topk(ks[j], largest=False).indices, j] = True

    num_wanting = wanted.sum(dim=1)
    match = torch.where(num_wanting > 0, wanted.float().argmax(dim=1), -1)
    return torch.where(num_wanting > 1, cost.argmin(dim=1), match)
