"""The verb `rtmdet predict`: what an exported model finds in pictures, as text, JSON or drawn. PyTorch isn't needed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import cv2
import numpy as np

from .backends import BACKENDS
from .detector import Detections, RTMDetector
from .image import Image, read_image
from .output import check_writable, write_json, write_whole

IMAGE_ENDINGS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
THREADS = click.IntRange(1, 1024)
"""A backend starts as many as it is told, up to the last byte of memory."""

# Options of the verbs that run an exported model.
backend_option = click.option('--backend', type=click.Choice(list(BACKENDS)), help="Default: by the model's ending.")
size_option = click.option(
    '--size',
    type=int,
    nargs=2,
    metavar='H W',
    help="Scale pictures to, for a model with a dynamic size. Default: the model's own.",
)
threads_option = click.option('--threads', type=THREADS, metavar='N', help="Default: the backend's.")


def list_images(paths: list[Path]) -> list[Path]:
    """Files as they are, and the pictures of folders by name.

    Raises:
        ValueError: for a folder without pictures.
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


def label_colour(label: int) -> tuple[int, int, int]:
    """A bright colour (BGR), as far from those of the labels before as the golden ratio brings it."""
    hue = int(180 * (label * 0.618034 % 1))
    return tuple(cv2.cvtColor(np.array([[[hue, 220, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist())


def draw(image: Image, detections: Detections, classes: tuple[str, ...]) -> Image:
    """A copy of a picture with boxes, names and scores."""
    image = image.copy()
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        x1, y1, x2, y2 = (int(value) for value in np.round(box))
        colour = label_colour(label)
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2)
        text = f'{classes[label]} {score:.2f}'
        cv2.putText(image, text, (x1, max(y1 - 4, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return image


def check_drawn(paths: list[Path], folder: Path) -> None:
    """Refuse drawn pictures that can't be written, or would take the place of a picture or of each other.

    Raises:
        ValueError: it names the file.
        OSError: where the folder can't be written to.
    """
    check_writable(folder / paths[0].name)
    taken = {}
    for path in paths:
        if not path.suffix or not cv2.haveImageWriter(f'x{path.suffix}'):
            raise ValueError(
                f'--out {folder}: {path} would keep its name, and OpenCV writes no picture that ends in '
                f'{path.suffix or "nothing"}; accepted: {", ".join(IMAGE_ENDINGS)} and what else it writes'
            )
        target = folder / path.name
        if target.resolve() == path.resolve():
            raise ValueError(f'--out {folder}: {path} would be drawn over; accepted: another folder')
        if taken.setdefault(target, path) != path:
            raise ValueError(
                f'--out {folder}: {taken[target]} and {path} have one name; accepted: one folder at a time'
            )


def write_image(path: Path, image: Image) -> None:
    """Write a picture in the format of its ending, whole or not at all.

    Raises:
        ValueError: where the format doesn't take it, such as for its size.
        OSError: where the file can't be written.
    """
    try:
        encoded, content = cv2.imencode(path.suffix, image)
    except cv2.error:
        encoded = False
    if not encoded:
        raise ValueError(f'{path}: OpenCV does not write a picture of {image.shape[:2]} (height, width) in this format')
    write_whole(path, content.tobytes())


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
    help='Folder for copies of the pictures with boxes drawn, under their names.',
)
@click.option(
    '--json', 'json_file', type=click.Path(path_type=Path), metavar='FILE', help='File for boxes, scores and classes.'
)
@backend_option
@size_option
@click.option(
    '--batch-size',
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar='N',
    help='Pictures that the network gets at once.',
)
@threads_option
def command(model, images, score_thr, out, json_file, backend, size, batch_size, threads) -> None:
    """Find objects in IMAGES, files or folders, with an exported MODEL (.onnx, .xml, .param, .engine).

    Each picture is a line with what is in it. Without PyTorch.

    An image with more than 180 million pixels is refused; the environment variable RTMDET_MAX_PIXELS sets another
    limit. Decoding takes 6 bytes of memory per pixel and more: 1.1 GB at this limit.
    """
    if not 0 <= score_thr <= 1:
        raise ValueError(f'--score-thr {score_thr}; accepted: 0 to 1')
    paths = list_images(list(images))
    if out is not None:
        check_drawn(paths, out)
    if json_file is not None:
        check_writable(json_file)
    detector = RTMDetector(model, backend=backend, size=size, threads=threads)
    classes = detector.info.classes
    records = []
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        pictures = [read_image(path) for path in batch]
        for path, picture, detections in zip(batch, pictures, detector.predict(pictures, batch_size), strict=True):
            shown = detections.above(score_thr)
            counts = Counter(classes[label] for label in shown.labels)
            found = ', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing'
            click.echo(f'{click.format_filename(path)}: {found}')
            boxes, scores = shown.boxes.round(2).tolist(), shown.scores.round(4).tolist()
            names = [classes[label] for label in shown.labels]
            records.append(dict(image=str(path), boxes=boxes, scores=scores, classes=names))
            if out is not None:
                write_image(out / path.name, draw(picture, shown, classes))
    if json_file is not None:
        write_json(json_file, records)
