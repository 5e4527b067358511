"""Hooks that check a run before its first step, and report or refuse it."""

from .load_report import RTMLoadReportHook
from .num_class_check import RTMNumClassCheckHook
from .run_check import RTMRunCheckHook

__all__ = ['RTMLoadReportHook', 'RTMNumClassCheckHook', 'RTMRunCheckHook']
