"""Keep freed memory in the process, for the next image and the next training step.

Every new page that a process gets from the system costs an interrupt and is filled with zeros. glibc returns freed
memory to the system above thresholds, and maps each tensor of 32 MiB and more separately:

- Images: 390 pages were mapped again per sample of 640x640 in stage 2, a tenth of its CPU time.
- A training step in float32 with batch 4 at 640 px: 70,000 to 150,000 pages were mapped again, up to 600 MB.

Other allocators than glibc's aren't changed, and neither is glibc's if the user has set it up in the environment.
"""

import ctypes
import functools
import os

import numpy as np

ARRAY = 2**24
"""Size in bytes of the array that glibc adapts to. It then keeps up to twice as much of what is freed."""
SETTINGS = (
    'MALLOC_TRIM_THRESHOLD_', 'MALLOC_TOP_PAD_', 'MALLOC_MMAP_THRESHOLD_', 'MALLOC_MMAP_MAX_', 'GLIBC_TUNABLES',
)  # fmt: skip
"""Environment variables that set up glibc's allocator."""
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Parameters of glibc's `mallopt`, from malloc.h."""
DEFAULT_MMAP_MAX = 65536


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 32 MiB of freed memory; without effect in later calls and with other allocators."""
    np.empty(ARRAY, np.uint8)  # freed at once, and never written: it takes no memory


@functools.cache
def keep_all_freed_memory() -> bool:
    """Let glibc keep all freed memory in this process; child processes keep up to 32 MiB.

    Returns:
        Whether it does; not with other allocators, or if one of `SETTINGS` is in the environment.
    """
    if any(name in os.environ for name in SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if os.name == 'posix' else None
    # mallopt returns 1 if it succeeds. A threshold of -1 never trims the heap.
    if mallopt is None or not (mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1)):
        return False

    def keep_less() -> None:
        mallopt(MMAP_MAX, DEFAULT_MMAP_MAX)
        mallopt(TRIM_THRESHOLD, 2 * ARRAY)
        mallopt(MMAP_THRESHOLD, 2 * ARRAY)  # glibc doesn't adapt it any more, because the parent has set thresholds

    os.register_at_fork(after_in_child=keep_less)
    return True
