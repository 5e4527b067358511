"""mmengine's EpochBasedTrainLoop, extended to resume within an epoch, and to validate before the first one.

A checkpoint from within an epoch holds the number of its finished batches. The first epoch after a resume loads and
drops these batches, which restores the caches and random states of the data pipeline; no hook or model gets them.
mmengine's loop restarts such an epoch from its beginning, with a wrong count of iterations from then on.
"""

import time
from bisect import bisect
from typing import Any

from mmdet.registry import LOOPS
from mmengine.hooks import IterTimerHook
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from ...datasets.seeded_fetch import fetch_by_place


@LOOPS.register_module()
class RTMEpochBasedTrainLoop(EpochBasedTrainLoop):
    """`EpochBasedTrainLoop` that can resume within an epoch.

    The arguments are mmengine's. With `val_begin=0` the loaded weights are validated before the first epoch; they are
    the best checkpoint until an epoch is better.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fetch_by_place(self.dataloader.dataset)
        self.validation_missed = False
        """Whether a validation is due, or has started; if the run ends during it, the resumed run repeats it."""
        self._batches_done = 0
        self._skip = 0

    def position(self) -> dict:
        """Return the position within the epoch, for a checkpoint's `meta` and `resume_at`."""
        return dict(
            sampler_seed=getattr(self.dataloader.sampler, 'seed', None),
            batches_done=self._batches_done,
            batches_per_epoch=len(self.dataloader),
            validation_missed=self.validation_missed,
        )

    def resume_at(self, position: dict) -> None:
        """Resume within the epoch.

        Args:
            position: result of `position()`; an empty dictionary means the start of the epoch.
        """
        # Without `randomness.seed` each run has another seed, and mmengine builds the loader before it loads this.
        if position.get('sampler_seed') is not None:
            self.dataloader.sampler.seed = position['sampler_seed']
        self.validation_missed = position.get('validation_missed', False)
        self._skip, previous = position.get('batches_done', 0), position.get('batches_per_epoch')
        if self._skip and previous != len(self.dataloader):
            self.runner.logger.warning(
                f'The interrupted epoch had {previous} batches, but has {len(self.dataloader)} now, so it is restarted.'
            )
            self._skip = 0

    def run(self) -> nn.Module:
        """Train and validate; start with a validation of the loaded weights, or one that the interrupted run missed."""
        self.runner.call_hook('before_train')
        self.validation_missed |= self.iter == 0 and self._validates_after(0)
        self._validate_if_due()
        while self.epoch < self.max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """Run one epoch, or the rest of it after a resume."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        skip, self._skip = self._skip, 0
        if skip:
            self.runner.logger.info(f'Resuming within epoch {self.epoch + 1}: its first {skip} batches are done.')
        for idx, batch in enumerate(self.dataloader):
            if idx < skip:
                continue
            if skip and idx == skip:
                self._restart_timers()
            self._batches_done = idx + 1
            self.run_iter(idx, batch)
        self._batches_done = 0
        # Set before the validation, so that checkpoints saved now record it: the run may be killed during validation.
        self.validation_missed = self._validates_after(self.epoch + 1)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _validate_if_due(self) -> None:
        if self.validation_missed and self.runner.val_loop is not None:
            self.runner.val_loop.run()
        self.validation_missed = False

    def _validates_after(self, epoch: int) -> bool:
        """Return whether a validation follows after this number of finished epochs."""
        interval = self.dynamic_intervals[bisect(self.dynamic_milestones, epoch + 1) - 1]
        due = epoch % interval == 0 or epoch == self.max_epochs
        return self.runner.val_loop is not None and epoch >= self.val_begin and due

    def _restart_timers(self) -> None:
        """Exclude the skipped batches from the logged time of an iteration."""
        for hook in self.runner.hooks:
            if isinstance(hook, IterTimerHook):
                hook.t = time.time()
