"""Adapt mmdet's SimOTA, TAL and ATSS, the assigners that the paper compares with, to RTMDet's head.

RTMDet's head passes logits and point priors (x, y, stride, stride). mmdet's SimOTA and TAL take probabilities, its
TAL and ATSS take boxes as priors. The head uses `max_overlaps` as the target score, which each method defines
differently.

Sources: SimOTA, arXiv 2107.08430; TOOD, arXiv 2108.07755; ATSS, arXiv 1912.02424; the comparison: RTMDet,
arXiv 2212.07784, tables of assigners.
"""

from typing import NoReturn

import torch
from mmdet.models.task_modules.assigners import AssignResult, ATSSAssigner, SimOTAAssigner, TaskAlignedAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox_overlaps, get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

ATSS_ANCHOR = 8  # side of an anchor in strides, as in ATSS


class _ForOurHead:
    """Mix-in for an assigner of mmdet: it can be built in mmyolo's scope as well, and only our head can use it."""

    def __init__(self, *, iou_calculator: dict = dict(type='mmdet.BboxOverlaps2D'), **kwargs) -> None:  # noqa: B006
        # The next class is an assigner of mmdet.
        super().__init__(iou_calculator=iou_calculator, **kwargs)  # pyright: ignore[reportCallIssue]

    def __call__(self, *args, **kwargs) -> NoReturn:
        """Refuse mmyolo's `RTMDetHead`, which calls its assigner.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "train_cfg.assigner must be RTMDynamicSoftLabelAssigner, RTMHardCostAssigner or mmyolo's own in mmyolo's "
            f'RTMDetHead, got {type(self).__name__}; use it with mmdet.RTMSepBNHead'
        )


@TASK_UTILS.register_module()
class RTMSimOTAAssigner(_ForOurHead, SimOTAAssigner):
    """mmdet's `SimOTAAssigner` for logits; arguments are mmdet's."""

    def assign(self, pred_instances: InstanceData, gt_instances: InstanceData, *args, **kwargs) -> AssignResult:
        """Assign the priors of one image; see `RTMDynamicSoftLabelAssigner.assign`."""
        return super().assign(with_probabilities(pred_instances), gt_instances, *args, **kwargs)


@TASK_UTILS.register_module()
class RTMTaskAlignedAssigner(_ForOurHead, TaskAlignedAssigner):
    """mmdet's `TaskAlignedAssigner` for logits and point priors.

    The target score is TOOD's: the alignment of each positive, scaled so that an object's largest alignment becomes its
    largest IoU.

    Args:
        topk: number of positives of an object.
        alpha: exponent of the score in the alignment.
        beta: exponent of the IoU in the alignment.
    """

    def __init__(self, *, topk: int = 13, alpha: float = 1.0, beta: float = 6.0) -> None:
        super().__init__(topk=topk)
        self.alpha = alpha
        self.beta = beta

    def assign(self, pred_instances: InstanceData, gt_instances: InstanceData, *args, **kwargs) -> AssignResult:
        """Assign the priors of one image; see `RTMDynamicSoftLabelAssigner.assign`."""
        pred_instances = with_probabilities(pred_instances)
        pred_instances.priors = prior_boxes(pred_instances.priors, side=1)
        result = super().assign(pred_instances, gt_instances, *args, alpha=self.alpha, beta=self.beta, **kwargs)
        for j in range(1, result.num_gts + 1):
            mine = result.gt_inds == j
            if mine.any():
                alignment = result.assign_metrics[mine]
                scale = result.max_overlaps[mine].max() / alignment.max().clamp(min=1e-9)
                result.max_overlaps[mine] = alignment * scale
        return result


@TASK_UTILS.register_module()
class RTMATSSAssigner(_ForOurHead, ATSSAssigner):
    """mmdet's `ATSSAssigner` for point priors, each replaced by an anchor of 8 strides; arguments are mmdet's.

    The target score is the IoU of the predicted box, as in GFL, because the anchor's IoU is independent of the
    prediction.
    """

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
    ) -> AssignResult:
        """Assign the priors of one image; see `RTMDynamicSoftLabelAssigner.assign`."""
        anchors = InstanceData(priors=prior_boxes(pred_instances.priors, side=ATSS_ANCHOR))
        _, num_level_priors = pred_instances.priors[:, 2].unique_consecutive(return_counts=True)
        result = super().assign(anchors, num_level_priors.tolist(), gt_instances, gt_instances_ignore)
        positive = result.gt_inds > 0
        targets = get_box_tensor(gt_instances.bboxes)[result.gt_inds[positive] - 1]
        result.max_overlaps[positive] = bbox_overlaps(pred_instances.bboxes[positive], targets, is_aligned=True)
        return result


def with_probabilities(pred_instances: InstanceData) -> InstanceData:
    """Return a copy whose `scores` are probabilities instead of logits."""
    pred_instances = pred_instances.clone()
    pred_instances.scores = pred_instances.scores.sigmoid()
    return pred_instances


def prior_boxes(priors: Tensor, side: float) -> Tensor:
    """Return squares of `side` strides around point priors.

    Args:
        priors: x, y, stride, stride in pixels. (N, 4)
        side: length of a side in strides.

    Returns:
        Boxes, xyxy in pixels. (N, 4)
    """
    half = priors[:, 2:] * side / 2
    return torch.cat((priors[:, :2] - half, priors[:, :2] + half), dim=1)
