"""Memory that a process may still take, on Linux: that of the machine, and of the container it runs in."""

from pathlib import Path


def free_memory(root: str | Path = '/') -> int | None:
    """Bytes; None where the system doesn't say.

    Args:
        root: the folder that `proc` and `sys` are in.
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
    """The limit of the control group (versions 2 and 1) less what is taken, the files it can drop excluded."""
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
