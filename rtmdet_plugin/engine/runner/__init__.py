"""The training loop, and the model wrapper for several processes."""

from .distributed import RTMDistributedDataParallel
from .epoch_based_train_loop import RTMEpochBasedTrainLoop

__all__ = ['RTMDistributedDataParallel', 'RTMEpochBasedTrainLoop']
