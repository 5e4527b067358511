"""Hooks that skip unusable samples and steps, and stop the run if there are too many."""

from .bad_samples import RTMBadSampleHook
from .check_invalid_loss import RTMCheckInvalidLossHook

__all__ = ['RTMBadSampleHook', 'RTMCheckInvalidLossHook']
