"""Move the schedule of a config of mmdet's RTMDet: train loop, stage 2, learning rate, optimiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmengine.config import Config, ConfigDict

from .pipelines import step_name
from .swaps import LOOPS

if TYPE_CHECKING:
    from .drop_in import Migration

_COSINE = ('type', '_scope_', 'eta_min', 'begin', 'end', 'T_max', 'by_epoch', 'convert_to_iter_based')


def move(config: Config | ConfigDict, done: Migration) -> None:
    """Move the schedule in place.

    Stage 2 and the cosine are counted from the end of the run afterwards, so that they follow a changed `max_epochs`.
    """
    loop = config.get('train_cfg')
    if not loop:
        return
    if 'type' not in loop and loop.get('by_epoch', True):
        loop.pop('by_epoch', None)
        loop['type'] = 'EpochBasedTrainLoop'
    _move_optimizer(config, done)
    if done.swap('train_cfg', loop, LOOPS):
        _move_cosine(config, done)
        _move_switch(config, done)
    elif _switches(config):
        done.note('custom_hooks', stays='PipelineSwitchHook stays; RTMPipelineSwitchHook needs an epoch-based loop')


def _move_optimizer(config: Config | ConfigDict, done: Migration) -> None:
    wrapper = config.get('optim_wrapper')
    if not wrapper:
        return
    kind = wrapper.get('constructor') or 'DefaultOptimWrapperConstructor'
    if kind == 'DefaultOptimWrapperConstructor':
        wrapper['constructor'] = 'RTMOptimWrapperConstructor'
        done.note('optim_wrapper.constructor', moved=f'{kind} -> RTMOptimWrapperConstructor')
    elif kind != 'RTMOptimWrapperConstructor':
        done.note('optim_wrapper.constructor', stays=f'{kind} stays; there is no counterpart')


def _move_cosine(config: Config | ConfigDict, done: Migration) -> None:
    """Replace a cosine over the second half of the run, whose epochs are literals, by RTMFlatCosineLR."""
    schedulers = config.get('param_scheduler')
    for item in schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]:
        if isinstance(item, dict) and step_name(item) == 'CosineAnnealingLR':
            reason = _cosine_obstacle(config, item)
            if reason:
                done.note('param_scheduler', stays=f'CosineAnnealingLR stays; RTMFlatCosineLR has no {reason}')
                continue
            ratio = float(f'{item["eta_min"] / config["optim_wrapper"]["optimizer"]["lr"]:.12g}')
            by_epoch = not item.get('convert_to_iter_based', False)
            for name in _COSINE[2:]:
                item.pop(name, None)
            item.update(type='RTMFlatCosineLR', eta_min_ratio=ratio, by_epoch=by_epoch)
            done.note('param_scheduler', moved=f'CosineAnnealingLR -> RTMFlatCosineLR(eta_min_ratio={ratio:g})')


def _cosine_obstacle(config: Config | ConfigDict, item: dict) -> str:
    """Return what RTMFlatCosineLR doesn't have, as text: another shape, or a rate of its own for some layers."""
    epochs, wrapper = config['train_cfg'].get('max_epochs'), config.get('optim_wrapper') or {}
    half = epochs // 2 if isinstance(epochs, int) else None
    expected = dict(begin=half, end=epochs, T_max=half, by_epoch=True)
    wrong = [f'{n}={item.get(n)!r}' for n, value in expected.items() if item.get(n, n == 'by_epoch' or None) != value]
    wrong += [f'{name}={value!r}' for name, value in item.items() if name not in _COSINE]
    if half is None or epochs % 2:
        wrong.append(f'half of max_epochs={epochs}')
    if 'eta_min' not in item or 'lr' not in (wrapper.get('optimizer') or {}):
        wrong.append('missing eta_min or lr')
    if wrapper.get('constructor') != 'RTMOptimWrapperConstructor' or _scales_rates(wrapper.get('paramwise_cfg')):
        wrong.append('one eta_min for layers with different learning rates')
    return ', '.join(wrong)


def _scales_rates(node: Any) -> bool:
    """Return whether a `paramwise_cfg` gives some layers another learning rate."""
    if not isinstance(node, dict):
        return False
    return any(str(name).endswith('lr_mult') or _scales_rates(value) for name, value in node.items())


def _switches(config: Config | ConfigDict) -> list[dict]:
    return [hook for hook in config.get('custom_hooks') or [] if step_name(hook) == 'PipelineSwitchHook']


def _move_switch(config: Config | ConfigDict, done: Migration) -> None:
    """Replace the hook of stage 2, and move its entry of `dynamic_intervals`, another literal, into it."""
    hooks, loop = _switches(config), config['train_cfg']
    if not hooks:
        return
    epochs, start = loop.get('max_epochs'), hooks[0].get('switch_epoch')
    intervals = loop.get('dynamic_intervals') or []
    extra = sorted(set(hooks[0]) - {'type', '_scope_', 'switch_epoch', 'switch_pipeline', 'priority'})
    if len(hooks) > 1 or extra or not isinstance(epochs, int) or not isinstance(start, int):
        reason = f'there are {len(hooks)}' if len(hooks) > 1 else f'{extra or [epochs, start]} is unknown'
        done.note('custom_hooks', stays=f'PipelineSwitchHook stays; {reason}')
        return
    if any(start < milestone <= epochs for milestone, _ in intervals):
        done.note('custom_hooks', stays=f'PipelineSwitchHook stays; dynamic_intervals={intervals} change in stage 2')
        return
    number = max(0, epochs - start)
    interval = ([loop.get('val_interval', 1)] + [every for milestone, every in intervals if milestone <= start])[-1]
    others = [pair for pair in intervals if pair[0] != start]
    if others:
        loop['dynamic_intervals'] = others
    else:
        loop.pop('dynamic_intervals', None)
    del hooks[0]['switch_epoch']
    hooks[0].update(type='RTMPipelineSwitchHook', num_last_epochs=number, val_interval=interval)
    done.note(
        'custom_hooks',
        moved=f'PipelineSwitchHook(switch_epoch={start}) -> RTMPipelineSwitchHook(num_last_epochs={number}, '
        f'val_interval={interval})' + (f', instead of dynamic_intervals={intervals}' if intervals != others else ''),
    )
