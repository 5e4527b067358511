"""The command `rtmdet val`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtmdet_runtime.choices import CHECKPOINTS
from rtmdet_runtime.output import STDOUT, check_json, check_output, input_files, write_json, write_result

from .evaluation_tables import csv_of_classes, show
from .images import list_bad
from .options import (
    ap_precision_option,
    backend_option,
    batch_size_option,
    describe_thresholds,
    size_option,
    threads_beside_others,
    threads_option,
)
from .test import EXPORTED

if TYPE_CHECKING:
    from mmengine.config import Config

    from rtmdet_runtime import RTMDetector

SPLITS = ('val', 'test', 'train')
FILE = click.Path(path_type=Path)


@click.command('val')
@click.argument('model', type=click.Path(path_type=Path))
@click.argument('data', required=False)
@click.option(
    '--split',
    type=click.Choice(SPLITS),
    help='Images to evaluate on. Default: val; of a config, test; of an annotation file, all.',
)
@click.option('--classes', metavar='A,B', help='Classes of DATA to evaluate, separated by commas. Default: all.')
@click.option('--config', metavar='CONFIG', help="Config of a checkpoint's model. Default: that of its work directory.")
@click.option(
    '--score-thr',
    type=click.FloatRange(0, 1),
    metavar='X',
    help='Score threshold for precision, recall, F1 and the confusion matrix. Default: the one with the best F1.',
)
@click.option(
    '--iou-thr',
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    metavar='X',
    help='IoU from which a box is correct, for everything but AP.',
)
@backend_option
@click.option('--device', metavar='cpu|cuda|cuda:N', help='Device of a checkpoint. Default: a GPU if there is one.')
@size_option
@batch_size_option
@threads_option
@ap_precision_option
@click.option(
    '--json', 'json_file', type=FILE, metavar='FILE', help='File (.json) for all numbers; - for standard output.'
)
@click.option('--csv', 'csv_file', type=FILE, metavar='FILE', help='File (.csv) for the numbers of each class.')
def command(
    model, data, split, classes, config, score_thr, iou_thr, batch_size, json_file, csv_file, **runtime
) -> None:
    """Evaluate MODEL on DATA.

    MODEL is an exported model (.onnx, .xml, .param, .engine), a checkpoint (.pth, .safetensors), or the work directory
    of a training, whose best checkpoint is used. DATA is a folder, a data.yaml or an annotation file, in COCO JSON,
    YOLO, Pascal VOC or CSV, or a config. Default: the data of the work directory. The classes of MODEL and DATA are
    matched by their names.

    Prints AP, AP of each class, precision, recall and F1, the score threshold with the best F1, what each kind of error
    costs, and the confusion matrix. AP is measured with a score threshold of 0.001 and 300 boxes per image. For a
    model with masks, AP of masks is printed too, if all objects of DATA have one; the thresholds are 0.05 and 100.
    """
    if not model.is_dir() and model.suffix not in (*CHECKPOINTS, *EXPORTED):
        endings = ', '.join((*EXPORTED, *CHECKPOINTS))
        raise ValueError(f'MODEL must be a work directory, or end in one of {endings}, got {model}')
    inputs = input_files([model, *filter(None, (data, config))])
    if json_file is not None:
        check_json(json_file, inputs, r'\{\s*"AP"\s*:')
    if csv_file is not None:
        check_output(csv_file, inputs, ('.csv',), 'class,images,objects,')
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.evaluation.evaluation import evaluate_detections
    from rtmdet_plugin.evaluation.summary import summary
    from rtmdet_plugin.inference.detect import detect, masks_to_compare
    from rtmdet_plugin.inference.quiet import quiet, show_warnings
    from rtmdet_runtime.info import NMS_FORMS

    with quiet(), show_warnings():
        detector, own_config = open_model(model, data, config, **runtime)
        truth, skipped = read_truth(data, split, own_config)
        if classes is not None:
            truth = of_classes(truth, classes.split(','))
        found, bad = detect(detector, truth, batch_size)
        masks, note = masks_to_compare(detector, truth)
        result = evaluate_detections(truth, found, iou_thr, masks)
    numbers = summary(result, score_thr)
    numbers.update(model=str(model), bad_images=list(bad.values()), skipped=skipped)
    notes = list(skipped)
    if skipped:
        notes.append(f'{len(skipped)} samples of {data}, listed above, are not evaluated')
    if others := [name for name in detector.info.classes if name not in result.classes]:
        notes.append(f'classes of the model that the data does not have are not evaluated: {", ".join(others)}')
    if detector.info.form in NMS_FORMS:
        used = describe_thresholds(detector.info)
        notes.append(f'AP is measured with the thresholds in the graph ({used}); export the model with --for-map')
    notes += [note] if note else []
    for line in notes:
        click.echo(line, err=True)
    show(numbers, err=json_file == STDOUT)
    if json_file is not None:
        write_json(json_file, numbers)
    if csv_file is not None:
        write_result(csv_file, csv_of_classes(numbers['classes']).encode(errors='replace'))
    list_bad(list(bad.values()), len(truth['images']), 'their objects count as missed')


def open_model(
    model: Path,
    data: str | None,
    config: str | None,
    *,
    backend: str | None,
    device: str | None,
    size: tuple[int, int] | None,
    threads: int | None,
    precision: str,
) -> tuple[RTMDetector, Config | None]:
    """Open a model to measure AP with it.

    Returns:
        The detector, and the config that was given for it or is in its work directory; None without these.

    Raises:
        FileNotFoundError, ValueError: see `open_for_map`, `config_of_work_dir` and `best_or_last`; ValueError also if
            an option isn't for this kind of model.
    """
    from rtmdet_plugin.checkpoints.load_model import is_config, read_config
    from rtmdet_plugin.checkpoints.work_dir import best_or_last, config_of_work_dir, is_work_dir
    from rtmdet_plugin.inference.device import device_type
    from rtmdet_plugin.inference.open_for_map import open_for_map

    trained = model.is_dir() or model.suffix in CHECKPOINTS
    kind, option, value = ('an exported model', 'backend', backend) if trained else ('a checkpoint', 'device', device)
    if value is not None:
        raise ValueError(f'MODEL must be {kind} for --{option}, got {model}')
    folder = model if model.is_dir() else model.parent
    if config is None and data is not None and is_config(data):
        config = data
    elif config is None and (model.is_dir() or trained and is_work_dir(folder)):
        config = str(config_of_work_dir(folder))
    loaded = None if config is None else read_config(config)
    file = best_or_last(model) if model.is_dir() else model
    device = device or (device_type() if trained else 'cpu')
    threads = threads or threads_beside_others(file, device)
    detector = open_for_map(
        file, loaded, backend=backend, size=size, threads=threads, precision=precision, device=device
    )
    return detector, loaded


def read_truth(data: str | None, split: str | None, config: Config | None) -> tuple[dict[str, list[dict]], list[str]]:
    """Read the ground truth.

    Args:
        data: DATA; None for that of the config.
        split: 'train', 'val' or 'test'; None for the default.
        config: config of the model, if there is one.

    Returns:
        COCO's lists, and the reason for each sample of the split that is skipped.

    Raises:
        FileNotFoundError, ValueError: see `truth_of_config` and `read_dataset`; ValueError also if there is no data, or
            a split is given for an annotation file.
    """
    from rtmdet_plugin.checkpoints.load_model import is_config, read_config
    from rtmdet_plugin.checkpoints.work_dir import config_of_work_dir, is_work_dir
    from rtmdet_plugin.inference.truth_of_config import truth_of_config
    from rtmdet_plugin.training.formats.find_format import read_dataset
    from rtmdet_plugin.training.formats.labelled import truth_of_split

    if data is not None and is_config(data):
        return truth_of_config(read_config(data), split or 'test'), []
    if data is not None and is_work_dir(Path(data)):
        config, data = read_config(config_of_work_dir(Path(data))), None
    if data is None:
        if config is None:
            raise ValueError('DATA must be given unless MODEL is a work directory or a checkpoint in it, got none')
        return truth_of_config(config, split or 'val'), []
    path = Path(data)
    if path.is_file() and path.suffix.lower() not in ('.yaml', '.yml'):
        if split is not None:
            raise ValueError(f'--split must not be given for an annotation file, of which all is used, got {split}')
        dataset = read_dataset(path, needed=None)
        (split,) = dataset.splits
    else:
        split = split or 'val'
        dataset = read_dataset(path, needed=split)
    return truth_of_split(dataset, split), list(dataset.skipped_by_split.get(split, {}).values())


def of_classes(truth: dict[str, list[dict]], classes: list[str]) -> dict[str, list[dict]]:
    """Return the ground truth of some classes, on all images.

    Raises:
        ValueError: if there is no such class.
    """
    from rtmdet_plugin.datasets.ground_truth import ground_truth

    ids = {category['name']: category['id'] for category in truth['categories']}
    unknown = [name for name in classes if name not in ids]
    if unknown:
        raise ValueError(f'--classes must be among {", ".join(ids)}, got {", ".join(unknown)}')
    paths = {image['id']: image['file_name'] for image in truth['images']}
    return ground_truth(truth, paths, {name: ids[name] for name in classes})
