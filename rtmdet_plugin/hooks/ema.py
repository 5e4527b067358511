"""Averaged weights, each tensor averaged once a step.

RTMDet's head shares its convolutions over three levels, so each shared tensor has three names in
`state_dict()`. mmengine's averaged model with `update_buffers=True` walks over names: it updates such a
tensor three times a step, which is an effective momentum of about three times the one that was set. This
class walks over tensors.
"""

from itertools import chain
from typing import Any

from mmdet.models.layers import ExpMomentumEMA
from mmdet.registry import MODELS
from torch import nn


@MODELS.register_module()
class RTMExpMomentumEMA(ExpMomentumEMA):
    """mmdet's ExpMomentumEMA (arguments, arithmetic, state-dict keys), with shared tensors updated once.

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
        # Both iterators give a shared tensor once, under its first name. Buffers outside the state dict (the
        # preprocessor's mean and std) are constants.
        saved = self.module.state_dict()
        unique = chain(self.module.named_parameters(), self.module.named_buffers())
        self.avg_parameters = {name: tensor for name, tensor in unique if name in saved}

    def update_parameters(self, model: nn.Module) -> None:
        """Take one step towards `model`."""
        super().update_parameters(model)
        if self.update_buffers:
            source = dict(model.named_buffers())
            for name, tensor in self.avg_parameters.items():
                if not tensor.dtype.is_floating_point and name in source:
                    tensor.copy_(source[name])
