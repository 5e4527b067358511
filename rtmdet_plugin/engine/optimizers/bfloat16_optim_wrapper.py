"""Mixed precision with bfloat16 on any device.

mmengine's `AmpOptimWrapper` refuses CPUs, although many CPUs multiply bfloat16 twice as fast as float32, and has a loss
scaler, which bfloat16 doesn't need because its exponent has 8 bits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.registry import OPTIM_WRAPPERS
from mmengine.optim import OptimWrapper
from torch import nn


@OPTIM_WRAPPERS.register_module()
class RTMBFloat16OptimWrapper(OptimWrapper):
    """mmengine's `OptimWrapper` and its arguments, with the forward pass and the loss under bfloat16 autocast.

    Weights, gradients and the optimiser's state stay float32.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass and the loss under bfloat16 autocast."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
