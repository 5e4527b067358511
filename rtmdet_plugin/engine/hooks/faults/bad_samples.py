"""Log each bad sample once, count them at each epoch's end, and stop the run where they are too many.

The data sets report them from their workers, see `datasets/bad_samples.py`.
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


class _Listener:
    """One data set, and what was heard of it."""

    def __init__(self, dataset: Any, file: str) -> None:
        self.dataset = dataset
        self.reports = Reports(file)
        self.reports.clear()
        dataset.bad_samples.file = file
        self.known = dict(dataset.bad_samples.known)  # what its annotation file showed, logged by then
        self.heard: list[Report] = []  # in this epoch, by this rank

    def begin(self) -> None:
        self.reports.clear()
        self.heard = []

    def listen(self) -> list[str]:
        """The messages of samples that weren't known yet."""
        new = self.reports.new()
        self.heard += new
        return self._learn(new)

    def gather(self) -> tuple[list[str], int]:
        """The same of all ranks at an epoch's end, and how often a bad sample was drawn in the epoch."""
        messages = self.listen()
        heard = [report for rank in all_gather_object(self.heard) for report in rank]
        return messages + self._learn(heard), len(heard)

    def check_share(self) -> None:
        self.dataset.bad_samples.check_share(self.dataset.num_samples, self.known)

    def _learn(self, reports: list[Report]) -> list[str]:
        fresh = {path: message for path, message in reports if path not in self.known}
        self.known.update(fresh)
        return list(fresh.values())


@HOOKS.register_module()
class RTMBadSampleHook(Hook):
    """Tell of the bad samples of every `RTMCocoDataset` in the run, inside wrappers too; it has their settings.

    Raises:
        BadSamplesError: after the step or at the end of the epoch in which more than the data set's `max_bad_share`
            turned out bad.
    """

    def __init__(self) -> None:
        self._listeners: dict[str, list[_Listener]] = {}
        self._told: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        """Listen, from before the workers start."""
        self._listen_to(runner, 'train', runner.train_dataloader.dataset)

    def before_train_epoch(self, runner: Runner) -> None:
        self._begin('train')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log what is new; this costs a look at the size of a file."""
        for listener in self._listeners['train']:
            if messages := listener.listen():
                self._tell(runner, messages)
                listener.check_share()

    def after_train_epoch(self, runner: Runner) -> None:
        self._end(runner, 'train', f'Epoch {runner.epoch + 1}', 'another sample took the place')

    def before_val_epoch(self, runner: Runner) -> None:
        self._listen_to(runner, 'val', runner.val_dataloader.dataset)
        self._begin('val')

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        # with its number, because mmengine's logger drops a warning that it has seen
        self._end(
            runner,
            'val',
            f'Validation after epoch {runner.epoch}',
            'shown as grey pictures, their objects count as missed',
        )

    def before_test_epoch(self, runner: Runner) -> None:
        self._listen_to(runner, 'test', runner.test_dataloader.dataset)
        self._begin('test')

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._end(runner, 'test', 'Test', 'shown as grey pictures, their objects count as missed')

    def _listen_to(self, runner: Runner, phase: str, dataset: Any) -> None:
        if phase in self._listeners:
            return
        leaves = [leaf for leaf in leaf_datasets(dataset) if hasattr(leaf, 'bad_samples')]
        self._listeners[phase] = [
            _Listener(leaf, osp.join(runner.log_dir, f'bad_samples_{phase}{number}_rank{get_rank()}.jsonl'))
            for number, leaf in enumerate(leaves)
        ]

    def _begin(self, phase: str) -> None:
        for listener in self._listeners[phase]:
            listener.begin()

    def _end(self, runner: Runner, phase: str, when: str, consequence: str) -> None:
        """Log the count of all ranks, and check it: all of them stop, or none does."""
        for listener in self._listeners[phase]:
            messages, drawn = listener.gather()
            self._tell(runner, messages)
            line = f'{when}: {len(listener.known)} bad samples of {listener.dataset.num_samples}'
            if listener.known:
                runner.logger.warning(f'{line}; drawn {drawn} times, {consequence}.')
            else:
                runner.logger.info(f'{line}.')
        for listener in self._listeners[phase]:
            listener.check_share()

    def _tell(self, runner: Runner, messages: list[str]) -> None:
        for message in messages:
            if message not in self._told:
                self._told.add(message)
                runner.logger.warning(f'Bad sample: {message}')
