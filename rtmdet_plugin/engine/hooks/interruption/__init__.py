"""Hooks that save an interrupted run, and end a run that has lost a process."""

from .graceful_stop import RTMGracefulStopHook
from .process_watch import RTMProcessWatchHook

__all__ = ['RTMGracefulStopHook', 'RTMProcessWatchHook']
