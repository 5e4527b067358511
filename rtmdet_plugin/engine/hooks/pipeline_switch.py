"""Stage 2 of RTMDet's training: the last epochs run without mosaic and MixUp, and are validated more often.

Deliberate differences from mmdet's PipelineSwitchHook:
- The switch is counted from the end of the actual run, so a changed `max_epochs` moves it along.
- Every dataset inside wrappers gets the pipeline; mmdet's sets an attribute on the outermost wrapper, which
  nobody reads. A MultiImageMixDataset skips its own transforms from then on, as the new pipeline is a whole
  one.
- Pipelines are built before the first epoch: a misspelt transform stops the run then, and not after 280
  epochs.
- Persistent workers hold a copy of the dataset, so they are shut down and the loader starts new ones. The
  loader's guard flags are left alone.
- The validation interval of stage 2 is set here too (mmdet: a second literal in
  `train_cfg.dynamic_intervals`).
"""

from collections.abc import Iterator
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from ...datasets.tree import leaf_datasets, walk_datasets
from ...errors import RefusedError


@HOOKS.register_module()
class RTMPipelineSwitchHook(Hook):
    """Switch the training pipeline for the last epochs of the run.

    Args:
        switch_pipeline: the pipeline of stage 2, from loading to packing.
        num_last_epochs: length of stage 2 in epochs; 0 switches nothing.
        val_interval: epochs between two validations in stage 2. The epoch before stage 2 is validated too, so
            that there is a figure to compare with.

    Raises:
        RefusedError: on a negative `num_last_epochs`, a `val_interval` below 1, an empty pipeline, a train loop
            that counts iterations, or a dataset that has no pipeline to switch.
    """

    def __init__(self, switch_pipeline: list[dict], num_last_epochs: int = 20, val_interval: int = 1) -> None:
        if num_last_epochs < 0:
            raise RefusedError(f'num_last_epochs={num_last_epochs}: expected 0 (no stage 2) or more')
        if val_interval < 1:
            raise RefusedError(f'val_interval={val_interval}: expected 1 epoch or more')
        if num_last_epochs and not switch_pipeline:
            raise RefusedError(f'switch_pipeline={switch_pipeline!r}: expected the transforms of stage 2')
        self.switch_pipeline = switch_pipeline
        self.num_last_epochs = num_last_epochs
        self.val_interval = val_interval
        self._switch_epoch = 0
        self._waiting: list[tuple[Any, Compose]] = []  # datasets and the pipelines they will get

    def before_train(self, runner: Runner) -> None:
        """Find out when stage 2 begins, and build its pipelines."""
        if self.num_last_epochs == 0:
            runner.logger.info('RTMPipelineSwitchHook: num_last_epochs=0, so there is no stage 2.')
            return
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise RefusedError(
                f'train_cfg.type={type(loop).__name__}: RTMPipelineSwitchHook counts epochs and needs '
                'EpochBasedTrainLoop; num_last_epochs=0 switches it off'
            )
        if loop.max_epochs <= self.num_last_epochs:
            runner.logger.warning(
                f'RTMPipelineSwitchHook: with max_epochs={loop.max_epochs} and '
                f'num_last_epochs={self.num_last_epochs} the whole run is stage 2.'
            )
        self._switch_epoch = max(0, loop.max_epochs - self.num_last_epochs)
        self._waiting = [(leaf, Compose(self.switch_pipeline)) for leaf in leaf_datasets(loop.dataloader.dataset)]
        for leaf, _ in self._waiting:
            if not hasattr(leaf, 'pipeline'):
                raise RefusedError(f'{type(leaf).__name__} has no `pipeline` that RTMPipelineSwitchHook could replace')
        self._set_val_interval(loop)

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch where stage 2 begins; a run resumed inside stage 2 switches before its first epoch."""
        if not self._waiting or runner.epoch < self._switch_epoch:
            return
        loader = runner.train_loop.dataloader
        # Wrappers such as mmdet's MultiImageMixDataset have transforms of their own, after the dataset's.
        mixers = [node for node in walk_datasets(loader.dataset) if 'pipeline_types' in vars(node)]
        configured = list(configured_pipelines((runner.cfg.get('train_dataloader') or {}).get('dataset')))
        unchanged = bool(configured) and all(pipeline == self.switch_pipeline for pipeline in configured)

        for mixer in mixers:
            mixer.update_skip_type_keys(mixer.pipeline_types)
        for leaf, pipeline in self._waiting:
            leaf.pipeline = pipeline
        restart_workers(loader)

        first, last = runner.epoch + 1, runner.max_epochs
        if unchanged:
            runner.logger.warning(
                f'Stage 2 (epochs {first} to {last}): its pipeline is that of stage 1; nothing changes.'
            )
        else:
            runner.logger.info(f'Stage 2 (epochs {first} to {last}): switched {len(self._waiting)} dataset(s).')
        self._waiting = []

    def _set_val_interval(self, loop: EpochBasedTrainLoop) -> None:
        """Add stage 2 to the loop's table of validation intervals, after the config's own for stage 1."""
        # The loop takes an interval from the epoch before its milestone on, hence the 1.
        milestone = self._switch_epoch + 1
        stage1 = [
            pair for pair in zip(loop.dynamic_milestones, loop.dynamic_intervals, strict=True) if pair[0] < milestone
        ]
        table = [*stage1, (milestone, self.val_interval)]
        loop.dynamic_milestones = [start for start, _ in table]
        loop.dynamic_intervals = [interval for _, interval in table]


def configured_pipelines(dataset: Any) -> Iterator[Any]:
    """Yield the pipelines in a dataset's config and in those that it wraps; nothing for a dataset that is built."""
    if not isinstance(dataset, dict):
        return
    if 'pipeline' in dataset:
        yield dataset['pipeline']
    for wrapped in (dataset.get('dataset'), *dataset.get('datasets', [])):
        yield from configured_pipelines(wrapped)


def restart_workers(loader: DataLoader) -> None:
    """End the persistent workers of `loader`, if it has any; its next epoch starts new ones."""
    iterator = loader._iterator
    if iterator is not None:
        loader._iterator = None
        # What the iterator's own __del__ does, but now and not when the last reference to it goes.
        iterator._shutdown_workers()
