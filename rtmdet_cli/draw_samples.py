"""The command `rtmdet draw-samples`."""

from __future__ import annotations

from pathlib import Path

import click

from .config import cfg_options, changed_config, config_argument

ENDINGS = ('.jpeg', '.jpg', '.png')


@click.command('draw-samples')
@config_argument
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    default='samples.png',
    show_default=True,
    metavar='FILE',
    help='Image file to write: .png or .jpg.',
)
@click.option(
    '--count', type=click.IntRange(1), default=9, show_default=True, metavar='N', help='Number of samples to draw.'
)
@click.option(
    '--stage',
    type=click.Choice(['1', '2']),
    default='1',
    show_default=True,
    help='Training stage: 1 for the first epochs, 2 for the last ones.',
)
@click.option('--seed', type=int, default=0, show_default=True, metavar='N', help='Seed of the augmentation.')
@cfg_options
def command(config, out, count, stage, seed, changes) -> None:
    """Draw a grid of augmented training samples of CONFIG with their boxes, as the model gets them.

    CONFIG is a file or the name of a shipped config, such as rtmdet_plugin::rtmdet_s.py.
    """
    from rtmdet_plugin.datasets.preview import draw_samples, image_files, training_set
    from rtmdet_runtime.drawing import check_image, write_image
    from rtmdet_runtime.output import check_output, input_files

    config = changed_config(config, changes)
    check_output(out, input_files([]), ENDINGS)
    dataset = training_set(config, int(stage))
    if out.exists():
        check_image(out, input_files(image_files(dataset)), ENDINGS)
    samples = draw_samples(dataset, count, seed)
    write_image(out, samples)
    height, width = samples.shape[:2]
    click.echo(f'{click.format_filename(out)}: {count} samples of stage {stage}, {width}x{height} pixels')
