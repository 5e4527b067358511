"""Train on a folder: read it, choose numbers that fit, write a config, and run mmengine's Runner on it."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtmdet_plugin_startup import call_and_wait
from rtmdet_runtime.atomic_files import write_atomically
from rtmdet_runtime.choices import MODELS

from ..checkpoints.load_model import config_file, load_config
from ..config.changes import apply_changes
from ..config.input_size import check_input_size
from ..config.pipelines import preprocessing
from ..errors import RefusedError, log_traceback
from .config_file import Settings, SplitFiles, check_texts, config_text
from .fit_to_data import Choice, facts_about, fit
from .formats.find_format import read_dataset
from .formats.labelled import Labelled
from .published import find_weights
from .splits import with_validation
from .work_dir import INPUT, config_of_run, new_work_dir, short_config


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start."""

    work_dir: Path
    config: Path
    report: str
    """What was read and chosen, with reasons, for the user."""
    changes: tuple[str, ...] = ()
    """Changes of the config, KEY=VALUE."""
    gpus: int = 1
    device: str | None = None
    resume: bool = False

    @property
    def command(self) -> str:
        """The command that does the same run with mim."""
        words = ['mim', 'train', 'mmdet', str(self.config)]
        words += ['--launcher', 'pytorch', '--gpus', str(self.gpus)] if self.gpus > 1 else []
        words += ['--resume'] if self.resume else []
        words += ['--cfg-options', *self.changes] if self.changes else []
        visible = visible_devices(self.device)
        return (f'CUDA_VISIBLE_DEVICES={visible} ' if visible is not None else '') + shlex.join(words)


def train(data: str | Path, **options: Any) -> Path:
    """Train a detector on a dataset, like the command `rtmdet train`.

    Prints what was chosen and why, and the `mim` command that does the same run.

    Args:
        data: a folder, a data.yaml, an annotation file, or a config; with `resume`, the work directory of a run.
        options: see `prepare`. `dry_run=True` stops after writing the config.

    Returns:
        The work directory.

    Raises:
        FileNotFoundError: if a file doesn't exist.
        RefusedError: if the data can't be used, an option has a wrong value, or the run is refused.
        SystemExit: if the run is stopped by a signal, after its state has been saved.
    """
    dry_run = options.pop('dry_run', False)
    prepared = prepare(data, **options)
    print(f'{prepared.report}\n\nThe same run with mim:\n\n    {prepared.command}\n', flush=True)
    if not dry_run:
        run(prepared)
    return prepared.work_dir


