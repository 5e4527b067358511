"""Move an RTMDet config of mmdet, with any edits, to the parts of this package.

Call `drop_in` in a new config, after `_base_`:

    _base_ = 'my_rtmdet.py'

    from rtmdet_plugin import drop_in

    drop_in(_base_)

It is a function and not a base config, because mmengine reads each config in `_base_` separately: none can change
another one. A config with `read_base()` can't call it; `rtmdet migrate` moves such a config, or `drop_in` once it is
loaded.
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ..errors import RefusedError
from . import schedule
from .input_size import max_stride
from .lazy_types import imports_types, name_types
from .pipelines import step_name, walk_pipelines, walk_steps
from .swaps import DATASETS, HOOKS, METRICS, MODEL, SAMPLERS, apply, obstacle
from .training_pipeline import fixed_size, move_pipeline

_HEADS = {name: MODEL[name].ours for name in ('RTMDetSepBNHead', 'RTMDetInsSepBNHead')}
"""Heads of mmdet that can be moved, and their counterparts."""
_ADDED_HOOKS: dict[str, dict[str, Any]] = dict(
    runtime_info=dict(type='RTMRuntimeInfoHook'),
    num_class_check=dict(type='RTMNumClassCheckHook'),
    check_invalid_loss=dict(type='RTMCheckInvalidLossHook'),
    bad_samples=dict(type='RTMBadSampleHook'),
    load_report=dict(type='RTMLoadReportHook'),
    channels_last=dict(type='RTMChannelsLastHook', only_on_cpu=True),
    cpu_threads=dict(type='RTMCPUThreadsHook'),
    kept_memory=dict(type='RTMKeptMemoryHook'),
    process_watch=dict(type='RTMProcessWatchHook'),
    run_check=dict(type='RTMRunCheckHook'),
    graceful_stop=dict(type='RTMGracefulStopHook'),
)
"""Hooks of `configs/_base_/runtime.py` that a config gets if it has none of their type: name and config."""


class Migration:
    """What `drop_in` did: lines `place: what` in the order of the config."""

    def __init__(self) -> None:
        self._moved: dict[str, list[str]] = defaultdict(list)
        self._stays: dict[str, list[str]] = defaultdict(list)

    @property
    def moved(self) -> list[str]:
        """Parts that were replaced, and settings that were changed with them."""
        return [f'{", ".join(places)}: {what}' for what, places in self._moved.items()]

    @property
    def stays(self) -> list[str]:
        """Parts that stay as they are although this package has its own, with the reason."""
        return [f'{", ".join(places)}: {what}' for what, places in self._stays.items()]

    def note(self, place: str, moved: str = '', stays: str = '') -> None:
        """Record what happened at a place; places with the same text share a line."""
        for lines, text in ((self._moved, moved), (self._stays, stays)):
            if text and place not in lines[text]:
                lines[text].append(place)

    def swap(self, place: str, part: dict | None, table: dict) -> bool:
        """Replace a part if the table has a counterpart that does the same; return whether it is ours now.

        A part of another type is reported: it may be the user's own.
        """
        if not isinstance(part, dict) or 'type' not in part:
            return False
        name = step_name(part)
        if name.startswith('RTM') and name not in table:
            return True
        swap = table.get(name)
        if swap is None:
            self.note(place, stays=f'{name} stays; there is no counterpart')
        elif reason := obstacle(part, swap):
            self.note(place, stays=f'{name} stays; {reason}')
        else:
            self.note(place, moved=apply(part, swap))
            return True
        return False


def drop_in(config: Config | ConfigDict) -> Migration:
    """Move a config to the parts of this package, in place; the config's own settings stay.

    Backbone, neck, head, assigner, losses, data preprocessor, training pipelines, datasets, sampler, metric, train
    loop, optimiser, learning rate, EMA and hooks are replaced if ours do the same with the config's arguments. The
    others stay mmdet's; inside a config, they are logged as warnings.

    In a config with `read_base()`, imported types become names in mmdet's scope; those of your own packages stay.

    Args:
        config: `_base_` within a config, or a loaded `Config`.

    Returns:
        What was replaced, and what wasn't and why.

    Raises:
        RefusedError: if the config isn't that of an RTMDet or RTMDet-Ins. It is unchanged then.
    """
    check_detector(config)
    done = Migration()
    if imports_types(config):
        name_types(config)
        done.note('default_scope', moved="'mmdet', in which the types that the config imports are names")
    _move_model(config, done)
    _move_pipelines(config, done)
    _move_data(config, done)
    schedule.move(config, done)
    _move_hooks(config, done)
    _import_package(config, done)
    if not isinstance(config, Config):
        for line in done.stays:
            print_log(f'drop_in: {line}', logger='current', level=logging.WARNING)
    return done


def check_detector(config: Config | ConfigDict) -> None:
    """Raise a RefusedError if a config isn't that of mmdet's RTMDet or RTMDet-Ins."""
    model = config.get('model')
    head = model.get('bbox_head') if isinstance(model, dict) else None
    name = step_name(head) if isinstance(head, dict) and 'type' in head else None
    theirs = ' or '.join(_HEADS)
    if name in _HEADS.values():
        raise RefusedError(f'model.bbox_head must be {theirs}, got {name}; the config has our parts already')
    if name not in _HEADS:
        raise RefusedError(f"model.bbox_head must be mmdet's {theirs}, got {name}; no other detector can be moved")
    scope = config.get('default_scope', 'mmdet')
    if scope != 'mmdet' and not (scope is None and imports_types(config)):
        raise RefusedError(f"default_scope must be 'mmdet', got {scope!r}")
    max_stride(config)


def _move_model(config: Config | ConfigDict, done: Migration) -> None:
    model = config['model']
    done.swap('model.data_preprocessor', model.get('data_preprocessor'), MODEL)
    done.swap('model.backbone', model.get('backbone'), MODEL)
    done.swap('model.neck', model.get('neck'), MODEL)

    head, training = model['bbox_head'], model.get('train_cfg') or {}
    name = step_name(head)
    reason = _training_obstacle(_HEADS[name], training) or _mask_loss_obstacle(head)
    if reason:
        done.note('model.bbox_head', stays=f'{name} stays; {reason}')
    elif done.swap('model.bbox_head', head, MODEL):
        for loss in ('loss_cls', 'loss_bbox', 'loss_mask'):
            done.swap(f'model.bbox_head.{loss}', head.get(loss), MODEL)
    done.swap('model.train_cfg.assigner', training.get('assigner'), MODEL)
    _move_sync_bn(config, done)


def _mask_loss_obstacle(head: dict) -> str:
    """Return why our head has no counterpart of the mask loss; empty if it has, or there is none."""
    loss = head.get('loss_mask')
    if not loss:
        return ''
    name = step_name(loss)
    return obstacle(loss, MODEL['DiceLoss']) if name == 'DiceLoss' else f'RTMInsSepBNHead has no loss_mask={name}'


def _training_obstacle(head: str, training: dict) -> str:
    """Return the settings of `model.train_cfg` that our head doesn't have; empty if there are none."""
    wrong = [f'{name}={training[name]}' for name in ('allowed_border', 'pos_weight') if training.get(name, -1) >= 0]
    sampler = training.get('sampler')
    if sampler and step_name(sampler) != 'PseudoSampler':
        wrong.append(f'sampler={step_name(sampler)}')
    return f'{head} has no model.train_cfg.{", ".join(wrong)}' if wrong else ''


