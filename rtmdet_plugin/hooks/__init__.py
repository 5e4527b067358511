"""What happens around the training steps: stages, schedule, averaged weights, checks, several processes."""

from .bad_samples import RTMBadSampleHook
from .bfloat16_optim_wrapper import RTMBFloat16OptimWrapper
from .channels_last import RTMChannelsLastHook
from .check_invalid_loss import RTMCheckInvalidLossHook
from .checkpoint import RTMCheckpointHook
from .distributed import RTMDistributedDataParallel
from .ema import RTMExpMomentumEMA
from .epoch_based_train_loop import RTMEpochBasedTrainLoop
from .flat_cosine import RTMFlatCosineLR
from .graceful_stop import RTMGracefulStopHook
from .load_report import RTMLoadReportHook
from .num_class_check import RTMNumClassCheckHook
from .optim_wrapper_constructor import RTMOptimWrapperConstructor
from .pipeline_switch import RTMPipelineSwitchHook
from .process_watch import RTMProcessWatchHook
from .run_check import RTMRunCheckHook
from .runtime_info import RTMRuntimeInfoHook
from .unfold_norm import RTMUnfoldNormHook

__all__ = [
    'RTMBFloat16OptimWrapper',
    'RTMBadSampleHook',
    'RTMChannelsLastHook',
    'RTMCheckInvalidLossHook',
    'RTMCheckpointHook',
    'RTMDistributedDataParallel',
    'RTMEpochBasedTrainLoop',
    'RTMExpMomentumEMA',
    'RTMFlatCosineLR',
    'RTMGracefulStopHook',
    'RTMLoadReportHook',
    'RTMNumClassCheckHook',
    'RTMOptimWrapperConstructor',
    'RTMPipelineSwitchHook',
    'RTMProcessWatchHook',
    'RTMRunCheckHook',
    'RTMRuntimeInfoHook',
    'RTMUnfoldNormHook',
]
