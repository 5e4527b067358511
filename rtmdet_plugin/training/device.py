"""Choose the device of a training before PyTorch's first use of a GPU."""

from __future__ import annotations

from rtmdet_runtime.devices import VARIABLE, hide_other_gpus

from ..errors import RefusedError
from ..inference.device import device_type


def choose_device(device: str | None, gpus: int = 1) -> None:
    """Hide the other GPUs from PyTorch, which mmengine's Runner would use; it works before their first use only.

    Raises:
        RefusedError: see `visible_devices`; also if there is no such GPU, one is named for a run on several, or a
            GPU was used before, so that it can't be hidden.
    """
    if gpus > 1 and device not in (None, 'cpu', 'cuda'):
        raise RefusedError(f'device must be cuda or cpu with gpus={gpus}, got {device}; choose GPUs with {VARIABLE}')
    try:
        hide_other_gpus(device)
    except ValueError as error:
        raise RefusedError(str(error)) from None
    if device is None:
        return
    if device == 'cpu' and device_type() == 'cuda':
        raise RefusedError(f'device must be chosen before PyTorch uses a GPU, got cpu; start Python with {VARIABLE}=')
    if device != 'cpu' and device_type() == 'cpu':
        raise RefusedError(f'device must be cpu, because PyTorch finds no such GPU on this machine, got {device}')
