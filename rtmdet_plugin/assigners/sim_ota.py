"""RTMSimOTAAssigner: mmdet's SimOTA, the baseline that the paper compares with, in RTMDet's head.

Source: YOLOX, arXiv 2107.08430; the comparison: RTMDet, arXiv 2212.07784, table of assigners.
"""

from mmdet.models.task_modules.assigners import AssignResult, SimOTAAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData


@TASK_UTILS.register_module()
class RTMSimOTAAssigner(SimOTAAssigner):
    """mmdet's ``SimOTAAssigner`` for logits.

    mmdet's own takes probabilities, as YOLOX's head hands them over; RTMDet's head hands over logits, on which its
    binary cross entropy fails. Arguments are mmdet's.
    """

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        **kwargs,
    ) -> AssignResult:
        """As :meth:`RTMDynamicSoftLabelAssigner.assign`; ``pred_instances.scores`` holds logits. (N, C)"""
        pred_instances = pred_instances.clone()
        pred_instances.scores = pred_instances.scores.sigmoid()
        return super().assign(pred_instances, gt_instances, gt_instances_ignore, **kwargs)
