"""The command `rtmdet predict`: what an exported model finds in images, as text, JSON or drawn. PyTorch isn't needed.

What other commands have in common with it is here as well. NumPy and OpenCV are imported when a command runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .backends import BACKENDS, THREAD_COUNTS
from .messages import one_line
from .output import STDOUT, check_json, input_files, write_json

if TYPE_CHECKING:
    from .detector import Detections, RTMDetector
    from .image import Image

RECORDS = r'\[\s*(\]|\{\s*"image"\s*:)'
"""Beginning of the JSON file of `predict`."""
IMAGE_ENDINGS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
THREADS = click.IntRange(*THREAD_COUNTS)

# Options of the commands that run an exported model.
backend_option = click.option('--backend', type=click.Choice(list(BACKENDS)), help="Default: by the model's ending.")
size_option = click.option(
    '--size',
    type=int,
    nargs=2,
    metavar='H W',
    help="Scale images to, for a model with a dynamic size. Default: the model's own.",
)
threads_option = click.option('--threads', type=THREADS, metavar='N', help="Default: the backend's.")


def list_images(paths: list[Path]) -> list[Path]:
    """Return files as they are, and the images of folders by name.

    Raises:
        ValueError: for a folder without images.
    """
    images = []
    for path in paths:
        if not path.is_dir():
            images.append(path)
            continue
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_ENDINGS)
        if not found:
            raise ValueError(f'{path}: a folder without images ({", ".join(IMAGE_ENDINGS)})')
        images += found
    return images


def read_images(paths: Iterable[Path], bad: list[str]) -> Iterator[tuple[Path, Image]]:
    """Read those of the images that can be read.

    Args:
        paths: of the images.
        bad: a line is appended for each image that can't be read.
    """
    from .image import read_image

    for path in paths:
        try:
            yield path, read_image(path)
        except (OSError, ValueError) as error:
            bad.append(one_line(error))


def list_bad(bad: list[str], total: int, done: str) -> None:
    """List bad images on standard error, and end the command with exit code 1 if there are any.

    Args:
        bad: a line for each.
        total: number of images, bad ones included.
        done: what was done in spite of them.

    Raises:
        click.ClickException: if there are any.
    """
    for line in bad:
        click.echo(line, err=True)
    if bad:
        raise click.ClickException(f'bad images: {len(bad)} of {total}, listed above; {done}')


def record(path: Path, found: Detections, classes: tuple[str, ...]) -> dict:
    """Return detections for JSON: pixels with 2 decimals, scores with 4."""
    # float64, because the decimals of a float32 are no short numbers; + 0.0 turns -0.0 into 0.0.
    boxes, scores = (
        values.astype(float).round(places) + 0.0 for values, places in ((found.boxes, 2), (found.scores, 4))
    )
    names = [classes[label] for label in found.labels]
    return dict(image=str(path), boxes=boxes.tolist(), scores=scores.tolist(), classes=names)


def predict(
    detector: RTMDetector, paths: list[Path], batch_size: int, bad: list[str]
) -> Iterator[tuple[Path, Image, Detections]]:
    """Find objects in the images that can be read; see `read_images`."""
    for start in range(0, len(paths), batch_size):
        batch = list(read_images(paths[start : start + batch_size], bad))
        found = detector.predict([image for _, image in batch], batch_size)
        for (path, image), detections in zip(batch, found, strict=True):
            yield path, image, detections


@click.command('predict')
@click.argument('model', type=click.Path(path_type=Path))
@click.argument('images', type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    '--score-thr',
    default=0.3,
    show_default=True,
    metavar='0..1',
    help='Show boxes with a higher score, of those above the threshold in the model.',
)
@click.option(
    '--out',
    type=click.Path(path_type=Path),
    metavar='FOLDER',
    help='Folder for copies of the images with boxes drawn, under their names.',
)
@click.option(
    '--json',
    'json_file',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.json) for boxes, scores and classes; - for standard output.',
)
@backend_option
@size_option
@click.option(
    '--batch-size',
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar='N',
    help='Images that the network gets at once.',
)
@threads_option
def command(model, images, score_thr, out, json_file, backend, size, batch_size, threads) -> None:
    """Find objects in IMAGES, files or folders, with an exported MODEL (.onnx, .xml, .param, .engine).

    Each image is a line with what is in it. PyTorch isn't needed. Images that can't be read are left out and listed at
    the end; the exit code is 1 then.

    An image with more than 180 million pixels is refused; the environment variable RTMDET_MAX_PIXELS sets another
    limit. Decoding takes 6 bytes of memory per pixel and more: 1.1 GB at this limit.
    """
    if not 0 <= score_thr <= 1:
        raise ValueError(f'--score-thr {score_thr}; accepted: 0 to 1')
    paths = list_images(list(images))
    inputs = input_files([model, *paths])
    if json_file is not None:
        check_json(json_file, inputs, RECORDS)
    from .detector import RTMDetector
    from .drawing import check_drawn, draw, write_image

    if out is not None:
        check_drawn(paths, out, inputs)
    detector = RTMDetector(model, backend=backend, size=size, threads=threads)
    classes = detector.info.classes
    say = partial(click.echo, err=json_file == STDOUT)
    records, bad, complete = [], [], False
    try:
        for path, image, detections in predict(detector, paths, batch_size, bad):
            shown = detections.above(score_thr)
            counts = Counter(classes[label] for label in shown.labels)
            found = ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'
            say(f'{click.format_filename(path)}: {found}')
            records.append(record(path, shown, classes))
            if out is not None:
                try:
                    write_image(out / path.name, draw(image, shown, classes))
                except ValueError as error:
                    bad.append(one_line(error))
        complete = True
    finally:  # after Ctrl-C or on a full disk, what was found so far
        if json_file is not None and (complete or records):
            write_json(json_file, records)
            if not complete:
                click.echo(f'{json_file}: {len(records)} of {len(paths)} images', err=True)
    list_bad(bad, len(paths), f'{len(records)} were predicted')
