"""Read images from everything that people have: files, folders, patterns, videos, cameras, addresses and memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ..image import decode_image, read_image
from .folders import images_in, is_pattern, matches, root_of
from .item import Item, Problem
from .memory import holds_one, images_in_memory, is_in_memory

VIDEOS = frozenset(
    ('.3gp', '.avi', '.flv', '.m2ts', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.mts', '.ogv', '.ts', '.webm')
    + ('.wmv', '.y4m')
)
"""Endings of videos."""
ARCHIVES = frozenset(['.7z', '.bz2', '.gz', '.rar', '.tar', '.tgz', '.xz', '.zip', '.zst'])
"""Endings of archives, which are refused before they are read."""
WEB = ('http://', 'https://')
STREAMS = ('rtsp://', 'rtsps://', 'rtmp://', 'rtmps://', 'udp://', 'tcp://', 'srt://')
"""Beginnings of addresses of live videos, which FFmpeg opens."""

LONGEST_NAME = 255
"""Maximum length of the name of a file or folder in bytes."""

Source = Any
"""A path, pattern, address or camera number; an array, PIL image or tensor; or an iterable of these."""


def is_one_image(source: Source) -> bool:
    """Return whether a source is a single image, as far as its name tells."""
    if is_in_memory(source):
        return holds_one(source)
    if not isinstance(source, (str, Path)):
        return False
    name = str(source)
    several = is_camera(name) or name.startswith(STREAMS) or is_video(name) or is_pattern(name)
    return not several and not Path(name).is_dir()


def is_camera(name: str) -> bool:
    """Return whether a name is the number of a camera, and no existing file."""
    return name.isdecimal() and not Path(name).exists()


def is_video(name: str) -> bool:
    """Return whether a file or address has the ending of a video."""
    path = urlsplit(name).path if name.startswith(WEB) else name
    return Path(path).suffix.lower() in VIDEOS


def read_sources(
    sources: Iterable[Source], every: int = 1, recursive: bool = False, outputs: Sequence[Path] = ()
) -> Iterator[Item | Problem]:
    """Yield the images and frames of several sources in their order; a list is a source too.

    An image that can't be read, or a damaged video, gives a `Problem`, and the others are read; so does a source that
    can't be read, unless it is the only one.

    Args:
        sources: see `Source`.
        every: read only every N-th frame of videos and cameras.
        recursive: read the subfolders of folders too.
        outputs: folders that results are written to, which are skipped in folders and patterns.

    Raises:
        ValueError: if the only source can't have images: an empty folder, a pattern without files; if a source has
            another type.
        OSError: if the only source, a folder or a camera, can't be read.
        ImportError: if a package for videos isn't installed.
    """
    only = isinstance(sources, Sized) and len(sources) == 1
    for source in sources:
        try:
            yield from read_source(source, every, recursive, outputs)
        except (OSError, ValueError) as error:
            if only or not isinstance(source, (str, Path, int)):
                raise
            yield Problem(error)


def read_source(source: Source, every: int, recursive: bool, outputs: Sequence[Path]) -> Iterator[Item | Problem]:
    """Yield the images and frames of one source; see `read_sources`."""
    if is_in_memory(source):
        for image in images_in_memory(source):
            yield Item(image, '', Path('image.png'))
    elif isinstance(source, int):
        yield from read_camera_number(source, every)
    elif isinstance(source, (str, Path)):
        yield from read_name(str(source), every, recursive, outputs)
    elif isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray)):
        yield from read_sources(source, every, recursive, outputs)
    else:
        raise ValueError(
            'source must be a path, pattern, address, camera number, array, PIL image, tensor or a list of these, '
            f'got {type(source).__name__}'
        )


def read_name(name: str, every: int, recursive: bool, outputs: Sequence[Path]) -> Iterator[Item | Problem]:
    """Yield the images and frames of a path, a pattern, an address or a camera number; see `read_sources`."""
    if not name.startswith((*WEB, *STREAMS)) and any(
        len(os.fsencode(part)) > LONGEST_NAME for part in Path(name).parts
    ):
        raise ValueError(f'the name of a file must have at most {LONGEST_NAME} bytes, got {name[:60]}...')
    path = Path(name)
    if is_camera(name):
        yield from read_camera_number(int(name), every)
    elif name.startswith(STREAMS):
        from .video import read_video

        shown = without_user(name)
        yield from read_video(name, shown, Path(re.sub(r'[^\w.-]+', '_', shown.partition('//')[2]) + '.mp4'), every)
    elif name.startswith(WEB):
        yield from read_address(name, every)
    elif path.is_dir():
        for file in images_in(path, recursive, outputs):
            yield file if isinstance(file, Problem) else read_file(file, file.relative_to(path))
    elif is_pattern(name):
        root = root_of(name)
        for file in matches(name, outputs):
            yield from read_path(file, file.relative_to(root), every)
    else:
        yield from read_path(path, Path(path.name), every)


def read_camera_number(number: int, every: int) -> Iterator[Item]:
    """Yield the frames of a camera."""
    from .camera import read_camera

    yield from read_camera(number, every)


def read_path(path: Path, output: Path, every: int) -> Iterator[Item | Problem]:
    """Yield the image or the frames in a file."""
    if path.suffix.lower() in ARCHIVES:
        yield Problem(ValueError(f'{path} must be an image, a video or a folder, got an archive; unpack it first'))
    elif is_video(str(path)):
        from .video import read_video

        yield from read_video(str(path), str(path), output, every)
    else:
        yield read_file(path, output)


def read_file(path: Path, output: Path) -> Item | Problem:
    """Return the image in a file."""
    try:
        return Item(read_image(path), str(path), output, path)
    except (OSError, ValueError) as error:
        return Problem(error)


def without_user(address: str) -> str:
    """Return an address without its user and password."""
    return re.sub('(?<=//)[^/?#]*@', '', address)


def read_address(address: str, every: int) -> Iterator[Item | Problem]:
    """Yield the image or the frames at an http(s) address, which is downloaded to a temporary file."""
    from .web import downloaded

    try:
        if without_user(address) != address:
            raise ValueError(f'{without_user(address)} must be given without user and password, got them')
        output = Path(Path(unquote(urlsplit(address).path)).name or 'image.jpg')
        with downloaded(address) as file:
            if is_video(address):
                from .video import read_video

                yield from read_video(file, address, output, every)
            else:
                image = decode_image(file.read(), address)
                yield Item(image, address, output if output.suffix else output.with_suffix('.jpg'))
    except (OSError, ValueError) as error:
        yield Problem(error)
