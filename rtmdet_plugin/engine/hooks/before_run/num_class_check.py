"""Refuse a run whose model and datasets have different classes, before anything is computed.

mmdet's NumClassCheckHook asserts at the start of an epoch, after the checkpoint has been loaded. This hook runs before
that, handles dataset wrappers, compares names as well, and says what to set.
"""

from collections.abc import Sequence

from mmdet.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ....datasets.tree import leaf_datasets
from ....errors import RefusedError
from ..built_loops import built_loops
from ..unwrapped import unwrapped


@HOOKS.register_module()
class RTMNumClassCheckHook(Hook):
    """Check `model.bbox_head.num_classes` against the classes of the training, validation and test data.

    Raises:
        RefusedError: if the numbers differ, or the datasets differ in the names or the order of their classes.
    """

    def before_run(self, runner: Runner) -> None:
        """Check the datasets of this run; mmengine calls this before weights are initialised or loaded."""
        model = unwrapped(runner)
        num_classes = getattr(getattr(model, 'bbox_head', None), 'num_classes', None)
        first = None
        for split, dataset in _datasets_in_use(runner):
            classes = _classes_of(dataset, split)
            if classes is None:
                runner.logger.warning(f'The {split} dataset has no class names, so they are not checked.')
                continue
            if num_classes is not None and num_classes != len(classes):
                raise RefusedError(
                    f'model.bbox_head.num_classes={num_classes}, but the {split} dataset has {len(classes)} '
                    f'classes: {_shortened(classes)}. Set the number with `--cfg-options '
                    f'model.bbox_head.num_classes={len(classes)}`, or choose the classes with `metainfo=dict('
                    'classes=(...))` in the dataset.'
                )
            if first is None:
                first = (split, classes)
            elif classes != first[1]:
                raise RefusedError(
                    f'The {split} dataset has other classes, or another order, than the {first[0]} dataset: '
                    f'{_shortened(classes)} against {_shortened(first[1])}. Use the same categories in both '
                    'annotation files, or the same `metainfo=dict(classes=(...))`.'
                )


def _datasets_in_use(runner: Runner) -> list[tuple[str, object]]:
    """Return (split, dataset) for each dataset of the loops that this run has built."""
    return [
        (split, dataset)
        for split, loop in built_loops(runner).items()
        for dataset in leaf_datasets(loop.dataloader.dataset)
    ]


def _classes_of(dataset: object, split: str) -> tuple[str, ...] | None:
    """Return the class names of a dataset in label order, or None if it has none."""
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if isinstance(classes, str):
        raise RefusedError(
            f'metainfo.classes of the {split} dataset must be a tuple of names, got the string {classes!r}; '
            f'write ({classes!r},)'
        )
    return None if classes is None else tuple(classes)


def _shortened(names: Sequence[str], show: int = 10) -> str:
    """Format the first names and the number of the remaining ones."""
    text = ', '.join(str(name) for name in names[:show])
    return f'({text}, ... {len(names) - show} more)' if len(names) > show else f'({text})'
