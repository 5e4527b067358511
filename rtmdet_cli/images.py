"""List and read the images that are named on the command line, and report those that can't be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtmdet_runtime import image_files
from rtmdet_runtime.messages import one_line

if TYPE_CHECKING:
    from rtmdet_runtime.image import Image


def list_images(paths: list[Path]) -> list[Path]:
    """Return files unchanged, and the images in folders, sorted by name.

    Raises:
        ValueError: if a folder has no images.
    """
    images = []
    for path in paths:
        found = image_files.list_images(path) if path.is_dir() else [path]
        if not found:
            endings = ', '.join(sorted(image_files.ENDINGS))
            raise ValueError(f'{path} must be a folder with images ({endings}), got none')
        images += found
    return images


def read_images(paths: Iterable[Path], bad: list[str]) -> Iterator[tuple[Path, Image]]:
    """Yield the images that can be read, with their paths.

    Args:
        paths: image files.
        bad: a line is appended for each image that can't be read.
    """
    from rtmdet_runtime.image import read_image

    for path in paths:
        try:
            yield path, read_image(path)
        except (OSError, ValueError) as error:
            bad.append(one_line(error))


def list_bad(bad: list[str], total: int, done: str) -> None:
    """List bad images on standard error; if there are any, end the command with exit code 1.

    Args:
        bad: one line per bad image.
        total: number of images, bad ones included.
        done: what was done with the other images.

    Raises:
        click.ClickException: if there are bad images.
    """
    for line in bad:
        click.echo(line, err=True)
    if bad:
        raise click.ClickException(f'bad images: {len(bad)} of {total}, listed above; {done}')
