"""Turn a device such as 'cuda:1' into a value of CUDA_VISIBLE_DEVICES, which must be set before PyTorch is imported."""

from __future__ import annotations

import os
import re

VARIABLE = 'CUDA_VISIBLE_DEVICES'


def visible_devices(device: str | None) -> str | None:
    """Return the value of CUDA_VISIBLE_DEVICES for a device, '' for no GPU; None if it isn't changed.

    Raises:
        ValueError: if the device isn't 'cpu', 'cuda' or 'cuda:N', or the variable already selects other GPUs.
    """
    if device is None or device == 'cuda':
        return None
    if device == 'cpu':
        return ''
    if not re.fullmatch(r'cuda:\d+', device):
        raise ValueError(f'device must be cpu, cuda or cuda:N, got {device!r}')
    number = device.removeprefix('cuda:')
    if os.environ.get(VARIABLE, number) != number:
        raise ValueError(
            f'device must be cuda or cpu while {VARIABLE}={os.environ[VARIABLE]} selects GPUs, got {device}; to choose '
            'another one, change the variable'
        )
    return number


def hide_other_gpus(device: str | None) -> None:
    """Set CUDA_VISIBLE_DEVICES for a device; it has an effect before PyTorch is imported.

    Raises:
        ValueError: see `visible_devices`.
    """
    visible = visible_devices(device)
    if visible is not None:
        os.environ[VARIABLE] = visible
