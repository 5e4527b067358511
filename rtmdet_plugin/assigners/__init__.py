"""Label assignment: which prior learns which object. Registered in mmdet's `TASK_UTILS`."""

from .baselines import RTMATSSAssigner, RTMSimOTAAssigner, RTMTaskAlignedAssigner
from .dynamic_soft_label import RTMDynamicSoftLabelAssigner
from .hard_costs import RTMHardCostAssigner

__all__ = [
    'RTMATSSAssigner', 'RTMDynamicSoftLabelAssigner', 'RTMHardCostAssigner', 'RTMSimOTAAssigner',
    'RTMTaskAlignedAssigner',
]  # fmt: skip
