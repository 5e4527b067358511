"""Choose the device of a training before PyTorch's first use of a GPU."""

from __future__ import annotations

import os
import re

from ..errors import RefusedError


def visible_devices(device: str | None) -> str | None:
    """Return the value of CUDA_VISIBLE_DEVICES for a device; None if it isn't changed.

    Raises:
        RefusedError: if the device isn't 'cpu', 'cuda' or 'cuda:N'.
    """
    if device is None or device == 'cuda':
        return None
    if device == 'cpu':
        return "''"
    if re.fullmatch(r'cuda:\d+', device):
        return device.removeprefix('cuda:')
    raise RefusedError(f'device must be cpu, cuda or cuda:N, got {device!r}')


def choose_device(device: str | None, gpus: int = 1) -> None:
    """Hide the other GPUs from PyTorch, which mmengine's Runner would use; it works before their first use only.

    Raises:
        RefusedError: see `visible_devices`; also if there is no such GPU, or one is named for a run on several.
    """
    if gpus > 1 and device not in (None, 'cpu', 'cuda'):
        raise RefusedError(
            f'device must be cuda or cpu with gpus={gpus}, got {device}; choose GPUs with CUDA_VISIBLE_DEVICES'
        )
    visible = visible_devices(device)
    if visible is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = visible.strip("'")
    if device is not None and device != 'cpu' and device_type() != 'cuda':
        raise RefusedError(f'device must be cpu on a machine without CUDA, got {device}')


def device_type() -> str:
    """Return 'cuda' or 'cpu', as mmengine's Runner chooses."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'
