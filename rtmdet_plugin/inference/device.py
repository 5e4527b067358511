"""Check the name of a device, and choose one."""

from __future__ import annotations

import torch


def check_device(device: str) -> None:
    """Check that PyTorch can compute on a device.

    Raises:
        ValueError: if the device is neither the CPU nor a CUDA device that PyTorch sees.
    """
    count = torch.cuda.device_count()
    accepted = ['cpu', *(['cuda'] if count else []), *(f'cuda:{index}' for index in range(count))]
    if device not in accepted:
        seen = '' if count else '; PyTorch sees no CUDA device'
        raise ValueError(f'device must be one of {", ".join(accepted)}, got {device!r}{seen}')


def device_type() -> str:
    """Return 'cuda' or 'cpu', as mmengine's Runner chooses."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'
