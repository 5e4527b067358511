"""Which prior learns which object, registered in mmdet's ``TASK_UTILS``."""

from .dynamic_soft_label import RTMDynamicSoftLabelAssigner
from .sim_ota import RTMSimOTAAssigner

__all__ = ['RTMDynamicSoftLabelAssigner', 'RTMSimOTAAssigner']
