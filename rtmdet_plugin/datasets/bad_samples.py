"""What is known of a data set's bad samples, and how it gets from the workers to the run's log.

A worker of the DataLoader has copies of the data set and of the logger: what it knows ends with it, and what it logs
misses mmengine's file or tears its lines. So every process appends one line a bad sample to a file, in a single
`write` to a descriptor opened for appending, which the kernel keeps in one piece. `RTMBadSampleHook` names the file
before the workers start, and reads it in the main process. There is no lock that a killed worker could leave locked, no
pipe that could fill up, it serves forked, spawned, persistent and short-lived workers alike, and a clean run has no
such file at all.
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
"""How many samples the list of a stopped run names."""


def naming(path: str, error: Exception | str) -> str:
    """The message of an error in one line, with the path in front where it isn't in it already."""
    message = ' '.join(str(error).split())
    return message if path in message else f'{path}: {message}'


class BadSamplesError(RefusedError):
    """More samples are bad than the run may do without; the message lists them."""


class BadSamples:
    """The bad samples of one data set.

    Args:
        source: what the samples are listed in, for messages.
        max_share: the share of the samples that may be bad, from 0 to 1.

    Attributes:
        known: why a sample is bad, by its path: those that this process has met.
        file: where every process reports to; None where nobody reads it, and each logs for itself.
    """

    def __init__(self, source: str, max_share: float) -> None:
        self.source = source
        self.max_share = max_share
        self.known: dict[str, str] = {}
        self.file: str | None = None

    def report(self, path: str, error: Exception | str) -> None:
        """Take a sample down, and tell it once: to the file, or to the log."""
        message = naming(path, error)
        new = path not in self.known
        self.known[path] = message
        if self.file is not None and self._append(path, message):
            return
        if new:
            print_log(f'Bad sample: {message}', logger='current', level=logging.WARNING)

    def check_share(self, total: int, known: Mapping[str, str] | None = None) -> None:
        """Stop where too many are bad.

        Args:
            total: the number of samples, bad ones included.
            known: the bad ones, where more is known of them than in this process.

        Raises:
            BadSamplesError: where that is more than `max_share`.
        """
        known = self.known if known is None else known
        if len(known) <= self.max_share * total:
            return
        lines = sorted(known.values())
        if len(lines) > SHOWN:
            lines[SHOWN:] = [f'and {len(lines) - SHOWN} more']
        head = (
            f'{self.source}: {len(known)} of {total} samples are bad, more than max_bad_share={self.max_share}; '
            'accepted: fewer, or a higher max_bad_share of the data set. They are:'
        )
        raise BadSamplesError('\n  '.join([head, *lines]))

    def _append(self, path: str, message: str) -> bool:
        line = json.dumps([path, message]) + '\n'
        try:
            descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError:  # a full disk is no reason to stop, only to log here
            return False
        return True


class Report(NamedTuple):
    """A line of the file."""

    path: str
    message: str


class Reports:
    """The main process's end of the file.

    Args:
        file: its path; it need not be there yet.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._offset = 0

    def new(self) -> list[Report]:
        """What was reported since the last call, in order."""
        try:
            if os.path.getsize(self.file) <= self._offset:
                return []
            with open(self.file, 'rb') as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b'\n') + 1]
        self._offset += len(whole)
        return [Report(*json.loads(line)) for line in whole.splitlines()]

    def clear(self) -> None:
        """Empty the file, so that a long run doesn't fill the disk; those that append find its end by themselves."""
        if os.path.exists(self.file):
            os.truncate(self.file, 0)
        self._offset = 0
