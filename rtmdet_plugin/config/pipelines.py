"""Pipelines of a config: find their steps by name, and read how the test pipeline prepares an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from ..errors import RefusedError


def step_name(step: dict) -> str:
    """Return the type of a pipeline's step, without the scope in `mmdet.Resize`."""
    kind = step['type']
    return (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]


def find_step(pipeline: Sequence[dict], name: str) -> dict:
    """Return the one step of a type, to read or edit it by name instead of by index.

    Args:
        pipeline: configs of transforms, such as `_base_.train_pipeline`.
        name: type of the step, without a scope: 'Resize' finds `mmdet.Resize` as well.

    Returns:
        The step itself, not a copy.

    Raises:
        RefusedError: if there is no such step, or more than one.
    """
    names = [step_name(step) for step in pipeline]
    if names.count(name) != 1:
        raise RefusedError(f'name must be the type of exactly one step of {names}, got {name!r}')
    return pipeline[names.index(name)]


def walk_pipelines(config: Config | dict, path: str = '') -> Iterator[tuple[str, Sequence]]:
    """Yield every pipeline of a config with its path, such as `train_dataloader.dataset.pipeline`.

    Pipelines are lists under a key that contains `pipeline` (in datasets, hooks, TTA and plain variables), and the
    `batch_augments` of a data preprocessor. The same list may be yielded more than once.
    """
    for key, value in config.items():
        at = f'{path}.{key}' if path else str(key)
        if isinstance(value, (list, tuple)):
            if 'pipeline' in key or key == 'batch_augments':
                yield at, value
            else:
                for i, item in enumerate(value):
                    if isinstance(item, dict):
                        yield from walk_pipelines(item, f'{at}.{i}')
        elif isinstance(value, dict):
            yield from walk_pipelines(value, at)


def walk_steps(node: object) -> Iterator[dict]:
    """Yield the steps of a pipeline and those within them (`RandomApply`, `TestTimeAug`), outer ones first."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node
        node = node.values()
    elif not isinstance(node, (list, tuple)):
        return
    for item in node:
        yield from walk_steps(item)


def loads_masks(node: object) -> bool:
    """Return whether a step of a pipeline, of a dataset or of a data loader loads masks."""
    return any(step.get('with_mask', False) for step in walk_steps(node))


def test_pipeline(config: Config | ConfigDict) -> Sequence[dict]:
    """Return the steps that prepare an image for testing: those of the test set, else `test_pipeline`.

    Raises:
        RefusedError: if the config has neither, or it isn't a list of steps.
    """
    if config.get('test_dataloader'):
        try:
            dataset = config['test_dataloader']['dataset']
            while 'pipeline' not in dataset:
                dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
            steps = dataset['pipeline']
        except (KeyError, TypeError, IndexError) as error:
            raise RefusedError(
                f'test_dataloader of the config must have a dataset with a pipeline, got none: {error}'
            ) from None
    else:
        steps = config.get('test_pipeline')
    if not steps:
        raise RefusedError('the config must have test_dataloader or test_pipeline, got neither')
    if not isinstance(steps, (tuple, list)) or not all(isinstance(step, dict) and 'type' in step for step in steps):
        raise RefusedError(f"test pipeline must be a list of steps such as dict(type='Resize', ...), got {steps}")
    return steps


def preprocessing(config: Config | ConfigDict) -> dict:
    """Return the letterbox of a config's test pipeline.

    Returns:
        `input_size`, (height, width) in pixels; `keep_ratio`, False if images are stretched to it; `pad_value`, the
        value of each channel for the padding on the right and at the bottom.

    Raises:
        RefusedError: if there is no test pipeline, or it doesn't have `Resize` to a size and, unless that stretches,
            `Pad` to the same size.
    """
    steps = {step_name(step): step for step in test_pipeline(config)}
    resize, pad = steps.get('Resize', {}), steps.get('Pad', {})
    scale = resize.get('scale')
    if not isinstance(scale, (tuple, list)) or len(scale) != 2 or not all(isinstance(side, int) for side in scale):
        raise RefusedError(f'scale of Resize in the test pipeline must be (width, height), got {scale}')
    width, height = scale
    keep_ratio, padded = resize.get('keep_ratio', False), pad.get('size')
    if (keep_ratio or padded is not None) and padded not in ((width, height), [width, height]):
        raise RefusedError(f'size of Pad in the test pipeline must be that of Resize, {(width, height)}, got {padded}')
    value = pad.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, dict) else value
    pad_value = tuple(value) if isinstance(value, (tuple, list)) else (value,) * 3
    return dict(input_size=(height, width), keep_ratio=keep_ratio, pad_value=pad_value)
