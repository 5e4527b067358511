"""The verb `rtmdet publish`."""

from __future__ import annotations

from pathlib import Path

import click

from rtmdet_runtime.output import check_writable

from ..checkpoints.publish import publish
from ..compat.safetensors_file import SUFFIX


@click.command('publish')
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help=f'.safetensors or .pth; default: CHECKPOINT, with the ending {SUFFIX}.',
)
def command(checkpoint: Path, out: Path | None) -> None:
    """Write the weights of CHECKPOINT as a file for others, without what only the training needs.

    Where the training kept an EMA, its averaged weights are written. `load_from`, `mim test` and DetInferencer take the
    file as they take a checkpoint.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    out = out or checkpoint.with_suffix(SUFFIX)
    check_writable(out)
    done = publish(checkpoint, out)
    kind = 'averaged weights' if done.averaged else 'weights'
    before, after = (path.stat().st_size / 2**20 for path in (checkpoint, done.path))
    click.echo(f'{done.path}: {done.tensors} tensors, {kind}, {after:.1f} MB ({checkpoint} has {before:.1f} MB)')
