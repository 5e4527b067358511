"""Hooks that save a run that is asked to stop, and end one that has lost a process."""

from .graceful_stop import RTMGracefulStopHook
from .process_watch import RTMProcessWatchHook

__all__ = ['RTMGracefulStopHook', 'RTMProcessWatchHook']
