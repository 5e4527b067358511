"""Hooks of the Runner.

- `before_run`: checks of settings, annotations, machine and checkpoint before the first step.
- `faults`: handling of unusable samples and non-finite steps.
- `interruption`: handling of Ctrl-C, SIGTERM and lost processes.
"""

from .before_run import RTMLoadReportHook, RTMNumClassCheckHook, RTMRunCheckHook
from .channels_last import RTMChannelsLastHook
from .checkpoint import RTMCheckpointHook
from .cpu_threads import RTMCPUThreadsHook
from .distillation import RTMDistillationHook
from .early_stopping import RTMEarlyStoppingHook
from .faults import RTMBadSampleHook, RTMCheckInvalidLossHook
from .interruption import RTMGracefulStopHook, RTMProcessWatchHook
from .keep_classes import RTMKeepClassesHook
from .kept_memory import RTMKeptMemoryHook
from .pipeline_switch import RTMPipelineSwitchHook
from .runtime_info import RTMRuntimeInfoHook
from .unfold_norm import RTMUnfoldNormHook

__all__ = [
    'RTMBadSampleHook',
    'RTMCPUThreadsHook',
    'RTMChannelsLastHook',
    'RTMCheckInvalidLossHook',
    'RTMCheckpointHook',
    'RTMDistillationHook',
    'RTMEarlyStoppingHook',
    'RTMGracefulStopHook',
    'RTMKeepClassesHook',
    'RTMKeptMemoryHook',
    'RTMLoadReportHook',
    'RTMNumClassCheckHook',
    'RTMPipelineSwitchHook',
    'RTMProcessWatchHook',
    'RTMRunCheckHook',
    'RTMRuntimeInfoHook',
    'RTMUnfoldNormHook',
]
