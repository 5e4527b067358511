"""Take a model's buffers back to what they were before a step.

BN updates its running statistics in the forward pass, before anybody knows whether the step counts. One NaN in a
picture or in a weight stays in them for the rest of the run, and the model then fails where it is evaluated only.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn


class BufferSnapshot:
    """The buffers of `model`, each once, copied and put back by a few kernels and without waiting for a GPU."""

    def __init__(self, model: nn.Module) -> None:
        self._groups: dict[tuple, list[Tensor]] = defaultdict(list)
        for buffer in model.buffers():
            if buffer.numel():
                self._groups[buffer.device, buffer.dtype].append(buffer)
        self.take()

    def take(self) -> None:
        """Remember the values of now."""
        self._saved = {key: flatten(buffers) for key, buffers in self._groups.items()}

    def restore_where(self, spoilt: Tensor | bool) -> None:
        """Put all values back where `spoilt` (a bool, or one on the device), or where a finite one isn't any more."""
        current = {key: flatten(buffers) for key, buffers in self._groups.items()}
        for key, values in current.items():
            lost = (torch.isfinite(self._saved[key]) & ~torch.isfinite(values)).any()
            spoilt = spoilt | lost.to(getattr(spoilt, 'device', lost.device))
        for key, buffers in self._groups.items():
            device = buffers[0].device
            back = spoilt.to(device) if isinstance(spoilt, Tensor) else torch.tensor(spoilt, device=device)
            if back.is_cpu and not back:
                continue  # on a GPU, to ask would be to wait
            chosen = torch.where(back, self._saved[key], current[key]).split([buffer.numel() for buffer in buffers])
            torch._foreach_copy_(buffers, [c.view(b.shape) for c, b in zip(chosen, buffers, strict=True)])


def flatten(tensors: list[Tensor]) -> Tensor:
    """All values in one row."""
    return torch.cat([tensor.flatten() for tensor in tensors])
