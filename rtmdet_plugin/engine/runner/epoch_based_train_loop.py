"""mmengine's EpochBasedTrainLoop, which can go on within an epoch.

A checkpoint from within an epoch says how many batches of it are done. The first epoch after a resume fetches these and
drops them, so that caches and random states of the data path are what they were; no hook and no model sees them.
mmengine's loop begins such an epoch anew, with a count of iterations that is off from then on.
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
    """`EpochBasedTrainLoop`, with its arguments, that goes on within an epoch; see the module."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fetch_by_place(self.dataloader.dataset)
        self.validation_missed = False
        """Whether a validation is due, or has begun; a run that ends in it makes up for it when it goes on."""
        self._batches_done = 0
        self._skip = 0

    def place(self) -> dict:
        """What a checkpoint has to say for `go_on_at`."""
        return dict(
            sampler_seed=getattr(self.dataloader.sampler, 'seed', None),
            batches_done=self._batches_done,
            batches_per_epoch=len(self.dataloader),
            validation_missed=self.validation_missed,
        )

    def go_on_at(self, place: dict) -> None:
        """Go on within the epoch, `place` being what `place()` gave; an empty one is the epoch's start."""
        # Without `randomness.seed` each start draws another one, and mmengine makes the loader before it loads.
        if place.get('sampler_seed') is not None:
            self.dataloader.sampler.seed = place['sampler_seed']
        self.validation_missed = place.get('validation_missed', False)
        self._skip, then = place.get('batches_done', 0), place.get('batches_per_epoch')
        if self._skip and then != len(self.dataloader):
            self.runner.logger.warning(
                f'The interrupted epoch had {then} batches, and has {len(self.dataloader)} now: it begins anew.'
            )
            self._skip = 0

    def run(self) -> nn.Module:
        """Train and validate; a validation that the run before this one missed comes first."""
        self.runner.call_hook('before_train')
        self._validate_if_due()
        while self.epoch < self.max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        """One epoch, or what is left of it."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        skip, self._skip = self._skip, 0
        if skip:
            self.runner.logger.info(f'Going on within epoch {self.epoch + 1}: its first {skip} batches are done.')
        for idx, batch in enumerate(self.dataloader):
            if idx < skip:
                continue
            if skip and idx == skip:
                self._restart_timers()
            self._batches_done = idx + 1
            self.run_iter(idx, batch)
        self._batches_done = 0
        # Before it is done, so that a checkpoint of this moment says it: the run may be killed in the validation.
        self.validation_missed = self._validates_after(self.epoch + 1)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _validate_if_due(self) -> None:
        if self.validation_missed and self.runner.val_loop is not None:
            self.runner.val_loop.run()
        self.validation_missed = False

    def _validates_after(self, epoch: int) -> bool:
        """Whether a validation follows when so many epochs are done."""
        interval = self.dynamic_intervals[bisect(self.dynamic_milestones, epoch + 1) - 1]
        due = epoch % interval == 0 or epoch == self.max_epochs
        return self.runner.val_loop is not None and epoch >= self.val_begin and due

    def _restart_timers(self) -> None:
        """Leave the skipped batches out of the time that an iteration takes."""
        for hook in self.runner.hooks:
            if isinstance(hook, IterTimerHook):
                hook.t = time.time()
