"""Losses handed to the logger when it writes, not in every step.

mmengine's `RuntimeInfoHook` stores each loss as a number after each iteration. On a GPU that makes the host wait for
the whole step, three times, before it may queue the next one. Here losses stay on the device until the logger writes a
line; then all of them come over at once.

Where `RTMCheckInvalidLossHook` is there to tell of losses that aren't finite, they are left out: one of them would make
the mean over the last 50 steps NaN.
"""

import math
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from .faults.check_invalid_loss import RTMCheckInvalidLossHook


@HOOKS.register_module()
class RTMRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's `RuntimeInfoHook`, with the same numbers in the same order, brought over when they are logged."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[tuple[str, Tensor]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keep the losses of this iteration; hand over what waits where the logger, which comes later, writes."""
        self._waiting += [(f'train/{key}', value.detach()) for key, value in (outputs or {}).items()]
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        due = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if due or any(self.every_n_inner_iters(batch_idx, hook.interval) for hook in loggers):
            self.hand_over(runner)

    def hand_over(self, runner: Runner) -> None:
        """Give what waits to the message hub."""
        if self._waiting:
            values = torch.stack([value.float() for _, value in self._waiting]).tolist()  # the one synchronisation
            told = any(isinstance(hook, RTMCheckInvalidLossHook) for hook in runner.hooks)
            for (name, _), value in zip(self._waiting, values, strict=True):
                if math.isfinite(value) or not told:
                    runner.message_hub.update_scalar(name, value)
            self._waiting.clear()
