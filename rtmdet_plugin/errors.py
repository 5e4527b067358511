"""Report runs that are refused, such as one with invalid settings, by a message without a traceback."""

import errno
import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from mmengine.logging import MMLogger

import rtmdet_plugin_startup
from rtmdet_runtime.messages import without_worker_traceback

from .compat.torch_load import DamagedCheckpointError, UnsafeCheckpointError

SHOW_TRACEBACK = 'RTMDET_PLUGIN_TRACEBACK'
"""Environment variable: show the traceback of a refused run on the terminal as well."""


class RefusedError(ValueError):
    """Raised if a training or test can't start or continue with its settings or data.

    The message is for the user, so `mim train` and `mim test` print it without a traceback. Raise it only if the
    settings or the data are the cause, never for a bug.
    """


EXPECTED = (
    RefusedError, UnsafeCheckpointError, DamagedCheckpointError,
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError,
)  # fmt: skip
"""Errors whose message is for the user: refusals, and files that are missing or can't be read or written."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Codes of system errors that are expected as well."""


def report_refusals() -> None:
    """In a process that `mim` started, shorten the report of uncaught `EXPECTED` errors; leave other errors as is."""
    if os.environ.get(rtmdet_plugin_startup.REFUSAL_FILE):
        sys.excepthook = functools.partial(report_uncaught, sys.excepthook)


def report_uncaught(
    other: Callable, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write the traceback of an expected error to the run's log; `mim` prints the message as the last line.

    Args:
        other: excepthook that reports all other errors.
        kind: class of the error.
        error: the uncaught error.
        trace: its traceback.
    """
    if not isinstance(error, EXPECTED) and getattr(error, 'errno', None) not in DISK_FULL:
        other(kind, error, trace)
        return
    log = log_traceback(error)
    if log is None or os.environ.get(SHOW_TRACEBACK, '0') not in ('', '0'):
        other(kind, error, trace)
    else:
        print(f'The traceback is in {log}; {SHOW_TRACEBACK}=1 shows it here.', file=sys.stderr)
    line = f'rtmdet_plugin: {message_of(error)}'
    try:
        with open(os.environ[rtmdet_plugin_startup.REFUSAL_FILE], 'x', errors='replace') as file:
            file.write(line)
    except FileExistsError:  # another process was refused first
        pass
    except OSError:  # `mim` runs on another machine
        print(line, file=sys.stderr)


def message_of(error: BaseException) -> str:
    """Return the message of an error, without the traceback that PyTorch adds in a DataLoader's worker."""
    return without_worker_traceback(str(error)).strip() or type(error).__name__


def log_traceback(error: BaseException) -> str | None:
    """Write the traceback of an error to the run's log files, but not to the terminal.

    Returns:
        The path of the first file; None if there is none.
    """
    text = ''.join(traceback.format_exception(error))
    files = [
        handler for handler in MMLogger.get_current_instance().handlers if isinstance(handler, logging.FileHandler)
    ]
    record = logging.LogRecord('rtmdet_plugin', logging.ERROR, __file__, 0, text, None, None)
    with suppress(OSError):
        for handler in files:
            handler.handle(record)
    return files[0].baseFilename if files else None
