"""Determine the memory that a process may still allocate on Linux, limited by the machine and its container."""

from pathlib import Path


def free_memory(root: str | Path = '/') -> int | None:
    """Return the free memory in bytes, or None if the system doesn't report it.

    Args:
        root: folder that contains `proc` and `sys`.
    """
    root = Path(root)
    free = [value for value in (_of_machine(root), _of_container(root)) if value is not None]
    return min(free, default=None)


def _of_machine(root: Path) -> int | None:
    try:
        lines = (root / 'proc/meminfo').read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith('MemAvailable:')), None)


def _of_container(root: Path) -> int | None:
    """Return the limit of the control group (versions 2 and 1) minus its used memory without reclaimable file cache."""
    for folder, limit, used in (
        ('sys/fs/cgroup', 'memory.max', 'memory.current'),
        ('sys/fs/cgroup/memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes'),
    ):
        try:
            maximum, taken = ((root / folder / name).read_text().strip() for name in (limit, used))
            stat = dict(line.split() for line in (root / folder / 'memory.stat').read_text().splitlines())
        except OSError:
            continue
        if maximum != 'max':
            return max(0, int(maximum) - int(taken) + int(stat.get('inactive_file', 0)))
    return None
