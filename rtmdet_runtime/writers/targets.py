"""Check that drawn images replace neither an input nor another file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from ..atomic_files import check_writable
from ..drawing import check_image
from ..image_files import is_image
from ..output import InputFiles
from ..sources import is_video
from ..sources.folders import outputs_in


@dataclass(frozen=True)
class Inputs:
    """What a command reads.

    Attributes:
        files: files that it names; see `input_files`.
        folders: folders that it names, whose images are inputs.
        recursive: whether the images in their subfolders are inputs too.
        outputs: folders that it writes to, which aren't read; see `outputs_in`.
    """

    files: InputFiles
    folders: Sequence[Path] = ()
    recursive: bool = False
    outputs: Sequence[Path] = ()

    def check_target(self, path: Path, source: str = '') -> None:
        """Check that an image can be written to a path.

        Args:
            path: the file to write.
            source: file that the image is from; not a file for addresses and arrays.

        Raises:
            ValueError: if it would replace an input, or a file that `write_image` did not write.
            OSError: see `check_image`.
        """
        self.check_no_input(path, source)
        check_image(path, self.files, (path.suffix,))

    def check_no_input(self, path: Path, source: str = '') -> None:
        """Raise a `ValueError` if a path is that of `source` or of an image in one of the folders."""
        if path.exists() and source and os.path.exists(source) and path.samefile(source):
            raise ValueError(f'{path} would replace the input {source}; choose another name')
        if not path.is_file() or not is_image((actual := path.resolve()).name):
            return
        for folder in self.folders:
            place = folder.resolve()
            if not outputs_in(folder, self.outputs).isdisjoint(actual.parents):
                continue
            if actual.parent == place or self.recursive and place in actual.parents:
                raise ValueError(
                    f'{path} would replace the input {folder / actual.relative_to(place)}; choose another name'
                )


def check_drawn(sources: Iterable[str], out: Path, inputs: Inputs) -> None:
    """Check, before anything is computed, that the files among sources can be drawn to a folder.

    Those in folders and patterns may be many; each one is checked when it is written.

    Args:
        sources: what the command reads.
        out: folder of the drawn images and videos.
        inputs: what the command reads.

    Raises:
        ValueError: if the name of an image has no ending that OpenCV can write.
        ValueError, OSError: see `check_writable`, `Inputs.check_target` and `check_video`.
        ImportError: if the package for videos isn't installed.
    """
    check_writable(out / 'image')  # the folder itself
    for source in sources:
        path = Path(source)
        if not path.is_file():
            continue
        if is_video(source):
            from .video import check_video, with_video_ending

            check_video(out / with_video_ending(Path(path.name)), inputs, source)
            continue
        if not path.suffix or not cv2.haveImageWriter(f'x{path.suffix}'):
            raise ValueError(
                f'--out {out}: the name of {path} must end in .bmp, .jpg, .png, .tif, .webp or another ending that '
                f'OpenCV can write, got {path.suffix or "no ending"}; rename the image'
            )
        inputs.check_target(out / path.name, source)
