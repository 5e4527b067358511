"""Store weights in the memory order that convolutions on CPUs and tensor cores run fastest in: channels last.

Activations follow the weights, so nothing else changes. RTMDet-nano, 160 px, batch 16, 2 CPU cores: a training step
took 0.15 s instead of 0.27 s.

Precision on CPUs: PyTorch's batch norm adds up naively in this order. The gradients of a step differ from float64's
by 2e-4 to 8e-3 instead of 2e-5 to 4e-4 (benchmarks/memory_order.py); those of two batches differ by 1.1 and more. AP
over seeds is in projects/demo/README.md (benchmarks/demo_seeds.py).
"""

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner


@HOOKS.register_module()
class RTMChannelsLastHook(Hook):
    """Store the model's 4-D weights channels last, in training, validation and testing; values stay."""

    # Before the EMA hook (49) copies the model.
    priority = 'HIGH'

    def before_run(self, runner: Runner) -> None:
        """Reorder the weights in place; the optimiser keeps its parameters."""
        runner.model.to(memory_format=torch.channels_last)
