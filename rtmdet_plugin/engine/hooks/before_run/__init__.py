"""Hooks that look at a run before its first step, and report or refuse."""

from .load_report import RTMLoadReportHook
from .num_class_check import RTMNumClassCheckHook
from .run_check import RTMRunCheckHook

__all__ = ['RTMLoadReportHook', 'RTMNumClassCheckHook', 'RTMRunCheckHook']
