"""Keep the memory of freed images in the process, for the next image.

Every new page that a process gets from the system costs an interrupt and is filled with zeros. glibc returns freed
memory to the system above a threshold, which it adapts to the largest array that the process has freed. The images of
a sample in stage 2 add up to more than this: 390 pages were returned and mapped again per sample of 640x640, which
took a tenth of its CPU time.
"""

import functools

import numpy as np

ARRAY = 2**24
"""Size in bytes of the array that glibc adapts to. It then keeps up to twice as much of what is freed."""


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep up to 32 MiB of freed memory; without effect in later calls and with other allocators."""
    np.empty(ARRAY, np.uint8)  # freed at once, and never written: it takes no memory
