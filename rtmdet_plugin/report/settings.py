"""List the settings of a run: the values in its config, and the reasons that `rtmdet train` gave for them."""

from __future__ import annotations

from typing import Any, NamedTuple

from mmengine.config import Config

from ..config.augmentation import augmentation_of
from .run_files import Run

NAMES = dict(
    imgsz='Input size (pixels)',
    batch='Images per step and process',
    epochs='Epochs',
    stage2='Epochs of stage 2 (without mosaic and MixUp)',
    augmentation='Scales, and share of MixUp',
    lr='Learning rate',
    warmup='Warm-up (steps)',
    ema='Averaged weights (momentum, gamma)',
    val_interval='Validation interval (epochs)',
    val_begin='First validation (epoch)',
    workers='Processes that load images',
    optimizer='Optimiser',
    amp='Mixed precision',
    weights='Weights to start from',
    seed='Seed',
)
"""Name of a number in `rtmdet train`: name in the report."""


class Setting(NamedTuple):
    """A row of the table of settings."""

    name: str
    value: str
    reason: str


def settings_of(run: Run) -> list[Setting]:
    """Return the settings of a run that its config has, with reasons as far as they are known."""
    rows = []
    for name, value in _values(run).items():
        chosen, reason = run.choices.get(name, (value, ''))
        if _shown(chosen) != _shown(value):  # the config was changed after the choice, by --set or by hand
            reason = f'set by you; rtmdet train chose {_shown(chosen)}'
        rows.append(Setting(NAMES[name], _shown(value), reason))
    return rows


def _values(run: Run) -> dict[str, Any]:
    """Return the values that the config has, by their names in `rtmdet train`."""
    config = run.config
    loader, train = config.get('train_dataloader') or {}, config.get('train_cfg') or {}
    hooks, wrapper = config.get('default_hooks') or {}, config.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer') or {}
    found = dict(
        imgsz=_size(run.input_size),
        batch=loader.get('batch_size'),
        epochs=train.get('max_epochs'),
        stage2=(hooks.get('pipeline_switch') or {}).get('num_last_epochs'),
        augmentation=augmentation_of(config),
        lr=optimizer.get('lr'),
        warmup=_warm_up(config),
        ema=_averaging(config),
        val_interval=train.get('val_interval'),
        val_begin=train.get('val_begin'),
        workers=loader.get('num_workers'),
        optimizer=optimizer.get('type'),
        amp=wrapper['type'] if 'type' in wrapper and wrapper['type'] != 'OptimWrapper' else None,
        # A resumed session starts from its own checkpoint, and doesn't have the weights of the first one.
        weights=None if config.get('resume') else config.get('load_from') or 'none',
        seed=(config.get('randomness') or {}).get('seed'),
    )
    return {name: value for name, value in found.items() if value is not None}


def _size(size: tuple[int, int] | None) -> int | str | None:
    """Return an input size as `rtmdet train` has it: one number if it is square."""
    if size is None:
        return None
    height, width = size
    return width if width == height else f'{width} x {height}'


def _warm_up(config: Config) -> int | None:
    schedulers = config.get('param_scheduler') or []
    first = schedulers[0] if isinstance(schedulers, list) and schedulers else {}
    return first.get('end') if first.get('type') == 'LinearLR' and not first.get('by_epoch', True) else None


def _averaging(config: Config) -> tuple[float, int] | None:
    hook = (config.get('default_hooks') or {}).get('ema') or {}
    return (hook['momentum'], hook['gamma']) if 'momentum' in hook and 'gamma' in hook else None


def _shown(value: Any) -> str:
    return ', '.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
