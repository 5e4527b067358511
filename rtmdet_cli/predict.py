"""The command `rtmdet predict`: find objects in images; print, draw or write them as JSON, without PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtmdet_runtime.choices import DEPLOY_THRESHOLDS
from rtmdet_runtime.image_files import UNSUPPORTED
from rtmdet_runtime.messages import one_line
from rtmdet_runtime.output import STDOUT, check_json, input_files, write_json

from .images import list_bad, list_images, read_images
from .options import backend_option, batch_size_option, precision_option, size_option, threads_option

if TYPE_CHECKING:
    from rtmdet_runtime.detector import Detections, RTMDetector
    from rtmdet_runtime.image import Image

RECORDS = r'\[\s*(\]|\{\s*"image"\s*:\s*"(\\.|[^"\\])*"\s*,\s*"boxes"\s*:)'
"""Pattern of the beginning of the JSON file of `predict`; CreateML's labels have `annotations` after `image`."""


def record(path: Path, found: Detections, classes: tuple[str, ...]) -> dict:
    """Return the detections of an image for JSON: boxes in pixels with 2 decimals, scores with 4."""
    # float64, because a rounded float32 would have many decimals in JSON; + 0.0 turns -0.0 into 0.0.
    boxes, scores = (
        values.astype(float).round(places) + 0.0 for values, places in ((found.boxes, 2), (found.scores, 4))
    )
    names = [classes[label] for label in found.labels]
    return dict(image=str(path), boxes=boxes.tolist(), scores=scores.tolist(), classes=names)


def predict(
    detector: RTMDetector, paths: list[Path], batch_size: int, bad: list[str]
) -> Iterator[tuple[Path, Image, Detections]]:
    """Yield path, image and detections of each image that can be read; see `read_images`."""
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
    type=float,
    metavar='0..1',
    help=f"Score threshold. Default: the model's, {DEPLOY_THRESHOLDS['score_thr']} unless exported otherwise.",
)
@click.option(
    '--out',
    type=click.Path(path_type=Path),
    metavar='FOLDER',
    help='Folder to write copies of the images to, with boxes drawn on them.',
)
@click.option(
    '--json',
    'json_file',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help='File (.json) to write boxes, scores and classes to; - for standard output.',
)
@backend_option
@size_option
@batch_size_option
@threads_option
@precision_option
def command(model, images, score_thr, out, json_file, backend, size, batch_size, threads, precision) -> None:
    """Find objects in IMAGES, files or folders, with an exported MODEL (.onnx, .xml, .param, .engine).

    For each image, a line with the number of objects of each class is printed. PyTorch isn't needed. Images that can't
    be read are skipped and listed at the end; the exit code is then 1.

    Images with more than 180 million pixels are refused; the environment variable RTMDET_MAX_PIXELS sets another limit.
    Decoding takes at least 6 bytes of memory per pixel, 1.1 GB at this limit.
    """
    if score_thr is not None and not 0 <= score_thr <= 1:
        raise ValueError(f'--score-thr must be from 0 to 1, got {score_thr}')
    paths = list_images(list(images))
    inputs = input_files([model, *paths])
    if json_file is not None:
        check_json(json_file, inputs, RECORDS)
    from rtmdet_runtime.detector import RTMDetector
    from rtmdet_runtime.drawing import check_drawn, draw, write_image

    if out is not None:
        check_drawn([path for path in paths if path.suffix.lower() not in UNSUPPORTED], out, inputs)
    settings = dict(backend=backend, size=size, threads=threads, precision=precision)
    detector = RTMDetector(model, score_thr=score_thr, **settings)
    classes = detector.info.classes
    say = partial(click.echo, err=json_file == STDOUT)
    records, bad, complete = [], [], False
    try:
        for path, image, detections in predict(detector, paths, batch_size, bad):
            counts = Counter(classes[label] for label in detections.labels)
            found = ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'
            say(f'{click.format_filename(path)}: {found}')
            records.append(record(path, detections, classes))
            if out is not None:
                try:
                    write_image(out / path.name, draw(image, detections))
                except ValueError as error:
                    bad.append(one_line(error))
        complete = True
    finally:  # after Ctrl-C or on a full disk, write what was found so far
        if json_file is not None and (complete or records):
            write_json(json_file, records)
            if not complete:
                click.echo(f'{json_file} contains only {len(records)} of {len(paths)} images', err=True)
    list_bad(bad, len(paths), f'{len(records)} were predicted')
