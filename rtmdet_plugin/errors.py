"""The error of a run that is refused, and how a run that `mim` started reports it."""

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

SHOW = 'RTMDET_PLUGIN_TRACEBACK'
"""Environment variable: show the traceback of a refused run on the terminal, too."""


class RefusedError(ValueError):
    """A training or test can't begin or continue as it was asked for.

    The message is for the user, so `mim train` and `mim test` print it without a traceback. Raise it only if the
    settings or the data are at fault, never for a bug.
    """


EXPECTED = (
    RefusedError, UnsafeCheckpointError, DamagedCheckpointError,
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError,
)  # fmt: skip
"""Errors whose message is for the user: refusals, and files that are missing or can't be written."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of the system that are expected as well: full disks."""


def report_refusals() -> None:
    """Shorten the report of uncaught `EXPECTED` errors in a process that `mim` started; others stay as they are."""
    if os.environ.get(rtmdet_plugin_startup.REFUSAL_FILE):
        sys.excepthook = functools.partial(report_uncaught, sys.excepthook)


def report_uncaught(
    other: Callable, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write the traceback of an expected error to the run's log; `mim` prints the message as the last line."""
    if not isinstance(error, EXPECTED) and getattr(error, 'errno', None) not in FULL:
        other(kind, error, trace)
        return
    log = _log(''.join(traceback.format_exception(kind, error, trace)))
    if log is None or os.environ.get(SHOW, '0') not in ('', '0'):
        other(kind, error, trace)
    else:
        print(f'The traceback is in {log}; {SHOW}=1 shows it here.', file=sys.stderr)
    line = f'rtmdet_plugin: {message_of(error)}'
    try:
        with open(os.environ[rtmdet_plugin_startup.REFUSAL_FILE], 'x', errors='replace') as file:
            file.write(line)
    except FileExistsError:  # another process was refused first
        pass
    except OSError:  # `mim` runs on another machine
        print(line, file=sys.stderr)


def message_of(error: BaseException) -> str:
    """The message of an error; without the traceback that PyTorch adds in a DataLoader's worker."""
    return without_worker_traceback(str(error)).strip() or type(error).__name__


def _log(text: str) -> str | None:
    """Write to the files of the run's log and not to the terminal; return the path of the first, if there is one."""
    files = [
        handler for handler in MMLogger.get_current_instance().handlers if isinstance(handler, logging.FileHandler)
    ]
    record = logging.LogRecord('rtmdet_plugin', logging.ERROR, __file__, 0, text, None, None)
    with suppress(OSError):
        for handler in files:
            handler.handle(record)
    return files[0].baseFilename if files else None
