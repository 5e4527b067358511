"""Count the CPU cores that this process may use, and those that other processes leave free.

With a thread per core, a thread that shares its core with another process delays all others, because each parallel
region of a network waits for its slowest thread. On two cores, one of them busy, PyTorch needed 718 ms for an image
with two threads, and 283 ms with one (167 ms with two threads on idle cores).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

SECONDS = 0.2
"""Time over which the use of the cores is measured. Linux counts it in steps of 0.01 s."""


@dataclass(frozen=True)
class Cores:
    """The CPU cores of this process.

    Attributes:
        present: number of cores that it may run on.
        available: number of cores that it may use at a time, limited by its container.
        used: average number of the present cores that other processes use.
    """

    present: int
    available: int
    used: float = 0.0

    @property
    def free(self) -> int:
        """Number of cores that it may use and that other processes leave free, rounded, at least 1."""
        return max(1, min(self.available, int(self.present - self.used + 0.5)))


def available_cores(root: str | Path = '/') -> int:
    """Return the number of CPU cores that this process may use, limited by its container.

    Args:
        root: folder that contains `sys`.
    """
    limit = _limit(Path(root, 'sys/fs/cgroup'))
    return present_cores() if limit is None else max(1, min(present_cores(), int(limit + 0.5)))


def present_cores() -> int:
    """Return the number of CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def physical_cores(root: str | Path = '/') -> int:
    """Return the number of these cores without those that share a physical core with another one.

    Args:
        root: folder that contains `sys`.
    """
    try:
        names = [f'sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list' for core in os.sched_getaffinity(0)]
        return len({Path(root, name).read_text() for name in names})
    except (OSError, AttributeError):
        return present_cores()


def _limit(folder: Path) -> float | None:
    """Return the number of cores that the control group (versions 2 and 1) allows; None without a limit."""
    for names in (('cpu.max',), ('cpu/cpu.cfs_quota_us', 'cpu/cpu.cfs_period_us')):
        try:
            quota, period = ' '.join((folder / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        return None if quota in ('max', '-1') else int(quota) / int(period)
    return None


def measure_cores(seconds: float = SECONDS) -> Cores:
    """Measure how many cores other processes use; on other systems than Linux, `used` is 0.

    Args:
        seconds: time to measure.
    """
    try:
        before, own = _ticks(), time.process_time()
        start = time.perf_counter()
        time.sleep(seconds)
        elapsed = time.perf_counter() - start
        own = time.process_time() - own
        spent = {core: (busy - before[core][0], total - before[core][1]) for core, (busy, total) in _ticks().items()}
    except (OSError, KeyError, AttributeError):  # no Linux, or a core was taken away
        return Cores(present_cores(), available_cores())
    used = sum(busy / total for busy, total in spent.values() if total) - own / elapsed
    return Cores(present_cores(), available_cores(), max(0.0, used))


def _ticks() -> dict[int, tuple[int, int]]:
    """Return for each core that this process may use its busy and its total time so far, in units of the kernel."""
    found, present = {}, os.sched_getaffinity(0)
    for line in Path('/proc/stat').read_text().splitlines():
        name, *times = line.split()
        if name.startswith('cpu') and name != 'cpu' and int(name[3:]) in present:
            # user, nice, system, idle, waiting, interrupts (2), stolen; what follows is part of these
            values = [int(value) for value in times[:8]]
            found[int(name[3:])] = (sum(values) - values[3] - values[4], sum(values))
    return found


def free_threads() -> int | None:
    """Return the number of threads that other processes leave room for, at most one per physical core.

    It is None if they leave all cores free, so that the backend's default fits, or if OMP_NUM_THREADS is set.
    """
    if 'OMP_NUM_THREADS' in os.environ:
        return None
    cores = measure_cores()
    return min(cores.free, physical_cores()) if cores.free < cores.available else None
