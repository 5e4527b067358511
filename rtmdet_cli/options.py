"""Options of commands that run exported models, and a text for the thresholds of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rtmdet_runtime.backends import BACKENDS, THREAD_COUNTS

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
    '--threads', type=THREADS, metavar='N', help="Number of CPU threads. Default: the backend's."
)


def describe_thresholds(info: ModelInfo) -> str:
    """Return the thresholds of an exported model as text."""
    return f'score {info.score_thr}, iou {info.iou_thr}, max_per_img {info.max_per_img}'
