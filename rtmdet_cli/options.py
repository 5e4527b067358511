"""Options of commands that run exported models, and a text for the thresholds of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtmdet_runtime.backends import BACKENDS, THREAD_COUNTS
from rtmdet_runtime.backends.pytorch import is_checkpoint
from rtmdet_runtime.choices import PRECISIONS
from rtmdet_runtime.cpu_cores import available_cores, free_threads

if TYPE_CHECKING:
    from rtmdet_runtime import ModelInfo

THREADS = click.IntRange(*THREAD_COUNTS)

backend_option = click.option(
    '--backend',
    type=click.Choice(list(BACKENDS)),
    help='Backend to run the model on. Default: by the ending of the file.',
)
size_option = click.option(
    '--size',
    type=int,
    nargs=2,
    metavar='H W',
    help="Input size, for a model with a dynamic size. Default: the model's own.",
)
batch_size_option = click.option(
    '--batch-size',
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar='N',
    help='Number of images that the network gets at once.',
)
threads_option = click.option(
    '--threads',
    type=THREADS,
    metavar='N',
    help="Number of CPU threads. Default: the backend's, or the free cores if other programs use some.",
)


def threads_beside_others(model: str | Path, device: str | None = None) -> int | None:
    """Return the number of threads that other programs leave room for, and say so.

    Args:
        model: the model that will run.
        device: device that the user has chosen.

    Returns:
        None if all cores are free, or the model runs on a GPU.
    """
    if device is None and is_checkpoint(model):
        from rtmdet_plugin.inference.device import device_type

        device = device_type()
    if device not in (None, 'cpu') or Path(model).suffix == '.engine':
        return None
    if (threads := free_threads()) is not None:
        text = f'CPU threads: {threads} of {available_cores()}, because other programs use the other cores'
        click.echo(f'{text}; --threads N changes this', err=True)
    return threads


def _precision_option(default: str, text: str) -> Callable:
    return click.option(
        '--precision',
        type=click.Choice(PRECISIONS),
        default=default,
        show_default=True,
        help=f'Precision to compute in; {text}.',
    )


precision_option = _precision_option('auto', 'auto: bfloat16 on OpenVINO if the CPU has it, otherwise float32')
ap_precision_option = _precision_option(
    'float32', 'float32: the same AP on every CPU; auto: as rtmdet predict, bfloat16 on OpenVINO if the CPU has it'
)


def describe_thresholds(info: ModelInfo) -> str:
    """Return the thresholds of an exported model as text."""
    return f'score {info.score_thr}, iou {info.iou_thr}, max_per_img {info.max_per_img}'
