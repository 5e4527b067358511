"""Which devices there are."""

from __future__ import annotations

import torch


def check_device(device: str) -> None:
    """See that PyTorch can compute on a device.

    Raises:
        ValueError: for another one than the CPU and the CUDA devices that PyTorch sees.
    """
    count = torch.cuda.device_count()
    accepted = ['cpu', *(['cuda'] if count else []), *(f'cuda:{index}' for index in range(count))]
    if device not in accepted:
        seen = '' if count else '; PyTorch sees no CUDA device'
        raise ValueError(f'device={device!r}; accepted: {", ".join(accepted)}{seen}')
