"""The error of a run that is refused, and how a run that `mim` started reports it."""

import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from mmengine.logging import MMLogger

import rtmdet_plugin_startup

from .compat.torch_load import DamagedCheckpointError, UnsafeCheckpointError

SHOW = 'RTMDET_PLUGIN_TRACEBACK'
"""Environment variable: show the traceback of a refused run on the terminal, too."""


class RefusedError(ValueError):
    """A training or test can't begin or continue as it was asked for.

    The message is for the user, so `mim train` and `mim test` print it without a traceback. Raise it only if the
    settings or the data are at fault, never for a bug.
    """


EXPECTED = (RefusedError, UnsafeCheckpointError, DamagedCheckpointError, OSError)
"""Errors whose message is for the user: refusals, and files that are missing or can't be written."""


def report_refusals() -> None:
    """Shorten the report of uncaught `EXPECTED` errors in a process that `mim` started; others stay as they are."""
    if os.environ.get(rtmdet_plugin_startup.REFUSAL_FILE):
        sys.excepthook = report_uncaught


def report_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write the traceback of an expected error to the run's log; `mim` prints the message as the last line."""
    if not isinstance(error, EXPECTED):
        sys.__excepthook__(kind, error, trace)
        return
    log = _log(''.join(traceback.format_exception(kind, error, trace)))
    if log is None or os.environ.get(SHOW, '0') not in ('', '0'):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f'The traceback is in {log}; {SHOW}=1 shows it here.', file=sys.stderr)
    line = f'rtmdet_plugin: {message_of(error)}'
    try:
        Path(os.environ[rtmdet_plugin_startup.REFUSAL_FILE]).write_text(line, errors='replace')
    except OSError:  # `mim` runs on another machine
        print(line, file=sys.stderr)


def message_of(error: BaseException) -> str:
    """The message of an error; without the traceback that PyTorch adds in a DataLoader's worker."""
    text = str(error)
    if text.startswith('Caught '):
        text = re.split(r'^\S+(?:Error|Exception): ', text, flags=re.MULTILINE)[-1]
    return text.strip() or type(error).__name__


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
