"""Names of the outputs of images, each its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..sources.item import Item, Video


class OutputNames:
    """Give each image a relative path of its own: `a.jpg`, and `a_2.jpg` for another `a.jpg` or `a.png`.

    Names differ without their ending, because label files have another one. For a million images, the names that are
    taken need about 60 MB. An image that is named like a frame of a video, and the video, differ too.

    Args:
        reserved: names without ending that no image gets.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = {_key(Path(name)) for name in reserved}
        self._videos: set[int] = set()
        self._like_frames: set[int] = set()  # X for images named X_000001
        self._next: dict[int, int] = {}  # the number for the next image of a name
        self._video: Video | None = None
        self._of_video = Path()

    def of(self, item: Item) -> Path:
        """Return the path for the outputs of an image; all frames of a video have the same."""
        if item.video is not None and item.video is self._video:
            return self._of_video
        path, wanted = item.output, _key(item.output)
        while self._clashes(path, item):
            number = self._next.get(wanted, 2)
            self._next[wanted] = number + 1
            path = item.output.with_name(f'{item.output.stem}_{number}{item.output.suffix}')
        self._taken.add(_key(path))
        if item.video is not None:
            self._videos.add(_key(path))
        elif video := _video_of(path):
            self._like_frames.add(video)
        self._video, self._of_video = item.video, path
        return path

    def _clashes(self, path: Path, item: Item) -> bool:
        if _key(path) in self._taken:
            return True
        return _video_of(path) in self._videos if item.video is None else _key(path) in self._like_frames


def _video_of(path: Path) -> int | None:
    """Return the key of the video that an image is named like a frame of, see `of_frame`."""
    match = re.fullmatch(r'(.+)_\d{6,}', path.stem)
    return None if match is None else _key(path.with_name(match[1] + path.suffix))


def _key(path: Path) -> int:
    return hash(str(path.with_suffix('')))


def of_frame(output: Path, item: Item) -> Path:
    """Return the path for a file about one image: for frames with their number."""
    return output if item.video is None else output.with_name(f'{output.stem}_{item.frame:06d}.jpg')
