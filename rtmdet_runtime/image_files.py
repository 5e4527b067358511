"""Find image files by their endings."""

from __future__ import annotations

import os
from pathlib import Path

ENDINGS = frozenset(('.avif', '.bmp', '.gif', '.jp2', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp'))
UNSUPPORTED = frozenset(('.heic', '.heif'))
"""Endings of images that OpenCV can't decode; they are found, so that they can be reported."""


def is_image(name: str) -> bool:
    """Return whether a file name has the ending of an image."""
    return os.path.splitext(name)[1].lower() in ENDINGS | UNSUPPORTED


def list_images(folder: Path, recursive: bool = False) -> list[Path]:
    """Return the images in a folder, sorted; hidden files and folders are skipped."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith('.')) if recursive else []
        found += [Path(place, name) for name in sorted(names) if is_image(name) and not name.startswith('.')]
    return found
