"""Read a dataset or a config, choose the numbers, and write the config of a run to a new work directory."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from rtmdet_runtime.atomic_files import write_atomically
from rtmdet_runtime.choices import MODELS
from rtmdet_runtime.devices import VARIABLE, visible_devices

from ..checkpoints.class_rows import classes_in, rows_of
from ..checkpoints.load_model import config_file, is_config, load_config
from ..config.input_size import check_input_size
from ..config.pipelines import loads_masks
from ..errors import RefusedError
from ..inference.device import device_type
from ..report.run_files import save_prepared
from .config_file import Settings, SplitFiles, check_texts, config_text
from .device import choose_device
from .facts import facts_of
from .fit_to_data import Choice, fit
from .formats.find_format import read_dataset
from .formats.labelled import Labelled
from .log_services import check_services
from .masks import check_masks_of
from .options import OF_DATA, Options
from .splits import with_validation
from .start_weights import find_weights
from .work_dir import INPUT, config_of_run, new_work_dir, short_config


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    work_dir: Path
    config: Path
    report: str
    """What was read and chosen, with reasons, for the user."""
    options: Options

    @property
    def command(self) -> str:
        """The command that does the same run with mim."""
        options = self.options
        words = ['mim', 'train', 'mmdet', str(self.config)]
        words += ['--launcher', 'pytorch', '--gpus', str(options.gpus)] if options.gpus > 1 else []
        words += ['--resume'] if options.resume else []
        words += ['--cfg-options', *options.changes] if options.changes else []
        visible = visible_devices(options.device)
        return (f'{VARIABLE}={shlex.quote(visible)} ' if visible is not None else '') + shlex.join(words)


@dataclass(frozen=True)
class Draft:
    """What the config will say, before there is a work directory."""

    name: str
    """Name of the work directory without its number."""
    base: str
    """Config that it inherits from: a name such as `rtmdet_plugin::rtmdet_tiny.py`, or a path."""
    choices: Mapping[str, Choice]
    weights: Path | None
    seed: int | None
    metric: str
    """Metric of the best checkpoint."""
    facts: list[str]
    """Sentences about the data, for the user."""
    dataset: Labelled | None = None
    """The data; None if the base has it."""
    classes: tuple[str, ...] = ()


def prepare(data: str | Path, options: Options) -> Prepared:
    """Read a dataset, choose the numbers, and write the config in a new work directory.

    Args:
        data: a folder, a data.yaml, an annotation file, or a config; with `resume`, the work directory of a run.
        options: options of the training.

    Raises:
        FileNotFoundError, RefusedError: see `train`.
    """
    choose_device(options.device, options.gpus)
    data = str(data)
    if options.resume:
        options.refuse_on_resume(data)
        folder = Path(data).resolve()
        return Prepared(folder, config_of_run(folder), f'Resuming {data}', options)
    options.check()
    check_services(options.log)
    draft = _draft_from_config(data, options) if is_config(data) else _draft_from_dataset(Path(data), options)
    check_texts([*draft.classes, os.path.abspath(data), os.getcwd(), str(draft.weights or '')])
    return _write(draft, data, options)


def _draft_from_config(data: str, options: Options) -> Draft:
    """Return a draft that changes only the numbers that are set."""
    options.refuse(OF_DATA, f'the config {data} has its own; leave them out, or give a folder')
    base = data if '::' in data else str(config_file(data).resolve())
    if options.weights in ('default', 'none'):
        raise RefusedError(f'weights must be a file for the config {data}, which has its own, got {options.weights!r}')
    weights = find_weights(str(options.weights), 'tiny') if options.weights is not None else None
    config = load_config(base)
    if options.imgsz is not None:
        check_input_size(config, options.imgsz)
    if options.patience is not None:
        _check_patience_of(config, options.patience, options.epochs)
    return Draft(
        name=options.name or Path(base.rpartition('::')[2]).stem,
        base=base,
        choices={name: Choice(value, 'set by you') for name, value in options.numbers().items()},
        weights=weights,
        seed=options.seed,
        metric=best_metric(config),
        facts=[f'Config: {data}'],
    )


def _draft_from_dataset(data: Path, options: Options) -> Draft:
    """Return a draft with all numbers, which follow from the data unless they are set."""
    if short_config(data.resolve()).is_file():
        raise RefusedError(f'{data} must be a dataset, got the work directory of a run; continue it with --resume')
    size, seed = options.model or 'tiny', options.seed or 0
    dataset = with_validation(read_dataset(data), options.val_fraction, seed)
    classes = _chosen_classes(dataset, options.classes)
    content = {split: of_classes(part.content, classes) for split, part in dataset.splits.items()}
    for split, part in content.items():
        if not part['annotations']:
            raise RefusedError(f'{split} must have objects of {", ".join(classes)}, got none; choose other classes')
    base = f'rtmdet_plugin::{MODELS[size]}.py'
    config = load_config(base)
    if loads_masks(config.train_dataloader):
        check_masks_of(dataset, size)
    if options.imgsz is not None:
        check_input_size(config, options.imgsz)
    weights = find_weights(str(options.weights or 'default'), size)
    unknown = _unknown_classes(weights, classes)
    known = weights is not None and not unknown
    facts = facts_of(
        content['train'],
        config,
        pretrained=weights is not None,
        known=known,
        amp=options.amp,
        processes=options.gpus,
    )
    choices = fit(facts, options.numbers())
    if options.patience is not None:
        check_patience(options.patience, choices['stage2'].value, choices['epochs'].value)
    return Draft(
        name=options.name or _name_of(data),
        base=base,
        choices=choices,
        weights=weights,
        seed=seed,
        metric=best_metric(config),
        facts=[
            *_describe(dataset, classes, content['train']['annotations']),
            _describe_weights(weights, classes, unknown),
        ],
        dataset=dataset,
        classes=classes,
    )


def _write(draft: Draft, data: str, options: Options) -> Prepared:
    """Write the config, and the annotations that need a file, to a new work directory."""
    with new_work_dir(draft.name) as folder:
        target = short_config(folder)
        report = '\n'.join([*draft.facts, f'Config: {target}', '', _table(draft.choices)])
        prepared = Prepared(folder, target, report, options)
        settings = Settings(
            draft.base,
            folder,
            draft.choices,
            seed=draft.seed,
            device=device_type(),
            classes=draft.classes,
            splits=_write_splits(draft.dataset, folder / INPUT) if draft.dataset else None,
            weights=draft.weights,
            amp=options.amp,
            patience=options.patience,
            metric=draft.metric,
            log=options.log,
        )
        text = config_text(settings, f'{draft.base} on {data}; written by `rtmdet train`.', prepared.command)
        write_atomically(target, text.encode())
        save_prepared(folder, draft.facts, draft.choices)
    return prepared


def _check_patience_of(config: Config, patience: int, epochs: int | None) -> None:
    """Check the patience for a config; without a stage 2, or without a number of epochs, any is possible."""
    switch = (config.get('default_hooks') or {}).get('pipeline_switch') or {}
    epochs = epochs or (config.get('train_cfg') or {}).get('max_epochs')
    stage2 = switch.get('num_last_epochs', 0)
    if stage2 and epochs:
        check_patience(patience, min(stage2, epochs), epochs)


def check_patience(patience: int, stage2: int, epochs: int) -> None:
    """Check that a run can stop early: patience counts the epochs of stage 2 after its first, which is the reference.

    Raises:
        RefusedError: if the run would end before.
    """
    if patience > stage2 - 2:
        longer = 'leave it out' if stage2 < 3 else f'set at most {stage2 - 2}, or leave it out'
        raise RefusedError(
            f'patience must be shorter than stage 2, the last {stage2} of {epochs} epochs without mosaic and MixUp, '
            f'whose first validation is the reference, got {patience}; {longer}'
        )


def best_metric(config: Config) -> str:
    """Return the AP that the best checkpoint of a config is chosen by; that of boxes if it is another metric."""
    checkpoint = (config.get('default_hooks') or {}).get('checkpoint') or {}
    return 'coco/segm_mAP' if checkpoint.get('save_best') == 'coco/segm_mAP' else 'coco/bbox_mAP'


def _name_of(data: Path) -> str:
    data = data.resolve()
    return data.name if data.is_dir() else f'{data.parent.name}_{data.stem}'


def _chosen_classes(dataset: Labelled, classes: Sequence[str] | None) -> tuple[str, ...]:
    unknown = [name for name in classes or () if name not in dataset.classes]
    if unknown:
        raise RefusedError(f'classes must be among {", ".join(dataset.classes)}, got {", ".join(unknown)}')
    return tuple(classes or dataset.classes)


def of_classes(content: Mapping[str, list[dict]], classes: Sequence[str]) -> dict[str, list[dict]]:
    """Return COCO's lists with the objects of some classes and all images."""
    ids = {category['id'] for category in content['categories'] if category['name'] in classes}
    return {**content, 'annotations': [item for item in content['annotations'] if item['category_id'] in ids]}


