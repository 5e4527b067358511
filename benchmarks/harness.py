"""Measure candidates in turns: wall-clock and CPU time with their spread, page faults, memory; on idle and busy cores.

The loop itself is `in_turns` of rtmdet_plugin/inference/benchmark.py, which `rtmdet benchmark` uses too.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

from rtmdet_plugin.inference.benchmark import PAUSE, Name, Step, in_turns

SPIN = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(10**6): pass
"""
"""Program that keeps a core busy until its parent ends, however that happens."""


@dataclass(frozen=True)
class Cost:
    """What some work took.

    Attributes:
        wall: wall-clock time in seconds.
        cpu: CPU time in seconds, of all threads and of child processes that have ended.
        faults: number of minor page faults: pages that were mapped, but not read from a disk.
    """

    wall: float = 0.0
    cpu: float = 0.0
    faults: int = 0

    @classmethod
    def now(cls) -> Cost:
        """Read the clocks and counters; only differences mean something."""
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = time.process_time() + ended.ru_utime + ended.ru_stime
        return cls(time.perf_counter(), cpu, own.ru_minflt + ended.ru_minflt)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu, self.faults + other.faults)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu, self.faults - other.faults)


class Parts(dict[str, Cost]):
    """The cost of named parts of some work; a part that runs several times is summed."""

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure a block of code, on a GPU too."""
        synchronize()
        start = Cost.now()
        yield
        synchronize()
        self[name] = self.get(name, Cost()) + (Cost.now() - start)


def synchronize() -> None:
    """Wait for the GPU if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def cost_of(step: Step) -> Cost:
    """Measure one call, on a GPU too; see `PAUSE`, which only CPUs need."""
    time.sleep(0 if torch.cuda.is_available() else PAUSE)
    parts = Parts()
    with parts.part('call'):
        step()
    return parts['call']


def costs(candidates: Mapping[Name, Step], repeats: int) -> dict[Name, list[Cost]]:
    """Measure the calls of each candidate in turns; a first call of each is the warm-up."""
    return in_turns({name: partial(cost_of, step) for name, step in candidates.items()}, repeats, warmup=1)


def in_threads(count: int, step: Callable[[], object]) -> None:
    """Call a step with this number of PyTorch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    step()
    torch.set_num_threads(before)


def milliseconds(measured: Sequence[Cost], prefix: str = '') -> dict[str, float]:
    """Return the median, lowest and highest wall-clock time, and the median CPU time, as parts of a row."""
    walls = [1e3 * cost.wall for cost in measured]
    return {
        f'{prefix}ms': median(walls),
        f'{prefix}ms min': min(walls),
        f'{prefix}ms max': max(walls),
        f'{prefix}CPU ms': median(1e3 * cost.cpu for cost in measured),
    }


def compare(more: Sequence[float], less: Sequence[float]) -> dict:
    """Return the median and the range of the ratio over rounds."""
    ratios = [a / b for a, b in zip(more, less, strict=True)]
    return dict(ratio=median(ratios), ratio_range=[min(ratios), max(ratios)])


@contextlib.contextmanager
def busy_cores(count: int) -> Iterator[str]:
    """Keep some cores busy with processes that end with the block; yield the name of the condition."""
    spinning = []
    try:
        for _ in range(count):
            command = [sys.executable, '-I', '-S', '-c', SPIN, str(os.getpid())]
            spinning.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))  # Ctrl-C reaches them as well
        yield f'{count} busy core{"s" if count > 1 else ""}' if count else 'idle'
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def arguments(doc: str) -> argparse.ArgumentParser:
    """Return a parser with the options that the scripts share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--busy-cores',
        type=int,
        nargs='+',
        default=[0],
        metavar='N',
        help='cores that this script keeps busy while it measures; 0 1 measures both conditions (default: 0)',
    )
    parser.add_argument('--quick', action='store_true', help='check that the script runs; write no results')
    return parser


def peak_memory(candidate: Callable[[], object]) -> float:
    """Measure how many MB of tensors a call holds at its peak, in addition to those held before."""
    if torch.cuda.is_available():
        synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        candidate()
        synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        candidate()
    # The profiler's log of allocations and frees in their order; its running sum is what is held.
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def resident_mb(field: str = 'VmHWM') -> float:
    """Return the resident memory of this process in MB: VmHWM, the peak so far, or VmRSS, the current value.

    `getrusage` would count the parent's peak.
    """
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def peak_resident(candidate: Callable[[], object]) -> float | str:
    """Measure by how many MB the resident memory of this process grows during a call, at its peak.

    Memory that the allocator keeps from earlier calls is first returned to the system, so that the order of candidates
    doesn't matter.
    """
    with contextlib.suppress(AttributeError):  # only in glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path('/proc/self/clear_refs').write_text('5')  # resets VmHWM
    except OSError:
        return 'not measured'
    before = resident_mb('VmRSS')
    candidate()
    return resident_mb() - before
