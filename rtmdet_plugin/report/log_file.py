"""Read what a run warned about and how long it took from mmengine's log files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

RECORD = re.compile(r'(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - \S+ - ([A-Z]+) - (.*)')
TIME = '%Y/%m/%d %H:%M:%S'
BAD_SAMPLE = 'Bad sample: '
BAD_SHARE = re.compile(r'.*: (\d+) bad samples of \d+; drawn ')
STOPPED = re.compile(r'the monitored metric did not improve|Stopping threshold reached|.* is infinite\. Previous best')
"""Beginning of the message of mmengine's EarlyStoppingHook when it stops a run."""
NOTICE = re.compile(r'deprecated')
"""Warnings of OpenMMLab about its own code, which a user can't act on."""


@dataclass(frozen=True)
class Log:
    """Content of the log files of one run."""

    seconds: float
    """Time between the first and the last line of each file, in total."""
    warnings: dict[str, int]
    """Number of occurrences of each warning and error, in the order of the first one."""
    bad_samples: list[str]
    """Message of each bad sample, which names its file."""
    stopped: str
    """Why the run was stopped early, in its last session; empty if it wasn't."""


def read_logs(files: Iterable[Path]) -> Log:
    """Read the log files of a run, in the order of its sessions."""
    seconds, messages, stopped = 0.0, [], ''
    for file in files:
        first = last = None
        stopped = ''
        continued = False
        with open(file, errors='replace') as lines:
            for line in lines:
                record = RECORD.match(line)
                if record:
                    time, level, text = record.groups()
                    first, last = first or time, time
                    stopped = text.strip() if STOPPED.match(text) else stopped
                    continued = level in ('WARNING', 'ERROR', 'CRITICAL')
                    if continued and text.startswith('  ') and messages:  # a row of the table of the record before
                        messages[-1].append(text)
                    elif continued:
                        messages.append([text])
                elif continued:
                    messages[-1].append(line.rstrip('\n'))
        if first and last:
            seconds += (datetime.strptime(last, TIME) - datetime.strptime(first, TIME)).total_seconds()
    return Log(seconds, *_sorted_out(messages), stopped)


def _sorted_out(messages: Sequence[Sequence[str]]) -> tuple[dict[str, int], list[str]]:
    """Return the warnings with their number, and the bad samples, which have a list of their own."""
    warnings: dict[str, int] = {}
    bad_samples: dict[str, None] = {}
    for lines in messages:
        text = '\n'.join(lines).strip()
        if text.startswith(BAD_SAMPLE):
            bad_samples[text.removeprefix(BAD_SAMPLE)] = None
        elif text and not NOTICE.search(lines[0]) and not BAD_SHARE.match(text):
            warnings[text] = warnings.get(text, 0) + 1
    return warnings, list(bad_samples)
