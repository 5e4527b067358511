"""What a source gives: images with their origin, and problems."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..image import Image
from ..messages import one_line


@dataclass(frozen=True)
class Video:
    """A video or a camera; all of its frames refer to the same object.

    Attributes:
        rate: frames per second; if it varies, the average.
        time_base: unit of `Item.pts` in seconds.
        live: whether it is a camera or a stream, which can't be read again.
    """

    rate: Fraction
    time_base: Fraction
    live: bool = False


@dataclass(frozen=True)
class Item:
    """An image or a frame of a video.

    Attributes:
        image: BGR, uint8. (H, W, 3)
        source: file or address of the image or video; '' for an array.
        output: relative path for its outputs: the name of the file, and its folders below a folder that was given.
            Frames have that of their video.
        file: file of the image; None if it isn't one.
        video: the video that the frame is from; None for an image.
        frame: number of the frame in its video, from 0.
        pts: time of the frame, in units of the video's `time_base`.
    """

    image: Image
    source: str
    output: Path
    file: Path | None = None
    video: Video | None = None
    frame: int = 0
    pts: int = 0


@dataclass(frozen=True)
class Problem:
    """An image that can't be read, or a damaged video; the error is for the user."""

    error: Exception

    def __post_init__(self) -> None:
        """Drop what refers to local variables, such as the content of a file."""
        self.error.__traceback__ = self.error.__context__ = None

    @property
    def line(self) -> str:
        """The error's message as one line."""
        return one_line(self.error)
