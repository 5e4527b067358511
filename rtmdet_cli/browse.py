"""The command `rtmdet browse`."""

from __future__ import annotations

from pathlib import Path

import click

from rtmdet_runtime.choices import MODELS

from .config import cfg_options
from .data import read_argument

IMAGES = ('.jpeg', '.jpg', '.png')
PAGE = '.html'


@click.command('browse')
@click.argument('data')
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    default='samples.png',
    show_default=True,
    metavar='FILE',
    help='File to write: a grid (.png, .jpg), or a page (.html) of images with their boxes and names.',
)
@click.option(
    '--stage',
    type=click.Choice(['data', '1', '2']),
    default='data',
    show_default=True,
    help='data for the images as they are; 1 or 2 for what the model gets in the first or last epochs.',
)
@click.option(
    '--split',
    type=click.Choice(['train', 'val', 'test']),
    default='train',
    show_default=True,
    help='Part of the data, with --stage data; both stages use the training images.',
)
@click.option(
    '--count', type=click.IntRange(1), default=9, show_default=True, metavar='N', help='Number of images to draw.'
)
@click.option(
    '--model',
    type=click.Choice(tuple(MODELS)),
    default='tiny',
    show_default=True,
    help='Model whose augmentation is used in stages 1 and 2, unless DATA is a config; with ins-, masks are drawn.',
)
@click.option('--seed', type=int, default=0, show_default=True, metavar='N', help='Seed of the choice of images.')
@cfg_options
def command(data, out, stage, split, count, model, seed, changes) -> None:
    """Draw images of DATA with their boxes, as they are or as they are augmented for the training.

    DATA is a folder, a data.yaml, an annotation file or a config, as for rtmdet train. Boxes have the colour of their
    class; boxes that training ignores are grey. Masks are drawn for a model that predicts them.
    """
    if split != 'train' and stage != 'data':
        raise click.UsageError(f'--split must be train with --stage {stage}, got {split}')
    source = read_argument(data, changes)
    # Import rtmdet_plugin first: its error names the missing package of PyTorch or OpenMMLab.
    from rtmdet_plugin.datasets.preview import grid, image_files, training_set
    from rtmdet_plugin.doctor.browse import draw_data, draw_stage, image_paths
    from rtmdet_plugin.doctor.config_data import read_config_data
    from rtmdet_plugin.doctor.page import BEGINNING, page_of_pictures
    from rtmdet_plugin.doctor.training_config import wants_masks
    from rtmdet_plugin.training.formats.find_format import read_all
    from rtmdet_runtime.drawing import check_image, write_image
    from rtmdet_runtime.output import check_output, input_files, write_result

    if isinstance(source, str):
        dataset = read_all(Path(source))
    elif stage == 'data':
        dataset = read_config_data(source, (split,))
    else:  # its datasets may have any format
        dataset = None
    inputs = {}
    if out.exists():
        inputs = input_files(image_paths(dataset) if dataset else image_files(training_set(source, int(stage))))
    if out.suffix == PAGE:
        check_output(out, inputs, (PAGE,), BEGINNING)
    else:
        check_image(out, inputs, (*IMAGES, PAGE))
    if dataset is not None and stage == 'data':
        pictures = draw_data(dataset, split, count, seed, wants_masks(source, model))
    else:
        pictures = draw_stage(dataset or source, model, int(stage), count, seed)
    if out.suffix == PAGE:
        write_result(out, page_of_pictures(f'rtmdet browse: {data}, stage {stage}', pictures))
    else:
        write_image(out, grid([picture.image for picture in pictures]))
    what = f'images of {split}' if stage == 'data' else f'samples of stage {stage}'
    click.echo(f'{click.format_filename(out)}: {len(pictures)} {what}')
