"""Record the bad samples of a dataset, and pass them from the workers to the run's log.

A DataLoader worker has its own copies of the dataset and of the logger: what it records is lost when it ends, and what
it logs bypasses mmengine's log file or mixes with other processes' lines. So every process appends one line per bad
sample to a file, with a single `write` to a descriptor opened for appending, which the kernel doesn't interleave.
`RTMBadSampleHook` sets the file's path before the workers start, and reads the file in the main process.

There is no lock that a killed worker could leave locked and no pipe that could fill up. It works for forked, spawned,
persistent and short-lived workers, and a run without bad samples creates no file.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import NamedTuple

from mmengine.logging import print_log

from ..errors import RefusedError

SHOWN = 50
"""Maximum number of samples that the error of a stopped run lists."""


def error_message(path: str, error: Exception | str) -> str:
    """Return the message of an error in one line, prefixed with the path unless it contains it."""
    message = ' '.join(str(error).split())
    return message if path in message else f'{path}: {message}'


class BadSamplesError(RefusedError):
    """More samples are bad than `max_bad_share` allows; the message lists them."""


class BadSamples:
    """The bad samples of one dataset.

    Args:
        source: file that lists the samples, for messages.
        max_share: largest acceptable share of bad samples, from 0 to 1.

    Attributes:
        known: reason by path, for each bad sample that this process has met.
        file: file that every process reports to; None if nobody reads it and each process logs for itself.
    """

    def __init__(self, source: str, max_share: float) -> None:
        self.source = source
        self.max_share = max_share
        self.known: dict[str, str] = {}
        self.file: str | None = None

    def report(self, path: str, error: Exception | str) -> None:
        """Record a bad sample; report it once, to the file or else to the log."""
        message = error_message(path, error)
        new = path not in self.known
        self.known[path] = message
        if self.file is not None and _append(self.file, path, message):
            return
        if new:
            print_log(f'Bad sample: {message}', logger='current', level=logging.WARNING)

    def check_share(self, total: int, known: Mapping[str, str] | None = None) -> None:
        """Raise an error if too many samples are bad.

        Args:
            total: the number of samples, including bad ones.
            known: reason by path for each bad sample; by default those that this process has met.

        Raises:
            BadSamplesError: if the share of bad samples is larger than `max_share`.
        """
        known = self.known if known is None else known
        if len(known) <= self.max_share * total:
            return
        lines = sorted(known.values())
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f'and {len(lines) - SHOWN} more']
        head = (
            f'{self.source}: the share of bad samples must be at most max_bad_share={self.max_share}, got '
            f'{len(known)} of {total}; repair them, or raise max_bad_share of the dataset. Bad samples:'
        )
        raise BadSamplesError('\n  '.join([head, *lines]))


def _append(file: str, path: str, message: str) -> bool:
    line = json.dumps([path, message]) + '\n'
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError:  # e.g. a full disk: log in this process instead of stopping
        return False
    return True


class Report(NamedTuple):
    """One line of the file."""

    path: str
    message: str


class Reports:
    """Reader of the file, in the main process.

    Args:
        file: its path; it may not exist yet.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._offset = 0

    def new(self) -> list[Report]:
        """Return what was reported since the last call, in order."""
        try:
            if os.path.getsize(self.file) <= self._offset:
                return []
            with open(self.file, 'rb') as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        complete = data[: data.rfind(b'\n') + 1]
        self._offset += len(complete)
        return [Report(*json.loads(line)) for line in complete.splitlines()]

    def clear(self) -> None:
        """Empty the file, so that a long run doesn't fill the disk; writers append at its new end."""
        if os.path.exists(self.file):
            os.truncate(self.file, 0)
        self._offset = 0
