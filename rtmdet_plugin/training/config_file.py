"""Write the short config of a run: the names of its files, and the numbers that differ from the base, with reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RefusedError
from .fit_to_data import Choice
from .log_services import service_text

CLASSWISE = 20
"""Number of classes up to which a validation logs the AP of each one."""


@dataclass(frozen=True)
class SplitFiles:
    """Where a split is."""

    ann_file: Path
    images: Path


@dataclass(frozen=True)
class Settings:
    """Everything that the config says."""

    base: str
    """Config that it inherits from: a name such as `rtmdet_plugin::rtmdet_tiny.py`, or a path."""
    work_dir: Path
    choices: Mapping[str, Choice]
    """Numbers with their reasons, as from `fit`; what is missing isn't written."""
    device: str
    seed: int | None = None
    """Seed of the run; None for that of the base."""
    classes: Sequence[str] = ()
    """Class names in the order of the labels; empty if the base has the data."""
    splits: Mapping[str, SplitFiles] | None = None
    """Files of 'train', 'val' and 'test'; None if the base has the data."""
    weights: Path | None = None
    """Checkpoint to start from; None for that of the base."""
    amp: bool = False
    patience: int | None = None
    """Number of epochs of stage 2 without a better AP after which the run stops."""
    metric: str = 'coco/bbox_mAP'
    """Metric that `patience` watches."""
    log: Sequence[str] = ()
    """Services that get the metrics as well, see `log_services.SERVICES`."""


def config_text(settings: Settings, title: str, command: str) -> str:
    """Return the config as Python.

    Args:
        settings: what it says.
        title: first line of its header.
        command: command that does the same run.
    """
    header = '\n'.join(f'# {line}'.rstrip() for line in f'{title}\n\n    {command}'.splitlines())
    blocks = [header, f'_base_ = {settings.base!r}']
    blocks += [
        _input_size(settings),
        _augmentation(settings),
        _data(settings),
        _model(settings),
        _loaders(settings),
        _schedule(settings),
    ]
    seed = '' if settings.seed is None else f'randomness = dict(seed={settings.seed})\n'
    blocks += [_hooks(settings), _log(settings), f'{seed}work_dir = {str(settings.work_dir)!r}']
    return '\n\n'.join(block for block in blocks if block) + '\n'


def check_texts(texts: Iterable[str]) -> None:
    """Check that names and paths can be written in a config; quotes, line breaks and any other character can.

    Raises:
        RefusedError: if mmengine would replace a part of one, or it isn't valid Unicode.
    """
    for text in texts:
        if '{{' in text:  # mmengine replaces {{$NAME:value}} before it runs a config, also by code in the value
            raise RefusedError(f"names and paths must be without '{{{{', which mmengine replaces, got {text!r}")
        if text != text.encode(errors='replace').decode():
            raise RefusedError(f'names and paths must be valid Unicode, got {text!r}')


def _because(settings: Settings, name: str) -> str:
    """Return the reason of a choice as a comment."""
    return f'# {settings.choices[name].reason[0].upper()}{settings.choices[name].reason[1:]}.'


def _input_size(settings: Settings) -> str:
    size = settings.choices.get('imgsz')
    if size is None:
        return ''
    return '\n'.join(
        [
            '# After `_base_`, or mmengine takes this for another kind of config.',
            f'from rtmdet_plugin import {"find_step, " * ("augmentation" in settings.choices)}set_input_size',
            '',
            _because(settings, 'imgsz'),
            f'set_input_size(_base_, {size.value})',
        ]
    )


def _augmentation(settings: Settings) -> str:
    if 'augmentation' not in settings.choices:
        return ''
    smallest, largest, mixup = settings.choices['augmentation'].value
    return '\n'.join(
        [
            _because(settings, 'augmentation'),
            'train_pipeline = _base_.train_pipeline',
            f"find_step(train_pipeline, 'RTMCachedMosaicResizeCrop').ratio_range = ({smallest}, {largest})",
            f"find_step(train_pipeline, 'RTMCachedMixUp').prob = {mixup}",
            'train_pipeline_stage2 = _base_.train_pipeline_stage2',
            f"find_step(train_pipeline_stage2, 'RTMRandomResizeCrop').ratio_range = ({smallest}, {largest})",
        ]
    )


def _data(settings: Settings) -> str:
    if settings.splits is None:
        return ''
    lines = [f'classes = {tuple(settings.classes)!r}  # in the order of the labels']
    for split, files in settings.splits.items():
        lines += [f'{split}_data = dict(']
        if split == 'train':
            lines += ['    filter_cfg=None,  # images without objects are trained on as background']
            lines += ['    pipeline=train_pipeline,']
        lines += [
            f'    ann_file={str(files.ann_file)!r},',
            f'    data_prefix=dict(img={str(files.images) + "/"!r}),',
            "    data_root='',  # both paths above are absolute",
            '    metainfo=dict(classes=classes),',
            ')',
        ]
    return '\n'.join(lines)


