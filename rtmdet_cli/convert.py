"""The command `rtmdet convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click


@click.command('convert')
@click.argument('checkpoint', metavar='IN', type=click.Path(path_type=Path))
@click.argument('out', metavar='OUT', type=click.Path(path_type=Path))
@click.option('--to', type=click.Choice(['mmdet', 'mmyolo']), required=True, help='Project whose names OUT has.')
def command(checkpoint: Path, out: Path, to: Literal['mmdet', 'mmyolo']) -> None:
    """Convert the weights in IN, an RTMDet checkpoint of mmyolo or mmdet, to the names of the other project.

    IN and OUT are .pth or .safetensors files. If the training used EMA, the averaged weights are converted. The
    optimiser's state and other training state are dropped and listed. All other commands and training also read
    mmyolo's checkpoints directly.
    """
    if not checkpoint.is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    from rtmdet_plugin.checkpoints.publish import convert_checkpoint

    done = convert_checkpoint(checkpoint, out, to)
    kind = 'averaged weights' if done.averaged else 'weights'
    setting = ', for model.bbox_head.exp_on_reg=False' if to == 'mmdet' else ''
    click.echo(f'{done.path}: {done.tensors} tensors, {kind}, in the names of {to}{setting}')
    if done.dropped:
        click.echo(f'dropped: {", ".join(done.dropped)}')
