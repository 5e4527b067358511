"""Fine-tune on classes that the weights already detect, without losing what they know."""

from __future__ import annotations

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ...checkpoints.class_rows import classes_in, move_rows, rows_of
from ...datasets.tree import leaf_datasets
from .built_loops import built_loops
from .unwrapped import unwrapped


@HOOKS.register_module()
class RTMKeepClassesHook(Hook):
    """When a training loads weights, keep the rows of the class layers whose classes the dataset has, by their names.

    Other classes start from the model's initial rows. Without this hook, mmengine drops the class layers of a
    checkpoint with another number of classes, and takes them in their order if the numbers are the same. That is also
    what happens on resume, and if the checkpoint records none of the classes.
    """

    priority = 'VERY_HIGH'  # before the hook that reports what is loaded

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Move the rows; mmengine calls this before it copies any weight."""
        train = built_loops(runner).get('train')
        if runner._resume or train is None or 'state_dict' not in checkpoint:
            return
        classes = (
            next((getattr(d, 'metainfo', {}).get('classes') for d in leaf_datasets(train.dataloader.dataset)), None)
            or ()
        )
        rows = rows_of(classes, classes_in(checkpoint))
        kept = [name for name, row in zip(classes, rows, strict=True) if row is not None]
        if not kept:
            return
        before = checkpoint['state_dict']
        checkpoint['state_dict'] = move_rows(before, unwrapped(runner).state_dict(), rows)
        if all(checkpoint['state_dict'][name] is weight for name, weight in before.items()):
            return  # the weights are those of another model
        runner.logger.info(
            f'Kept the class layers of {len(kept)} of {len(classes)} classes, which the weights detect: '
            f'{", ".join(kept[:10])}{" ..." if len(kept) > 10 else ""}.'
        )