def _model(settings: Settings) -> str:
    if settings.splits is None:
        return f'load_from = {str(settings.weights)!r}' if settings.weights else ''
    # The weights of a detector include those of the backbone, which the base would download.
    lines = ['model = dict(bbox_head=dict(num_classes=len(classes)), backbone=dict(init_cfg=None))']
    lines += [f'load_from = {str(settings.weights)!r}' if settings.weights else 'load_from = None  # from scratch']
    return '\n'.join(lines)


def _loaders(settings: Settings) -> str:
    lines, train, val = [], [], []
    if 'batch' in settings.choices:
        lines.append(_because(settings, 'batch'))
        train.append(f'batch_size={settings.choices["batch"].value}')
    if 'workers' in settings.choices:
        workers = settings.choices['workers'].value
        lines.append(_because(settings, 'workers'))
        keep = f'persistent_workers={workers > 0}'
        train += [f'num_workers={workers}', keep]
        val += [f'num_workers={min(workers, 4)}', keep]
    if settings.device == 'cpu':
        train.append('pin_memory=False')
    if settings.splits is not None:
        test = 'test_data' if 'test' in settings.splits else 'val_data'
        classwise = len(settings.classes) <= CLASSWISE
        train.append('dataset=train_data')
        lines += [
            f'train_dataloader = dict({", ".join(train)})',
            f'val_dataloader = dict({", ".join([*val, "dataset=val_data"])})',
            f'test_dataloader = dict({", ".join([*val, f"dataset={test}"])})',
            f"val_evaluator = dict(ann_file=val_data['ann_file'], classwise={classwise})",
            f"test_evaluator = dict(ann_file={test}['ann_file'], classwise={classwise})",
        ]
    else:
        lines += [f'train_dataloader = dict({", ".join(train)})'] if train else []
        lines += [f'{split}_dataloader = dict({", ".join(val)})' for split in ('val', 'test') if val]
    return '\n'.join(lines)


def _schedule(settings: Settings) -> str:
    choices, lines = settings.choices, []
    if 'epochs' in choices:
        others = f', val_interval={choices["val_interval"].value}' if 'val_interval' in choices else ''
        lines.append(_because(settings, 'epochs'))
        if 'val_begin' in choices and choices['val_begin'].value == 0:
            others += ', val_begin=0'
            lines.append(_because(settings, 'val_begin'))
        lines.append(f'train_cfg = dict(max_epochs={choices["epochs"].value}{others})')
    wrapper = ["type='RTMBFloat16OptimWrapper'"] if settings.amp else []
    if 'lr' in choices:
        lines.append(_because(settings, 'lr'))
        wrapper.append(f'optimizer=dict(lr={choices["lr"].value})')
    if wrapper:
        lines.append(f'optim_wrapper = dict({", ".join(wrapper)})')
    if 'warmup' in choices:
        end = choices['warmup'].value
        lines += [
            f'# Warm-up: {choices["warmup"].reason}.',
            'param_scheduler = [',
            f"    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end={end}),",
            "    dict(type='RTMFlatCosineLR', eta_min_ratio=0.05, by_epoch=False),",
            ']',
        ]
    return '\n'.join(lines)


def _hooks(settings: Settings) -> str:
    choices, lines = settings.choices, []
    if 'ema' in choices:
        momentum, gamma = choices['ema'].value
        interval, length = choices['val_interval'].value, choices['stage2'].value
        late_interval = 1 if settings.patience else max(1, length // 5)
        lines += [
            'default_hooks = dict(',
            f'    {_because(settings, "ema")}',
            f'    ema=dict(momentum={momentum}, gamma={gamma}),',
            f'    {_because(settings, "stage2")}',
            '    pipeline_switch=dict(',
            f'        num_last_epochs={length}, val_interval={late_interval}, switch_pipeline=train_pipeline_stage2',
            '    ),',
            f'    {_because(settings, "val_interval")}',
            f'    checkpoint=dict(interval={interval}, max_keep_ckpts=2),',
            '    logger=dict(interval=10),',
            ')',
            'log_processor = dict(window_size=10)',
        ]
    custom = ["    dict(type='RTMChannelsLastHook'),"] if settings.splits is not None else []
    if settings.splits is not None and settings.weights:
        custom.append(
            "    dict(type='RTMUnfoldNormHook'),  # does nothing unless the batch norms of the weights are folded"
        )
        custom.append("    dict(type='RTMKeepClassesHook'),  # classes that the weights detect, by their names")
    if settings.patience is not None:
        custom.append(
            f"    dict(type='RTMEarlyStoppingHook', monitor={settings.metric!r}, min_delta=0.001, "
            f'patience={settings.patience}),  # in validations of stage 2'
        )
    if custom:
        lines += ['custom_hooks = [', *custom, ']']
    return '\n'.join(lines)


def _log(settings: Settings) -> str:
    if not settings.log:
        return ''
    lines = ['visualizer = dict(', '    vis_backends=[', '        *_base_.visualizer.vis_backends,']
    lines += [f'        {service_text(name, settings.work_dir)},' for name in settings.log]
    return '\n'.join([*lines, '    ]', ')'])
