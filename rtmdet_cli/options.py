"""Options of the commands that run an exported model."""

from __future__ import annotations

import click

from rtmdet_runtime.backends import BACKENDS, THREAD_COUNTS

THREADS = click.IntRange(*THREAD_COUNTS)

backend_option = click.option('--backend', type=click.Choice(list(BACKENDS)), help="Default: by the model's ending.")
size_option = click.option(
    '--size',
    type=int,
    nargs=2,
    metavar='H W',
    help="Scale images to, for a model with a dynamic size. Default: the model's own.",
)
threads_option = click.option('--threads', type=THREADS, metavar='N', help="Default: the backend's.")
