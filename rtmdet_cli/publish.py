"""The command `rtmdet publish`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command('publish')
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File to write, .safetensors or .pth. Default: CHECKPOINT with the ending .safetensors.',
)
def command(checkpoint: Path, out: Path | None) -> None:
    """Write the weights of CHECKPOINT to a file for others, without the state that only training needs.

    If the training used EMA, the averaged weights are written. `load_from`, `mim test` and DetInferencer read the file
    like a checkpoint.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    from rtmdet_plugin.checkpoints.publish import publish

    done = publish(checkpoint, out or checkpoint.with_suffix('.safetensors'))
    kind = 'averaged weights' if done.averaged else 'weights'
    before, after = (path.stat().st_size / 2**20 for path in (checkpoint, done.path))
    kind += '' if done.converted is None else ", converted from mmyolo's names"
    click.echo(f'{done.path}: {done.tensors} tensors, {kind}, {after:.1f} MB ({checkpoint} has {before:.1f} MB)')
