"""What happens around the training steps: stages, schedule, averaged weights, checks, several processes."""

from .distributed import RTMDistributedDataParallel
from .ema import RTMExpMomentumEMA
from .flat_cosine import RTMFlatCosineLR
from .num_class_check import RTMNumClassCheckHook
from .pipeline_switch import RTMPipelineSwitchHook

__all__ = [
    'RTMDistributedDataParallel',
    'RTMExpMomentumEMA',
    'RTMFlatCosineLR',
    'RTMNumClassCheckHook',
    'RTMPipelineSwitchHook',
]
