"""The verb `rtmdet predict`: what an exported model finds in pictures, as text, JSON or drawn. PyTorch isn't needed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click
import cv2
import numpy as np

from .backends import BACKENDS
from .detector import Detections, RTMDetector
from .image import Image, read_image

IMAGE_ENDINGS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


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


def draw(image: Image, detections: Detections, classes: tuple[str, ...]) -> Image:
    """A copy of a picture with boxes, names and scores."""
    image = image.copy()
    for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
        x1, y1, x2, y2 = (int(value) for value in np.round(box))
        hue = int(180 * (label * 0.618034 % 1))  # far from those of the labels before
        colour = cv2.cvtColor(np.array([[[hue, 220, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0].tolist()
        cv2.rectangle(image, (x1, y1), (x2, y2), colour, 2)
        text = f'{classes[label]} {score:.2f}'
        cv2.putText(image, text, (x1, max(y1 - 4, 10)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return image


def check_drawn(paths: list[Path], folder: Path) -> None:
    """Refuse drawn pictures that would take the place of a picture, or of each other.

    Raises:
        ValueError: it names the file.
    """
    taken = {}
    for path in paths:
        target = folder / path.name
        if target.resolve() == path.resolve():
            raise ValueError(f'--out {folder}: {path} would be drawn over; accepted: another folder')
        if taken.setdefault(target, path) != path:
            raise ValueError(
                f'--out {folder}: {taken[target]} and {path} have one name; accepted: one folder at a time'
            )


@click.command('predict')
@click.argument('model', type=click.Path(path_type=Path))
@click.argument('images', type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option('--score-thr', default=0.3, show_default=True, help='Show boxes with a score above it.')
@click.option('--out', type=click.Path(path_type=Path), help='Folder for the pictures with boxes drawn.')
@click.option('--json', 'json_file', type=click.Path(path_type=Path), help='File for boxes, scores and classes.')
@click.option('--backend', type=click.Choice(list(BACKENDS)), help="Default: by the file's ending.")
@click.option('--size', type=int, nargs=2, metavar='H W', help='Scale pictures to; for models with a dynamic size.')
@click.option('--batch-size', default=1, show_default=True, help='Pictures that the network gets at once.')
@click.option('--threads', type=click.IntRange(1), help="Default: the backend's.")
def command(model, images, score_thr, out, json_file, backend, size, batch_size, threads) -> None:
    """Find objects in IMAGES, files or folders, with an exported MODEL (.onnx, .xml, .param, .engine)."""
    paths = list_images(list(images))
    if out is not None:
        check_drawn(paths, out)
    detector = RTMDetector(model, backend=backend, size=size, threads=threads)
    classes = detector.info.classes
    records = []
    for start in range(0, len(paths), max(batch_size, 1)):
        batch = paths[start : start + max(batch_size, 1)]
        pictures = [read_image(path) for path in batch]
        for path, picture, detections in zip(batch, pictures, detector.predict(pictures, batch_size), strict=True):
            shown = detections.above(score_thr)
            counts = Counter(classes[label] for label in shown.labels)
            click.echo(f'{path}: {", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"}')
            boxes, scores = shown.boxes.round(2).tolist(), shown.scores.round(4).tolist()
            names = [classes[label] for label in shown.labels]
            records.append(dict(image=str(path), boxes=boxes, scores=scores, classes=names))
            if out is not None:
                out.mkdir(parents=True, exist_ok=True)
                cv2.imencode(path.suffix, draw(picture, shown, classes))[1].tofile(out / path.name)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(records, indent=1) + '\n')
