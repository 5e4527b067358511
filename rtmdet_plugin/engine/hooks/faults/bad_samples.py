"""Log each bad sample once, log their number at the end of each epoch, and stop the run if there are too many.

The datasets report bad samples from their workers, see `datasets/bad_samples.py`.
"""

from __future__ import annotations

import os.path as osp
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ....datasets.bad_samples import Report, Reports
from ....datasets.tree import leaf_datasets


class _Monitor:
    """One dataset and the bad samples that it has reported."""

    def __init__(self, dataset: Any, file: str) -> None:
        self.dataset = dataset
        self.reports = Reports(file)
        self.reports.clear()
        dataset.bad_samples.file = file
        self.known = dict(dataset.bad_samples.known)  # found in the annotation file, and logged already
        self.received: list[Report] = []  # in this epoch, by this rank

    def start_epoch(self) -> None:
        self.reports.clear()
        self.received = []

    def read_new(self) -> list[str]:
        """Return the messages of samples that weren't known yet."""
        new = self.reports.new()
        self.received += new
        return self._add(new)

    def gather(self) -> tuple[list[str], int]:
        """Return the new messages of all ranks at an epoch's end, and how often a bad sample was drawn in the epoch."""
        messages = self.read_new()
        received = [report for rank in all_gather_object(self.received) for report in rank]
        return messages + self._add(received), len(received)

    def check_share(self) -> None:
        self.dataset.bad_samples.check_share(self.dataset.num_samples, self.known)

    def _add(self, reports: list[Report]) -> list[str]:
        """Add reports to the known samples; return the messages of those that are new."""
        fresh = {path: message for path, message in reports if path not in self.known}
        self.known.update(fresh)
        return list(fresh.values())


@HOOKS.register_module()
class RTMBadSampleHook(Hook):
    """Report the bad samples of every `RTMCocoDataset` in the run, inside wrappers too.

    The settings are those of the dataset.

    Raises:
        BadSamplesError: after the step or at the end of the epoch in which the share of bad samples exceeds the
            dataset's `max_bad_share`.
    """

    def __init__(self) -> None:
        self._monitors: dict[str, list[_Monitor]] = {}
        self._logged: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Start monitoring before the workers start."""
        self._monitor(runner, 'train', runner.train_dataloader.dataset)

    def before_train_epoch(self, runner: Runner) -> None:
        """Reset the count of the epoch."""
        self._start_epoch('train')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log new bad samples; if there are none, this costs only a query of a file's size."""
        for monitor in self._monitors['train']:
            if messages := monitor.read_new():
                self._log(runner, messages)
                monitor.check_share()

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the number of bad samples, and stop the run if there are too many."""
        self._end_epoch(runner, 'train', f'Epoch {runner.epoch + 1}', 'another sample took the place')

    def before_val_epoch(self, runner: Runner) -> None:
        """Start monitoring at the first validation, and reset the count."""
        self._monitor(runner, 'val', runner.val_dataloader.dataset)
        self._start_epoch('val')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the number of bad samples, and stop the run if there are too many."""
        # The epoch's number makes each line unique, because mmengine's logger drops a repeated warning.
        self._end_epoch(
            runner,
            'val',
            f'Validation after epoch {runner.epoch}',
            'shown as grey images, their objects count as missed',
        )

    def before_test_epoch(self, runner: Runner) -> None:
        """Start monitoring, and reset the count."""
        self._monitor(runner, 'test', runner.test_dataloader.dataset)
        self._start_epoch('test')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the number of bad samples, and stop the run if there are too many."""
        self._end_epoch(runner, 'test', 'Test', 'shown as grey images, their objects count as missed')

    def _monitor(self, runner: Runner, phase: str, dataset: Any) -> None:
        if phase in self._monitors:
            return
        leaves = [leaf for leaf in leaf_datasets(dataset) if hasattr(leaf, 'bad_samples')]
        self._monitors[phase] = [
            _Monitor(leaf, osp.join(runner.log_dir, f'bad_samples_{phase}{number}_rank{get_rank()}.jsonl'))
            for number, leaf in enumerate(leaves)
        ]

    def _start_epoch(self, phase: str) -> None:
        for monitor in self._monitors[phase]:
            monitor.start_epoch()

    def _end_epoch(self, runner: Runner, phase: str, when: str, consequence: str) -> None:
        """Log and check the number of bad samples of all ranks, so that either all ranks stop or none does."""
        for monitor in self._monitors[phase]:
            messages, drawn = monitor.gather()
            self._log(runner, messages)
            line = f'{when}: {len(monitor.known)} bad samples of {monitor.dataset.num_samples}'
            if monitor.known:
                runner.logger.warning(f'{line}; drawn {drawn} times, {consequence}.')
            else:
                runner.logger.info(f'{line}.')
        for monitor in self._monitors[phase]:
            monitor.check_share()

    def _log(self, runner: Runner, messages: list[str]) -> None:
        for message in messages:
            if message not in self._logged:
                self._logged.add(message)
                runner.logger.warning(f'Bad sample: {message}')
