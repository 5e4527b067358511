"""Averaged weights, each tensor averaged once a step, all of them in one call.

RTMDet's head shares its convolutions over three levels, so each shared tensor has three names in
`state_dict()`. mmengine's averaged model with `update_buffers=True` walks over names: it updates such a
tensor three times a step, which is an effective momentum of about three times the one that was set. This
class walks over tensors, and hands all of them to PyTorch's multi-tensor `lerp` at once.
"""

from itertools import chain
from math import exp
from typing import Any

import torch
from mmdet.models.layers import ExpMomentumEMA
from mmdet.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class RTMExpMomentumEMA(ExpMomentumEMA):
    """mmdet's ExpMomentumEMA (arguments, momentum, state-dict keys), with shared tensors updated once.

    Counters among the buffers (BN's `num_batches_tracked`) follow the model; mmengine leaves them at their
    first value. With `update_buffers=False` it is mmdet's class.

    Args:
        model: the model to average; a copy is kept.
        kwargs: mmdet's `momentum`, `gamma`, `interval`, `device`, `update_buffers`.
    """

    def __init__(self, model: nn.Module, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        if not self.update_buffers:
            return
        # Buffers outside the state dict (the preprocessor's mean and std) are constants.
        saved = self.module.state_dict()
        self.avg_parameters = {name: tensor for name, tensor in named_tensors(self.module) if name in saved}

    def update_parameters(self, model: nn.Module) -> None:
        """Take one step towards `model`."""
        if not self.update_buffers:
            super().update_parameters(model)
            return
        source = dict(named_tensors(model))
        pairs = [(average.data, source[name].data) for name, average in self.avg_parameters.items()]
        followed = pairs
        if self.steps > 0:
            followed = [(average, now) for average, now in pairs if not average.is_floating_point()]
            if self.steps % self.interval == 0:
                averages, now = zip(*((a, s.to(a.device)) for a, s in pairs if a.is_floating_point()), strict=True)
                momentum = (1 - self.momentum) * exp(-float(1 + self.steps) / self.gamma) + self.momentum
                torch._foreach_lerp_(averages, now, momentum)
        for average, now in followed:
            average.copy_(now)
        self.steps += 1


def named_tensors(model: nn.Module) -> chain[tuple[str, Tensor]]:
    """Parameters and buffers; a shared tensor comes once, under its first name."""
    return chain(model.named_parameters(), model.named_buffers())
