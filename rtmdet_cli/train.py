"""The command `rtmdet train`."""

from __future__ import annotations

from pathlib import Path

import click

from rtmdet_runtime.choices import MODELS
from rtmdet_runtime.devices import hide_other_gpus


@click.command('train')
@click.argument('data')
@click.option(
    '--model',
    type=click.Choice(tuple(MODELS)),
    help='Size of the model; with ins-, a model that predicts masks. Default: tiny.',
)
@click.option('--epochs', type=click.IntRange(1), metavar='N', help='Number of epochs. Default: follows from the data.')
@click.option(
    '--batch', type=click.IntRange(1), metavar='N', help='Images per step and GPU. Default: follows from the data.'
)
@click.option(
    '--imgsz', type=int, metavar='N', help='Input size in pixels, a multiple of 32. Default: follows from the data.'
)
@click.option(
    '--weights',
    metavar='FILE|default|none',
    help='Weights to start from: a file, those that OpenMMLab published, or none. Default: the published ones, which '
    'are downloaded to the folder RTMDET_HOME if they are not there.',
)
@click.option('--classes', metavar='A,B', help='Classes to train on, separated by commas. Default: all.')
@click.option(
    '--val-fraction',
    type=float,
    metavar='X',
    help='Share of the training images to validate on, if the data has no validation split. Default: 0.2.',
)
@click.option('--device', metavar='cpu|cuda|cuda:N', help='Device. Default: a GPU if there is one.')
@click.option('--gpus', type=click.IntRange(1), default=1, show_default=True, metavar='N', help='Number of GPUs.')
@click.option('--workers', type=click.IntRange(0), metavar='N', help='Processes that load images, per GPU.')
@click.option('--amp', is_flag=True, help='Train with bfloat16.')
@click.option('--seed', type=click.IntRange(0), metavar='N', help='Seed of the run and of the split. Default: 0.')
@click.option(
    '--patience',
    type=click.IntRange(1),
    metavar='N',
    help='Stop after N epochs of stage 2, the last epochs, without a better AP. Default: never.',
)
@click.option(
    '--log',
    metavar='A,B',
    help='Services that get the metrics as well, separated by commas: tensorboard, mlflow, wandb.',
)
@click.option('--name', metavar='NAME', help="Name of the work directory, work_dirs/NAME_1. Default: the data's name.")
@click.option(
    '--resume',
    is_flag=True,
    help='Continue a run; DATA is its work directory. Only --device, --gpus and --set may be given too.',
)
@click.option(
    '--set',
    'changes',
    multiple=True,
    metavar='KEY=VALUE',
    help='Change a value of the config, such as train_cfg.val_interval=1. May be repeated.',
)
@click.option('--dry-run', is_flag=True, help='Write the config and stop; missing weights are downloaded.')
def command(data, classes, log, device, **options) -> None:
    """Train a detector on DATA.

    DATA is a folder, a data.yaml, an annotation file or a config. Annotations may be COCO JSON, YOLO, Pascal VOC or
    CSV, and masks COCO JSON or YOLO; images are neither copied nor changed. All numbers that aren't given follow from
    the data. They are printed with their reasons and written to a short config in a new work directory,
    work_dirs/NAME_N, and mmengine's Runner trains with it, like mim train mmdet. Ctrl-C saves the state; --resume
    continues.
    """
    hide_other_gpus(device)  # before mmengine is imported, which chooses its device then
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.training.train import train

    work_dir = train(data, classes=names(classes) or None, log=names(log), device=device, **options)
    click.echo(f'Work directory: {click.format_filename(Path(work_dir))}')


def names(text: str | None) -> tuple[str, ...]:
    """Return the names in a list that is separated by commas."""
    return tuple(name for name in map(str.strip, (text or '').split(',')) if name)