def prepare(
    data: str | Path,
    *,
    model: str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    imgsz: int | None = None,
    workers: int | None = None,
    weights: str | Path | None = None,
    classes: Sequence[str] | None = None,
    val_fraction: float | None = None,
    seed: int | None = None,
    amp: bool = False,
    patience: int | None = None,
    device: str | None = None,
    gpus: int = 1,
    name: str | None = None,
    changes: Sequence[str] = (),
    resume: bool = False,
) -> Prepared:
    """Read a dataset, choose the numbers, and write the config in a new work directory.

    Args:
        data: a folder, a data.yaml, an annotation file, or a config; with `resume`, the work directory of a run.
        model: size: nano, tiny (the default), s, m, l or x.
        epochs: number of epochs. By default this and the numbers below follow from the data.
        batch: number of images of a step, for each GPU.
        imgsz: input size in pixels, a multiple of 32.
        workers: number of processes that load images, for each GPU.
        weights: 'default' for the published ones, 'none', or a file.
        classes: names of the classes to train on; by default all.
        val_fraction: share of the training images to validate on, if the dataset has no validation split; by
            default 0.2.
        seed: seed of the run and of that split; 0 by default, unless a config has its own.
        amp: train with bfloat16.
        patience: stop after this number of epochs of stage 2 without a better AP.
        device: 'cpu', 'cuda' or 'cuda:N'; by default a GPU if there is one.
        gpus: number of GPUs; more than one are started by torchrun.
        name: name of the work directory, `work_dirs/NAME_1`, or the next free number.
        changes: changes of the config, KEY=VALUE.
        resume: continue the run of a work directory; no other option but `device`, `gpus` and `changes` may be set.

    Raises:
        FileNotFoundError, RefusedError: see `train`.
    """
    choose_device(device, gpus)
    data = str(data)
    given: dict[str, int | None] = dict(imgsz=imgsz, batch=batch, epochs=epochs, workers=workers)
    of_data = dict(model=model, classes=classes, val_fraction=val_fraction)
    if resume:
        others = dict(weights=weights, seed=seed, amp=amp or None, patience=patience, name=name)
        refuse_without_effect(
            {**of_data, **given, **others},
            f'with resume, the run in {data} keeps its own values; change one with --set, such as '
            '--set train_cfg.max_epochs=50',
        )
        folder = Path(data).resolve()
        return Prepared(folder, config_of_run(folder), f'Resuming {data}', tuple(changes), gpus, device, True)
    for option, value in dict(given, patience=patience).items():
        if value is not None and value < (0 if option == 'workers' else 1):
            raise RefusedError(f'{option} must be a positive number, got {value}')
    dataset = names = None
    if data.endswith('.py') or '::' in data:
        refuse_without_effect(of_data, f'the config {data} has its own; leave them out, or give a folder')
        base = data if '::' in data else str(config_file(data).resolve())
        chosen = {option: Choice(value, 'set by you') for option, value in given.items() if value is not None}
        if weights in ('default', 'none'):
            raise RefusedError(f'weights must be a file for the config {data}, which has its own, got {weights!r}')
        source = find_weights(str(weights), 'tiny') if weights is not None else None
        if imgsz is not None:
            check_input_size(load_config(base), imgsz)
        name = name or Path(base.rpartition('::')[2]).stem
        facts = [f'Config: {data}']
    else:
        size = model or 'tiny'
        if size not in MODELS:
            raise RefusedError(f'model must be one of {", ".join(MODELS)}, got {size!r}')
        if short_config(Path(data).resolve()).is_file():
            raise RefusedError(f'{data} must be a dataset, got the work directory of a run; continue it with --resume')
        seed = seed or 0
        dataset = with_validation(read_dataset(Path(data)), val_fraction, seed)
        names = _chosen_classes(dataset, classes)
        content = {split: of_classes(part.content, names) for split, part in dataset.splits.items()}
        for split, part in content.items():
            if not part['annotations']:
                raise RefusedError(f'{split} must have objects of {", ".join(names)}, got none; choose other classes')
        base = f'rtmdet_plugin::rtmdet_{size}.py'
        config = load_config(base)
        if imgsz is not None:
            check_input_size(config, imgsz)
        source = find_weights(str(weights or 'default'), size)
        chosen = fit(
            facts_about(
                content['train'],
                default_size=max(preprocessing(config)['input_size']),
                pretrained=source is not None,
                device=device_type(),
                cores=len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1,
                processes=gpus,
            ),
            given,
        )
        if patience is not None:
            check_patience(patience, chosen['stage2'].value, chosen['epochs'].value)
        name = name or _name_of(Path(data))
        facts = _describe(dataset, names, content['train']['annotations'], source)
    check_texts([*(names or ()), os.path.abspath(data), os.getcwd(), str(source or '')])
    with new_work_dir(name) as folder:
        files = _write_splits(dataset, folder / INPUT) if dataset else None
        settings = Settings(
            base,
            folder,
            chosen,
            seed=seed,
            device=device_type(),
            classes=names or (),
            splits=files,
            weights=source,
            amp=amp,
            patience=patience,
        )
        target = short_config(folder)
        report = '\n'.join([*facts, f'Config: {target}', '', _table(chosen)])
        prepared = Prepared(folder, target, report, tuple(changes), gpus, device)
        text = config_text(settings, f'{base} on {data}; written by `rtmdet train`.', prepared.command)
        write_atomically(target, text.encode())
    return prepared