def _move_sync_bn(config: Config | ConfigDict, done: Migration) -> None:
    """Let the model wrapper synchronise the batch norms: on GPUs only, so that CPUs work too."""
    model, wrapper = config['model'], config.get('model_wrapper_cfg') or {}
    if not model.get('use_syncbn', True) or step_name(model) != 'RTMDet':
        return
    if wrapper and step_name({'type': 'MMDistributedDataParallel', **wrapper}) != 'MMDistributedDataParallel':
        done.note('model_wrapper_cfg', stays=f'{step_name(wrapper)} stays; it synchronises no batch norms')
        return
    model['use_syncbn'] = False
    for norm in walk_steps(model):
        if norm['type'] == 'SyncBN':
            norm['type'] = 'BN'
    if config.get('find_unused_parameters'):  # mmengine reads it only if there is no model_wrapper_cfg
        wrapper = {'find_unused_parameters': True, **wrapper}
    config['model_wrapper_cfg'] = {**wrapper, 'type': 'RTMDistributedDataParallel'}
    done.note('model_wrapper_cfg', moved='RTMDistributedDataParallel makes BN synchronised on GPUs, instead of SyncBN')


def _move_pipelines(config: Config | ConfigDict, done: Migration) -> None:
    """Move all pipelines but those of validation, testing and TTA, which ours use as well."""
    masks_of_ours = step_name(config['model']['bbox_head']) == 'RTMInsSepBNHead'
    for path, pipeline in list(walk_pipelines(config)):
        if path.startswith(('val_', 'test_', 'tta_')) or path.endswith('batch_augments') or not pipeline:
            continue
        if not isinstance(pipeline, list) or not all(isinstance(step, dict) and 'type' in step for step in pipeline):
            done.note(path, stays='the pipeline stays; it must be a list of steps such as dict(type=...)')
            continue
        moved = move_pipeline(pipeline, masks_of_ours)
        pipeline[:] = moved.steps
        done.note(path, moved=', '.join(moved.moved))
        for line in moved.stays:
            done.note(path, stays=line)


