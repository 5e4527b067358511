"""Stop a run whose AP no longer improves, but only in stage 2.

Deliberate difference from mmengine's EarlyStoppingHook: validations of stage 1 don't count. Most of the gain in AP
comes at the end, when the learning rate has fallen and mosaic and MixUp are off, so a run that stops in stage 1 ends
far below what it would reach. A hook can't begin stage 2 earlier instead, because the learning rate would not fall.
"""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.hooks import EarlyStoppingHook
from mmengine.runner import Runner

from .pipeline_switch import RTMPipelineSwitchHook


@HOOKS.register_module()
class RTMEarlyStoppingHook(EarlyStoppingHook):
    """mmengine's `EarlyStoppingHook`, with its arguments, for the validations of stage 2.

    Without a stage 2, all validations count. A resumed run counts from its beginning.
    """

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Count a validation, if it is one of stage 2."""
        switches = [hook for hook in runner.hooks if isinstance(hook, RTMPipelineSwitchHook) and hook.num_last_epochs]
        # runner.epoch is the number of finished epochs, so the last epoch of stage 1 is validated at the switch epoch.
        if all(runner.epoch > hook.switch_epoch(runner.max_epochs) for hook in switches):
            super().after_val_epoch(runner, metrics)
