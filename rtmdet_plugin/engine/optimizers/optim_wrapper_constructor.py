"""One parameter group per combination of settings instead of one per parameter, and fused optimiser kernels.

mmengine creates one group per parameter, 258 for RTMDet-s. An optimiser processes one group at a time, so PyTorch's
multi-tensor and fused kernels get one tensor at a time, and each learning-rate schedule iterates over all groups in
every step. Here parameters with the same settings share a group. RTMDet's recipe then has two groups, with and without
weight decay.
"""

from typing import Any

import torch
from mmdet.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from ...version import release

FUSED_ON_CPU = (2, 4)  # the first PyTorch with fused Adam, AdamW and SGD on CPUs


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RTMOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with its arguments; its optimiser makes the same steps in less time."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser wrapper for `model`."""
        on_gpu = next(model.parameters()).is_cuda
        fused = self.optimizer_cfg['type'] in ('Adam', 'AdamW', 'SGD')
        if fused and (on_gpu or release(torch.__version__) >= FUSED_ON_CPU):
            self.optimizer_cfg.setdefault('fused', True)
        return super().__call__(model)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Add the groups of `module` to `params`; mmengine calls this recursively for each submodule.

        Args:
            params: parameter groups, modified in place.
            module: the module whose parameters are added.
            prefix: name of the module, empty for the model.
            kwargs: arguments of mmengine's method.
        """
        super().add_params(params, module, prefix, **kwargs)
        if prefix == '':  # the outermost call, after all groups were added
            params[:] = merge_groups(params)


def merge_groups(groups: list[dict]) -> list[dict]:
    """Merge groups with the same settings, in the order of their first parameters."""
    merged: dict[tuple, dict] = {}
    for group in groups:
        settings = tuple(sorted((key, value) for key, value in group.items() if key != 'params'))
        merged.setdefault(settings, {**group, 'params': []})['params'] += group['params']
    return list(merged.values())
