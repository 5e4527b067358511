"""Stage 2 of RTMDet's training: the last epochs run without mosaic and MixUp, and are validated more often.

Deliberate differences from mmdet's PipelineSwitchHook:
- The epoch of the switch is counted from the end of the actual run, so it follows a changed `max_epochs`.
- Every dataset inside wrappers gets the pipeline; mmdet's hook sets an attribute of the outermost wrapper, which is
  never read. A MultiImageMixDataset then skips its own transforms, because the new pipeline is complete.
- Pipelines are built before the first epoch, so a misspelt transform stops the run there, and not after 280 epochs.
- Persistent workers hold a copy of the dataset, so they are shut down and the loader starts new ones. The loader's
  private flags aren't changed.
- The validation interval of stage 2 is set here too; mmdet needs a second literal in `train_cfg.dynamic_intervals`.
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
        num_last_epochs: length of stage 2 in epochs; 0 disables the switch.
        val_interval: epochs between two validations in stage 2. The epoch before stage 2 is validated too, as a
            reference.

    Raises:
        RefusedError: if `num_last_epochs` is negative, `val_interval` is below 1, the pipeline is empty, the train loop
            counts iterations, or a dataset has no pipeline to switch.
    """

    def __init__(self, switch_pipeline: list[dict], num_last_epochs: int = 20, val_interval: int = 1) -> None:
        if num_last_epochs < 0:
            raise RefusedError(f'num_last_epochs must be at least 0 (no stage 2), got {num_last_epochs}')
        if val_interval < 1:
            raise RefusedError(f'val_interval must be at least 1 epoch, got {val_interval}')
        if num_last_epochs and not switch_pipeline:
            raise RefusedError(f'switch_pipeline must be the list of transforms of stage 2, got {switch_pipeline!r}')
        self.switch_pipeline = switch_pipeline
        self.num_last_epochs = num_last_epochs
        self.val_interval = val_interval
        self._switch_epoch = 0
        self._pending: list[tuple[Any, Compose]] = []  # datasets and the pipelines they will get

    def switch_epoch(self, max_epochs: int) -> int:
        """Return the first epoch of stage 2, counted from 0, in a run of `max_epochs` epochs."""
        return max(0, max_epochs - self.num_last_epochs)

    def before_train(self, runner: Runner) -> None:
        """Determine when stage 2 begins, and build its pipelines."""
        if self.num_last_epochs == 0:
            runner.logger.info('RTMPipelineSwitchHook: num_last_epochs=0, so there is no stage 2.')
            return
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            raise RefusedError(
                f'train_cfg.type must be an EpochBasedTrainLoop, because RTMPipelineSwitchHook counts epochs, got '
                f'{type(loop).__name__}; num_last_epochs=0 disables the hook'
            )
        if loop.max_epochs <= self.num_last_epochs:
            runner.logger.warning(
                f'RTMPipelineSwitchHook: with max_epochs={loop.max_epochs} and '
                f'num_last_epochs={self.num_last_epochs} the complete run is stage 2.'
            )
        self._switch_epoch = self.switch_epoch(loop.max_epochs)
        self._pending = [(leaf, Compose(self.switch_pipeline)) for leaf in leaf_datasets(loop.dataloader.dataset)]
        for leaf, _ in self._pending:
            if not hasattr(leaf, 'pipeline'):
                raise RefusedError(f'{type(leaf).__name__} has no `pipeline` that RTMPipelineSwitchHook could replace')
        self._set_val_interval(loop)

    def before_train_epoch(self, runner: Runner) -> None:
        """Switch when stage 2 begins; a run that is resumed inside stage 2 switches before its first epoch."""
        if not self._pending or runner.epoch < self._switch_epoch:
            return
        loader = runner.train_loop.dataloader
        # Wrappers such as mmdet's MultiImageMixDataset apply their own transforms after the dataset's.
        mixers = [node for node in walk_datasets(loader.dataset) if 'pipeline_types' in vars(node)]
        configured = list(configured_pipelines((runner.cfg.get('train_dataloader') or {}).get('dataset')))
        unchanged = bool(configured) and all(pipeline == self.switch_pipeline for pipeline in configured)

        for mixer in mixers:
            mixer.update_skip_type_keys(mixer.pipeline_types)
        for leaf, pipeline in self._pending:
            leaf.pipeline = pipeline
        restart_workers(loader)

        first, last = runner.epoch + 1, runner.max_epochs
        if unchanged:
            runner.logger.warning(
                f'Stage 2 (epochs {first} to {last}): its pipeline is that of stage 1; nothing changes.'
            )
        else:
            runner.logger.info(f'Stage 2 (epochs {first} to {last}): switched {len(self._pending)} dataset(s).')
        self._pending = []

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
        # The iterator's __del__ does the same, but only when its last reference is deleted. A loader keeps only an
        # iterator with workers, but torch declares its base class, which has no such method.
        iterator._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]
