"""Label assignment: which prior learns which object. Registered in mmdet's `TASK_UTILS`."""

from .baselines import RTMATSSAssigner, RTMSimOTAAssigner, RTMTaskAlignedAssigner
from .dynamic_soft_label import RTMDynamicSoftLabelAssigner

__all__ = ['RTMATSSAssigner', 'RTMDynamicSoftLabelAssigner', 'RTMSimOTAAssigner', 'RTMTaskAlignedAssigner']
