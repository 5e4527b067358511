"""Assign priors to objects by dynamic-k matching with soft labels: `RTMDynamicSoftLabelAssigner`.

Each object takes its k cheapest priors. k depends on the IoUs, the cost on soft labels.

Source: RTMDet, arXiv 2212.07784, section 3.3, eq. 1-4. The maths are in matching.py.

Differences from mmdet, none of which changes an assignment:
- The classification cost is a sum over classes of f(logit, target), and the target is 0 except at the object's class.
  So the cost is sum_c f(logit_c, 0), computed once per prior, plus f(logit, iou) - f(logit, 0) at the object's class,
  computed once per pair. This avoids the tensor of priors x objects x classes, which fills the memory on crowded
  images.
- One call assigns a complete batch. On an accelerator there are no loops over images or objects and no synchronisation
  with the host. On a CPU each image is matched separately, with only the priors that lie inside one of its objects.
- 10^(distance - radius) overflows float32 beyond 41 strides; here it is clamped to the largest finite number.
- `assign` takes the centres of the boxes, even if masks are loaded. Our heads call `assign_batch` with the centres.

mmyolo's `BatchDynamicSoftLabelAssigner` differs from mmdet's in two points: the classification cost is only the term of
the object's class, and k depends on the IoUs of all priors. `class_cost='own'` and `dynamic_k='all'` select these.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from .matching import Matches, box_centers, inside_any, pairwise_iou, soft_center_cost

EPS = 1e-7
UNASSIGNED_IOU = -1e8  # mmdet's overlap of a prior without an object
CLASS_COSTS = ('all', 'own')
DYNAMIC_KS = ('candidates', 'all')


class GroundTruth(NamedTuple):
    """Objects of a batch, padded to the largest number of objects in an image."""

    boxes: Tensor  # xyxy in pixels. (B, G, 4)
    centers: Tensor  # x, y in pixels: of the box, or the centroid of the mask. (B, G, 2)
    labels: Tensor  # (B, G)
    mask: Tensor  # False for padding. (B, G)


class Assignment(NamedTuple):
    """The object that each prior of a batch learns."""

    gt_index: Tensor  # index of the object, -1 for background. (B, N)
    iou: Tensor  # IoU of the prior's box with it, 0 for background. (B, N)


@TASK_UTILS.register_module()
class RTMDynamicSoftLabelAssigner(BaseAssigner):
    """Dynamic soft label assignment.

    Args:
        topk: an object's number of priors is the sum of its `topk` largest IoUs.
        soft_center_radius: distance from an object's centre, in strides, at which the centre cost is 1.
        cls_weight: weight of the classification cost; 0 disables it.
        iou_weight: weight of -log(IoU); 0 disables it.
        center_weight: weight of 10^(distance - radius); 0 disables it.
        class_cost: classes in the classification cost: 'all', as mmdet, or 'own', the object's class, as mmyolo.
        dynamic_k: priors whose IoUs decide k: 'candidates', those inside an object, as mmdet, or 'all', as mmyolo.
        num_classes: number of classes, which is checked in mmyolo's head only; exists because mmyolo's configs set it.
        iou_calculator: must be a `BboxOverlaps2D` without settings; exists because mmyolo's configs set it.
        max_pairs: pairs of prior and object in memory at a time; more pairs are processed in several rounds, with the
            same result.

    Raises:
        ValueError: if `topk` or `max_pairs` isn't positive, a weight is negative, or another setting isn't one of
            its values.
    """

    def __init__(
        self,
        *,
        topk: int = 13,
        soft_center_radius: float = 3.0,
        cls_weight: float = 1.0,
        iou_weight: float = 3.0,
        center_weight: float = 1.0,
        class_cost: str = 'all',
        dynamic_k: str = 'candidates',
        num_classes: int | None = None,
        iou_calculator: dict | None = None,
        max_pairs: int = 2**22,
    ) -> None:
        for name, number in dict(topk=topk, max_pairs=max_pairs).items():
            if number < 1:
                raise ValueError(f'{name} must be at least 1, got {number}')
        for name, weight in dict(cls_weight=cls_weight, iou_weight=iou_weight, center_weight=center_weight).items():
            if weight < 0:
                raise ValueError(f'{name} must be at least 0 (0 disables the term), got {weight}')
        if class_cost not in CLASS_COSTS:
            raise ValueError(f'class_cost must be one of {CLASS_COSTS}, got {class_cost!r}')
        if dynamic_k not in DYNAMIC_KS:
            raise ValueError(f'dynamic_k must be one of {DYNAMIC_KS}, got {dynamic_k!r}')
        settings = {name: value for name, value in (iou_calculator or {}).items() if name != '_scope_'}
        if settings not in ({}, dict(type='BboxOverlaps2D'), dict(type='mmdet.BboxOverlaps2D')):
            raise ValueError(
                f"iou_calculator must be dict(type='mmdet.BboxOverlaps2D'), which is built in, got {settings}; leave "
                'it out'
            )
        self.topk = topk
        self.soft_center_radius = soft_center_radius
        self.cls_weight = cls_weight
        self.iou_weight = iou_weight
        self.center_weight = center_weight
        self.class_cost = class_cost
        self.dynamic_k = dynamic_k
        self.num_classes = num_classes
        self.max_pairs = max_pairs

    @torch.no_grad()
    def assign_batch(
        self, logits: Tensor, boxes: Tensor, priors: Tensor, valid: Tensor, ground_truth: GroundTruth
    ) -> Assignment:
        """Assign the priors of a batch.

        Args:
            logits: class logits. (B, C, N)
            boxes: decoded boxes, xyxy in pixels. (B, N, 4)
            priors: x, y and stride in pixels. (N, 3 or more)
            valid: priors that lie within their image. (B, N)
            ground_truth: the objects of the batch.

        Returns:
            The object and the IoU of each prior, see `Assignment`.
        """
        logits, boxes, priors = logits.float(), boxes.float(), priors.float()
        boxes_and_centers = dict(boxes=ground_truth.boxes.float(), centers=ground_truth.centers.float())
        ground_truth = ground_truth._replace(**boxes_and_centers)
        if boxes.device.type != 'cpu' or torch.compiler.is_compiling():
            candidates = valid & inside_any(priors, ground_truth.boxes, ground_truth.mask, self.max_pairs)
            return Assignment(*self._match(logits, boxes, priors, candidates, ground_truth, boxes))

        gt_index = torch.full(valid.shape, -1)
        iou = torch.zeros(valid.shape)
        for i in range(len(boxes)):
            present = ground_truth.mask[i : i + 1]  # (1, G)
            objects = GroundTruth(*(column[i][present[0]][None] for column in ground_truth))
            inside = inside_any(priors, objects.boxes, objects.mask, self.max_pairs)[0]
            chosen = (valid[i] & inside).nonzero().squeeze(1)
            if len(chosen):
                candidates = torch.ones(1, len(chosen), dtype=torch.bool)
                of_image = boxes[i : i + 1]
                found = self._match(
                    logits[i : i + 1, :, chosen], of_image[:, chosen], priors[chosen], candidates, objects, of_image
                )
                gt_index[i, chosen], iou[i, chosen] = found[0][0], found[1][0]
        return Assignment(gt_index, iou)

    def _match(
        self,
        logits: Tensor,
        boxes: Tensor,
        priors: Tensor,
        candidates: Tensor,
        ground_truth: GroundTruth,
        all_boxes: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Do the work of `assign_batch` for the priors that are True in `candidates` (B, N).

        `all_boxes` (B, M, 4) are the boxes of all priors, which decide k if `dynamic_k='all'`.
        """
        cost_of = self._cost_function(logits, boxes, priors)
        matches = Matches(candidates, self.topk)
        k_of_all = self.dynamic_k == 'all'
        step = max(1, self.max_pairs // (all_boxes[..., 0] if k_of_all else candidates).numel())
        for start in range(0, ground_truth.mask.size(1), step):
            objects = GroundTruth(*(column[:, start : start + step] for column in ground_truth))  # (B, g, ...)
            iou = pairwise_iou(objects.boxes, boxes)  # (B, g, N)
            iou_of_all = None
            if k_of_all:
                iou_of_all = iou if all_boxes is boxes else pairwise_iou(objects.boxes, all_boxes)
            matches.add(cost_of(objects, iou), iou, objects.mask, iou_of_all)
        return matches.result()

    def _cost_function(self, logits: Tensor, boxes: Tensor, priors: Tensor) -> Callable[[GroundTruth, Tensor], Tensor]:
        """Return the function that computes the costs (B, g, N) of objects from them and their IoUs (B, g, N)."""
        softplus, score = F.softplus(logits), logits.sigmoid()
        background = (softplus * score.square()).sum(dim=1, keepdim=True)  # (B, 1, N)
        batch = torch.arange(len(logits), device=logits.device)[:, None]

        def cost_of(objects: GroundTruth, iou: Tensor) -> Tensor:
            cost = torch.zeros_like(iou)
            if self.cls_weight:
                # Rows of the objects' classes, (B, g, N) each.
                own_logits, own_softplus, own_score = (
                    table[batch, objects.labels] for table in (logits, softplus, score)
                )
                class_cost = soft_bce(own_logits, own_softplus, own_score, iou)
                if self.class_cost == 'all':
                    class_cost = class_cost - own_softplus * own_score.square() + background
                cost += class_cost.mul_(self.cls_weight)
            if self.iou_weight:
                cost += (iou + EPS).log_().mul_(-self.iou_weight)
            if self.center_weight:
                cost += soft_center_cost(objects.centers, priors, self.soft_center_radius, self.center_weight)
            return cost

        return cost_of

    @torch.no_grad()
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the priors of one image: mmdet's interface, for other heads than RTMDet's.

        Args:
            pred_instances: `scores`, logits (N, C); `bboxes`, decoded, xyxy in pixels (N, 4); `priors`, x, y and
                stride in pixels (N, 4).
            gt_instances: `bboxes`, xyxy in pixels (G, 4); `labels` (G,).
            gt_instances_ignore: not used.
            kwargs: not used.

        Returns:
            `gt_inds`: 0 for background, otherwise 1 + the object's index (N,); `max_overlaps`: IoU with that object,
            -1e8 for background, or 0 for all priors if none is assigned (N,); `labels`: the object's class, -1 for
            background (N,).
        """
        priors, gt_labels = pred_instances.priors, gt_instances.labels.long()
        gt_boxes = get_box_tensor(gt_instances.bboxes)
        ground_truth = GroundTruth(gt_boxes, box_centers(gt_boxes), gt_labels, torch.ones_like(gt_labels).bool())
        valid = torch.ones(1, len(priors), dtype=torch.bool, device=priors.device)
        found = self.assign_batch(
            pred_instances.scores.T[None],
            pred_instances.bboxes[None],
            priors,
            valid,
            GroundTruth(*(column[None] for column in ground_truth)),
        )
        gt_index, iou = found.gt_index[0], found.iou[0]
        positive = gt_index >= 0
        labels = torch.full_like(gt_index, -1)
        labels[positive] = gt_labels[gt_index[positive]]
        if positive.any():
            iou = iou.masked_fill(~positive, UNASSIGNED_IOU)
        return AssignResult(len(gt_labels), gt_index + 1, iou, labels=labels)

    def __call__(
        self, boxes: Tensor, logits: Tensor, priors: Tensor, gt_labels: Tensor, gt_boxes: Tensor, gt_flags: Tensor
    ) -> dict[str, Tensor]:
        """Assign the priors of a batch: mmyolo's interface, for its `RTMDetHead`.

        Args:
            boxes: decoded boxes, xyxy in pixels. (B, N, 4)
            logits: class logits. (B, N, C)
            priors: x, y and stride in pixels. (N, 3 or more)
            gt_labels: labels of the objects, padded. (B, G, 1)
            gt_boxes: boxes of the objects, xyxy in pixels. (B, G, 4)
            gt_flags: 0 for padding. (B, G, 1)

        Returns:
            `assigned_labels`, C for background (B, N); `assigned_labels_weights`, 1 (B, N); `assigned_bboxes`, xyxy in
            pixels, 0 for background (B, N, 4); `assign_metrics`, the IoU, 0 for background (B, N).

        Raises:
            ValueError: if there isn't one box and `num_classes` logits for each prior.
        """
        num_classes = self.num_classes or logits.size(2)
        if boxes.shape != (*logits.shape[:2], 4) or logits.size(2) != num_classes:
            raise ValueError(
                f'bbox_head must predict one box (4) and {num_classes} logits (num_classes) for each prior, got boxes '
                f'of {tuple(boxes.shape)} and logits of {tuple(logits.shape)}; set use_sigmoid=True in loss_cls and '
                'the same num_classes in head_module and assigner'
            )
        ground_truth = GroundTruth(
            gt_boxes, box_centers(gt_boxes), gt_labels.squeeze(2).long(), gt_flags.squeeze(2) > 0
        )
        valid = torch.ones_like(boxes[..., 0], dtype=torch.bool)
        gt_index, iou = self.assign_batch(logits.transpose(1, 2), boxes, priors, valid, ground_truth)
        labels, targets = targets_of(gt_index, ground_truth, num_classes)
        return dict(
            assigned_labels=labels,
            assigned_labels_weights=torch.ones_like(iou),
            assigned_bboxes=targets.masked_fill(gt_index[..., None] < 0, 0),
            assign_metrics=iou,
        )


def targets_of(gt_index: Tensor, ground_truth: GroundTruth, num_classes: int) -> tuple[Tensor, Tensor]:
    """Look up what each prior learns.

    Args:
        gt_index: index of each prior's object, -1 for background. (B, N)
        ground_truth: the objects of the batch.
        num_classes: label of the background.

    Returns:
        Labels (B, N) and boxes, xyxy in pixels (B, N, 4); the boxes of background priors mean nothing.
    """
    if not ground_truth.mask.size(1):
        return torch.full_like(gt_index, num_classes), ground_truth.boxes.new_zeros(*gt_index.shape, 4)
    at = gt_index.clamp(min=0)
    labels = ground_truth.labels.gather(1, at).masked_fill(gt_index < 0, num_classes)
    return labels, ground_truth.boxes.gather(1, at[..., None].expand(-1, -1, 4))


def soft_bce(logits: Tensor, softplus: Tensor, score: Tensor, target: Tensor) -> Tensor:
    """Compute binary cross entropy against a soft target, times the squared difference of score and target.

    Args:
        logits: class logits of any shape.
        softplus: softplus of the logits.
        score: sigmoid of the logits.
        target: target in [0, 1].

    Source: RTMDet, arXiv 2212.07784, eq. 2.
    """
    return (softplus - logits * target) * (target - score).square()
