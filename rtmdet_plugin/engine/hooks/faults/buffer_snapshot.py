"""Restore a model's buffers to their values before a step.

BN updates its running statistics in the forward pass, before it is known whether the step is skipped. One NaN in an
image or a weight would stay in them for the rest of the run, and the model would fail only in evaluation.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn


class BufferSnapshot:
    """Saves and restores the buffers of `model`, each once, in a few kernels and without waiting for a GPU."""

    def __init__(self, model: nn.Module) -> None:
        self._groups: dict[tuple, list[Tensor]] = defaultdict(list)
        for buffer in model.buffers():
            if buffer.numel():
                self._groups[buffer.device, buffer.dtype].append(buffer)
        self.take()

    def take(self) -> None:
        """Save the current values."""
        self._saved = {key: flatten(buffers) for key, buffers in self._groups.items()}

    def restore_if(self, invalid: Tensor | bool) -> None:
        """Restore all values if the step was invalid, or if any value was finite before and isn't now.

        Args:
            invalid: whether the step was invalid; a tensor may be on the device.
        """
        current = {key: flatten(buffers) for key, buffers in self._groups.items()}
        for key, values in current.items():
            lost = (torch.isfinite(self._saved[key]) & ~torch.isfinite(values)).any()
            invalid = invalid | lost.to(getattr(invalid, 'device', lost.device))
        for key, buffers in self._groups.items():
            device = buffers[0].device
            restore = invalid.to(device) if isinstance(invalid, Tensor) else torch.tensor(invalid, device=device)
            if restore.is_cpu and not restore:
                continue  # not on a GPU, because reading the value there would wait for it
            chosen = torch.where(restore, self._saved[key], current[key]).split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [c.view(b.shape) for c, b in zip(chosen, buffers, strict=True)])


def flatten(tensors: list[Tensor]) -> Tensor:
    """Concatenate all values in one dimension."""
    return torch.cat([tensor.flatten() for tensor in tensors])