def run(prepared: Prepared) -> None:
    """Run a prepared training: in this process, or with torchrun if it has several GPUs.

    A traceback of an error is written to the log.

    Raises:
        RefusedError: if the run is refused.
        SystemExit: after a signal, or if a process of several has failed.
    """
    if prepared.gpus > 1:
        import mmdet

        script = Path(str(mmdet.__file__)).parent / '.mim' / 'tools' / 'train.py'
        command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={prepared.gpus}']
        command += [str(script), str(prepared.config), '--launcher', 'pytorch']
        command += ['--resume'] if prepared.resume else []
        call_and_wait(command + (['--cfg-options', *prepared.changes] if prepared.changes else []))
        return
    from mmdet.utils import setup_cache_size_limit_of_dynamo
    from mmengine.runner import Runner

    setup_cache_size_limit_of_dynamo()
    os.environ.setdefault('LOCAL_RANK', '0')
    config = load_config(prepared.config)
    config.launcher = 'none'
    apply_changes(config, prepared.changes, '--set')
    if config.get('visualizer'):  # mmengine reuses that of an earlier run in this process, with its folder, by its name
        config.visualizer.name = uuid.uuid4().hex
    if prepared.resume:
        config.resume, config.load_from = True, None
    try:
        Runner.from_cfg(config).train()
    except Exception as error:
        if log := log_traceback(error):
            print(f'The traceback is in {log}', file=sys.stderr)
        raise


def visible_devices(device: str | None) -> str | None:
    """Return the value of CUDA_VISIBLE_DEVICES for a device; None if it isn't changed.

    Raises:
        RefusedError: if the device isn't 'cpu', 'cuda' or 'cuda:N'.
    """
    if device is None or device == 'cuda':
        return None
    if device == 'cpu':
        return "''"
    if re.fullmatch(r'cuda:\d+', device):
        return device.removeprefix('cuda:')
    raise RefusedError(f'device must be cpu, cuda or cuda:N, got {device!r}')


def choose_device(device: str | None, gpus: int = 1) -> None:
    """Hide the other GPUs from PyTorch, which mmengine's Runner would use; it works before their first use only.

    Raises:
        RefusedError: see `visible_devices`; also if there is no such GPU, or one is named for a run on several.
    """
    if gpus > 1 and device not in (None, 'cpu', 'cuda'):
        raise RefusedError(
            f'device must be cuda or cpu with gpus={gpus}, got {device}; choose GPUs with CUDA_VISIBLE_DEVICES'
        )
    visible = visible_devices(device)
    if visible is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = visible.strip("'")
    if device is not None and device != 'cpu' and device_type() != 'cuda':
        raise RefusedError(f'device must be cpu on a machine without CUDA, got {device}')


def device_type() -> str:
    """Return 'cuda' or 'cpu', as mmengine's Runner chooses."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


def refuse_without_effect(options: Mapping[str, Any], reason: str) -> None:
    """Refuse options that are set although they would change nothing.

    Raises:
        RefusedError: if a value isn't None; the message has all of them and the reason.
    """
    found = [f'{name}={value}' for name, value in options.items() if value is not None]
    if found:
        raise RefusedError(f'{", ".join(found)} must not be set: {reason}')


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


def _describe(dataset: Labelled, classes: Sequence[str], objects: list[dict], weights: Path | None) -> list[str]:
    counts = ', '.join(f'{len(part.content["images"])} for {split}' for split, part in dataset.splits.items())
    shown = ', '.join(' '.join(name.split()) for name in classes[:6])
    shown += f' and {len(classes) - 6} more' if len(classes) > 6 else ''
    lines = [f'Data: {dataset.source} ({dataset.kind}); images: {counts}; {len(classes)} classes: {shown}']
    images = len(dataset.splits['train'].content['images'])
    if background := images - len({item['image_id'] for item in objects}):
        lines.append(f'Background: {background} of {images} training images have no objects; they are trained on too')
    lines += [f'Note: {note}' for note in dataset.notes]
    lines += [f'Skipped: {reason}' for reason in dataset.skipped.values()]
    return [*lines, f'Weights: {weights or "none, trained from scratch"}']


def _table(choices: dict[str, Choice]) -> str:
    """Return the choices as a table of names, values and reasons."""
    shown = {
        name: ', '.join(map(str, v)) if isinstance(v := choice.value, tuple) else str(v)
        for name, choice in choices.items()
    }
    widths = max(map(len, shown), default=0), max(map(len, shown.values()), default=0)
    return '\n'.join(
        f'  {name:{widths[0]}}  {value:{widths[1]}}  {choices[name].reason}' for name, value in shown.items()
    )
