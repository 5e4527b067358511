"""Write copies of images and videos with boxes drawn on them, and crops."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import cv2

from ..detections import Detections
from ..drawing import draw, write_image
from ..image import Image
from ..sources.item import Item, Video
from .names import of_frame
from .targets import Inputs


class DrawnFiles:
    """Write each image, and each video, with its boxes; see `Writer`.

    Args:
        folder: folder to write to.
        inputs: what the command reads, which isn't replaced.

    Attributes:
        removed: the last video if `stop` has removed it, because it wasn't complete.
    """

    def __init__(self, folder: Path, inputs: Inputs) -> None:
        self.folder, self.inputs = folder, inputs
        self.removed: Path | None = None
        self._target = Path()
        self._source: Video | None = None
        self._video: contextlib.ExitStack | None = None

    def write(self, item: Item, found: Detections, output: Path) -> None:
        """Write an image, or append a frame to its video; see `Writer`."""
        image = draw(item.image, found)
        if item.video is None:
            self.finish()
            write_checked(self.folder / with_image_ending(output, item), image, self.inputs, item.source)
            return
        if item.video is not self._source:
            self.finish()
            self._source = item.video  # before the checks, so that a video is refused once and not for each frame
            from .video import check_video, video_file, with_video_ending

            self._target, self.removed = self.folder / with_video_ending(output), None
            check_video(self._target, self.inputs, item.source)
            with contextlib.ExitStack() as stack:
                self._append = stack.enter_context(video_file(self._target, item.video))
                self._video = stack.pop_all()
        if self._video is not None:
            try:
                self._append(image, item.pts)
            except ValueError:
                self.stop()
                self._source = item.video
                raise

    def finish(self) -> None:
        """Complete the current video."""
        video, self._source, self._video = self._video, None, None
        if video is not None:
            video.close()

    def stop(self) -> None:
        """Remove the current video, or complete a live one, which can't be read again."""
        video, source, self._source, self._video = self._video, self._source, None, None
        if video is None:
            return
        if source is not None and source.live:
            with contextlib.suppress(OSError, ValueError):  # the first error is the one to report
                video.close()
        else:
            video.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
            self.removed = self._target


class Crops:
    """Write the part of the image in each box to `CLASS/IMAGE_NUMBER.ENDING`; see `Writer`.

    Args:
        folder: folder to write to.
        inputs: what the command reads, which isn't replaced.
    """

    def __init__(self, folder: Path, inputs: Inputs) -> None:
        self.folder, self.inputs = folder, inputs

    def write(self, item: Item, found: Detections, output: Path) -> None:
        """Write the crops of an image; see `Writer`."""
        output = with_image_ending(of_frame(output, item), item)
        for number, (crop, name) in enumerate(zip(found.crops(), found.names, strict=True), 1):
            folder = self.folder / (re.sub(r'[^\w -]+', '_', name).strip() or '_') / output.parent
            write_checked(folder / f'{output.stem}_{number}{output.suffix}', crop, self.inputs, item.source)

    def finish(self) -> None:
        """Do nothing: all files are complete."""

    def stop(self) -> None:
        """Do nothing: all files are complete."""


def with_image_ending(output: Path, item: Item) -> Path:
    """Return the path of an image, as `.jpg` if it isn't a file whose ending OpenCV can write."""
    if item.file is None and not (output.suffix and cv2.haveImageWriter(f'x{output.suffix}')):
        return output.with_suffix('.jpg')
    return output


def write_checked(path: Path, image: Image, inputs: Inputs, source: str) -> None:
    """Write an image; see `Inputs.check_target` and `write_image`."""
    if path.exists():
        inputs.check_target(path, source)
    write_image(path, image)
