"""Parameter groups by their settings instead of by parameter, and fused optimiser kernels.

mmengine makes a group of each parameter, 258 of RTMDet-s. An optimiser works group by group, so PyTorch's multi-tensor
and fused kernels get one tensor at a time, and each learning-rate schedule walks over all groups in every step. Here
parameters with the same settings share a group: two of them in RTMDet's recipe, with and without weight decay.
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
    """mmengine's constructor and its arguments; the optimiser it builds takes the same steps in less time."""

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser's wrapper for `model`."""
        on_gpu = next(model.parameters()).is_cuda
        fused = self.optimizer_cfg['type'] in ('Adam', 'AdamW', 'SGD')
        if fused and (on_gpu or release(torch.__version__) >= FUSED_ON_CPU):
            self.optimizer_cfg.setdefault('fused', True)
        return super().__call__(model)

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any) -> None:
        """Collect the groups of `module` in `params`; mmengine calls this for each submodule in turn."""
        super().add_params(params, module, prefix, **kwargs)
        if prefix == '':  # the outermost call: all is collected
            params[:] = merge_groups(params)


def merge_groups(groups: list[dict]) -> list[dict]:
    """Groups with the same settings become one, in the order of their first parameters."""
    merged: dict[tuple, dict] = {}
    for group in groups:
        settings = tuple(sorted((key, value) for key, value in group.items() if key != 'params'))
        merged.setdefault(settings, {**group, 'params': []})['params'] += group['params']
    return list(merged.values())