def _move_data(config: Config | ConfigDict, done: Migration) -> None:
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = config.get(name) or {}
        for place, dataset in _leaf_datasets(loader.get('dataset'), f'{name}.dataset'):
            done.swap(place, dataset, DATASETS)
    for name in ('val_evaluator', 'test_evaluator'):
        found = config.get(name) or []
        for metric in found if isinstance(found, (list, tuple)) else [found]:
            done.swap(name, metric, METRICS)

    loader = config.get('train_dataloader') or {}
    done.swap('train_dataloader.sampler', loader.get('sampler'), SAMPLERS)
    collate = loader.get('collate_fn', dict(type='pseudo_collate'))
    if loader and isinstance(collate, dict) and step_name(collate) == 'pseudo_collate':
        place, preprocessor = 'train_dataloader.collate_fn', config['model'].get('data_preprocessor')
        if not preprocessor or step_name(preprocessor) != 'RTMDetDataPreprocessor':
            done.note(place, stays='pseudo_collate stays; rtm_collate needs RTMDetDataPreprocessor')
        elif not all(map(fixed_size, _pipelines_of_batches(config))):
            done.note(
                place, stays='pseudo_collate stays; rtm_collate needs images of one size, padded by Pad(size=...)'
            )
        else:
            loader['collate_fn'] = dict(type='rtm_collate')
            done.note(place, moved='pseudo_collate -> rtm_collate')


def _leaf_datasets(dataset: object, place: str) -> Iterator[tuple[str, dict]]:
    """Yield the datasets within wrappers such as ConcatDataset, with their places."""
    if not isinstance(dataset, dict):
        return
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    for item in inner:
        yield from _leaf_datasets(item, f'{place}.dataset{"s" if "datasets" in dataset else ""}')
    if not inner:
        yield place, dataset


def _pipelines_of_batches(config: Config | ConfigDict) -> Iterator[list]:
    """Yield the pipelines whose results are collated in training: the outermost ones, and those of stage 2."""
    pending = [config['train_dataloader'].get('dataset')]
    while pending:
        dataset = pending.pop()
        if isinstance(dataset, dict):
            if dataset.get('pipeline'):
                yield dataset['pipeline']
            else:
                pending += [dataset.get('dataset'), *dataset.get('datasets', [])]
    for hook in config.get('custom_hooks') or []:
        if hook.get('switch_pipeline'):
            yield hook['switch_pipeline']


def _move_hooks(config: Config | ConfigDict, done: Migration) -> None:
    if not config.get('default_hooks'):
        config['default_hooks'] = {}
    hooks = config['default_hooks']
    places = {f'default_hooks.{name}': hook for name, hook in hooks.items() if isinstance(hook, dict)}
    places.update({f'custom_hooks.{i}': hook for i, hook in enumerate(config.get('custom_hooks') or [])})
    for place, hook in places.items():
        if step_name(hook) in HOOKS:
            done.swap(place, hook, HOOKS)
        if step_name(hook) == 'EMAHook':
            kind = hook.get('ema_type', 'ExponentialMovingAverage')
            if kind in ('ExpMomentumEMA', 'mmdet.ExpMomentumEMA'):
                hook['ema_type'] = 'RTMExpMomentumEMA'
                done.note(place, moved='ExpMomentumEMA -> RTMExpMomentumEMA')
            else:
                done.note(place, stays=f'{kind} stays; there is no counterpart')

    present = {step_name(hook) for hook in places.values()}
    added = {name: hook for name, hook in _ADDED_HOOKS.items() if name not in hooks and hook['type'] not in present}
    hooks.update(copy.deepcopy(added))
    if added:
        done.note('default_hooks', moved=f'added {", ".join(hook["type"] for hook in added.values())}')


def _import_package(config: Config | ConfigDict, done: Migration) -> None:
    imports = copy.deepcopy(config.get('custom_imports') or dict(imports=[]))
    names = [imports['imports']] if isinstance(imports['imports'], str) else list(imports['imports'])
    if 'rtmdet_plugin' not in names:
        config['custom_imports'] = {**imports, 'imports': [*names, 'rtmdet_plugin']}
        done.note('custom_imports', moved='added rtmdet_plugin')