def _write_splits(dataset: Labelled, folder: Path) -> dict[str, SplitFiles]:
    """Write the annotations of splits that have no COCO file of their own; return the files of all splits."""
    files = {}
    for split, part in dataset.splits.items():
        file = part.file
        if file is None:
            file = folder / f'{split}.json'
            write_atomically(file, json.dumps(part.content).encode())
        files[split] = SplitFiles(file.resolve(), part.folder.resolve())
    return files


def _unknown_classes(weights: Path | None, classes: Sequence[str]) -> list[str]:
    """Return the classes that a checkpoint doesn't detect, by the names that it records."""
    content = None
    if weights is not None:
        content = CheckpointLoader.load_checkpoint(str(weights), map_location='cpu', logger='silent')
    rows = rows_of(classes, classes_in(content))
    return [name for name, row in zip(classes, rows, strict=True) if row is None]


def _describe(dataset: Labelled, classes: Sequence[str], objects: list[dict]) -> list[str]:
    counts = ', '.join(f'{len(part.content["images"])} for {split}' for split, part in dataset.splits.items())
    lines = [
        f'Data: {dataset.source} ({dataset.kind}); images: {counts}; {len(classes)} classes: {_shortened(classes)}'
    ]
    images = len(dataset.splits['train'].content['images'])
    if background := images - len({item['image_id'] for item in objects}):
        lines.append(f'Background: {background} of {images} training images have no objects; they are trained on too')
    lines += [f'Note: {note}' for note in dataset.notes]
    return [*lines, *(f'Skipped: {reason}' for reason in dataset.skipped.values())]


def _describe_weights(weights: Path | None, classes: Sequence[str], unknown: Sequence[str]) -> str:
    if weights is None:
        return 'Weights: none, trained from scratch'
    if not unknown:
        return f'Weights: {weights}; they already detect all classes'
    if len(unknown) == len(classes):
        return f'Weights: {weights}'
    return f'Weights: {weights}; of {len(classes)} classes, they do not yet detect {_shortened(unknown)}'


def _shortened(names: Sequence[str]) -> str:
    shown = ', '.join(' '.join(name.split()) for name in names[:6])
    return shown + (f' and {len(names) - 6} more' if len(names) > 6 else '')


def _table(choices: Mapping[str, Choice]) -> str:
    """Return the choices as a table of names, values and reasons."""
    shown = {
        name: ', '.join(map(str, v)) if isinstance(v := choice.value, tuple) else str(v)
        for name, choice in choices.items()
    }
    widths = max(map(len, shown), default=0), max(map(len, shown.values()), default=0)
    return '\n'.join(
        f'  {name:{widths[0]}}  {value:{widths[1]}}  {choices[name].reason}' for name, value in shown.items()
    )
