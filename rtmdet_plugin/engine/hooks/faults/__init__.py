"""Hooks that keep a run going, or end it, if samples or steps are unusable."""

from .bad_samples import RTMBadSampleHook
from .check_invalid_loss import RTMCheckInvalidLossHook

__all__ = ['RTMBadSampleHook', 'RTMCheckInvalidLossHook']
