"""Store weights in channels-last order, in which convolutions on CPUs and tensor cores run fastest.

Activations take the order of the weights, so nothing else changes. With RTMDet-nano, 160 px, batch 16 and 2 CPU cores,
a training step took 0.15 s instead of 0.27 s.

Precision on CPUs: in this order PyTorch's batch norm uses naive summation. The gradients of a step differ from those in
float64 by 2e-4 to 8e-3 instead of 2e-5 to 4e-4 (benchmarks/memory_order.py); the gradients of two different batches
differ by 1.1 and more. AP over seeds is in projects/demo/README.md (benchmarks/demo_seeds.py).
"""

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .cpu_threads import on_cpu


@HOOKS.register_module()
class RTMChannelsLastHook(Hook):
    """Store the model's 4-D weights in channels-last order in training, validation and testing; values don't change.

    Args:
        only_on_cpu: leave the weights of a model on another device as they are.
    """

    # Before the EMA hook (49) copies the model.
    priority = 'HIGH'

    def __init__(self, only_on_cpu: bool = False) -> None:
        self.only_on_cpu = only_on_cpu

    def before_run(self, runner: Runner) -> None:
        """Reorder the weights in place, so that the optimiser's parameters stay valid."""
        if not self.only_on_cpu or on_cpu(runner):
            runner.model.to(memory_format=torch.channels_last)
