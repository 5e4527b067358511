"""Averaged weights, with each tensor updated once per step and all tensors in one call.

RTMDet's head shares its convolutions over three levels, so each shared tensor has three names in `state_dict()`.
mmengine's averaged model with `update_buffers=True` iterates over names. So it updates such a tensor three times per
step, which makes the effective momentum about three times the configured one. This class iterates over tensors, and
passes all of them to PyTorch's multi-tensor `lerp` at once.
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

    Integer buffers (BN's `num_batches_tracked`) are copied from the model; mmengine keeps their first value. With
    `update_buffers=False` the class behaves as mmdet's.

    Args:
        model: the model to average; it is copied.
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
    """Iterate over parameters and buffers; a shared tensor occurs once, with its first name."""
    return chain(model.named_parameters(), model.named_buffers())
