"""Join tensors in a file in memory, which PyTorch sends from a worker to the trainer without a copy.

This takes 0.6 of the time of `default_collate`, which writes to newly mapped memory, so that every page is first filled
with zeros and then interrupts the worker. Unlike PyTorch's shared memory, the file isn't limited by the size of
`/dev/shm`, which is 64 MB in a Docker container by default.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch.multiprocessing import get_sharing_strategy
from torch.utils.data import get_worker_info

FILE_NAME = 'rtmdet_batch'
"""Name of the files in memory; it is shown in `/proc/PID/maps`."""


def join_in_file(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Concatenate tensors of one dtype in a file in memory.

    Args:
        tensors: at least one tensor.

    Returns:
        Their elements in order, as one dimension.
    """
    size = sum(tensor.nbytes for tensor in tensors)
    with open(os.memfd_create(FILE_NAME), 'wb') as file:
        for tensor in tensors:
            file.write(tensor.contiguous().numpy().data)
        file.flush()
        storage = torch.UntypedStorage._new_shared_fd_cpu(file.fileno(), size)  # pyright: ignore[reportAttributeAccessIssue]
    return torch.empty(0, dtype=tensors[0].dtype).set_(storage)


def sends_files() -> bool:
    """Return whether this is a worker that sends its tensors as open files, the default on Linux."""
    return get_worker_info() is not None and hasattr(os, 'memfd_create') and get_sharing_strategy() == 'file_descriptor'
