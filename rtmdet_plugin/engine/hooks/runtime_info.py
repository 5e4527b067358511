"""Transfer losses to the host when the logger writes a line, instead of in every step.

mmengine's `RuntimeInfoHook` converts each loss to a number after each iteration. On a GPU this makes the host wait
three times for the complete step before it can queue the next one. Here the losses stay on the device until the logger
writes a line, and then all of them are transferred at once.

If the run has an `RTMCheckInvalidLossHook`, which reports non-finite losses, these losses are omitted here: one of them
would make the mean over the last 50 steps NaN.
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
    """mmengine's `RuntimeInfoHook`, with the same numbers in the same order, transferred when they are logged."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: list[tuple[str, Tensor]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Keep the losses of this iteration; flush all if the logger hook, which runs later, is going to write."""
        self._pending += [(f'train/{key}', value.detach()) for key, value in (outputs or {}).items()]
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        due = self.end_of_epoch(runner.train_dataloader, batch_idx)
        if due or any(self.every_n_inner_iters(batch_idx, hook.interval) for hook in loggers):
            self.flush(runner)

    def flush(self, runner: Runner) -> None:
        """Pass the pending losses to the message hub."""
        if self._pending:
            values = torch.stack([value.float() for _, value in self._pending]).tolist()  # the only synchronisation
            reported = any(isinstance(hook, RTMCheckInvalidLossHook) for hook in runner.hooks)
            for (name, _), value in zip(self._pending, values, strict=True):
                if math.isfinite(value) or not reported:
                    runner.message_hub.update_scalar(name, value)
            self._pending.clear()
