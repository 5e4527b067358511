"""Hooks of the Runner.

- `before_run`: what is known before the first step: settings, annotations, machine, checkpoint.
- `faults`: samples that can't be used, and steps that aren't finite.
- `interruption`: Ctrl-C, SIGTERM, and processes that are lost.
"""

from .before_run import RTMLoadReportHook, RTMNumClassCheckHook, RTMRunCheckHook
from .channels_last import RTMChannelsLastHook
from .checkpoint import RTMCheckpointHook
from .faults import RTMBadSampleHook, RTMCheckInvalidLossHook
from .interruption import RTMGracefulStopHook, RTMProcessWatchHook
from .pipeline_switch import RTMPipelineSwitchHook
from .runtime_info import RTMRuntimeInfoHook
from .unfold_norm import RTMUnfoldNormHook

__all__ = [
    'RTMBadSampleHook',
    'RTMChannelsLastHook',
    'RTMCheckInvalidLossHook',
    'RTMCheckpointHook',
    'RTMGracefulStopHook',
    'RTMLoadReportHook',
    'RTMNumClassCheckHook',
    'RTMPipelineSwitchHook',
    'RTMProcessWatchHook',
    'RTMRunCheckHook',
    'RTMRuntimeInfoHook',
    'RTMUnfoldNormHook',
]
