"""Names of the outputs of images, each its own."""

from __future__ import annotations

from pathlib import Path

from ..sources.item import Item, Video


class OutputNames:
    """Give each image a relative path of its own: `a.jpg`, and `a_2.jpg` for another `a.jpg` or `a.png`.

    Names differ without their ending, because label files have another one. For a million images, the names that are
    taken need about 60 MB.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next: dict[int, int] = {}  # the number for the next image of a name
        self._video: Video | None = None
        self._of_video = Path()

    def of(self, item: Item) -> Path:
        """Return the path for the outputs of an image; all frames of a video have the same."""
        if item.video is not None and item.video is self._video:
            return self._of_video
        path, wanted = item.output, _key(item.output)
        while (key := _key(path)) in self._taken:
            number = self._next.get(wanted, 2)
            self._next[wanted] = number + 1
            path = item.output.with_name(f'{item.output.stem}_{number}{item.output.suffix}')
        self._taken.add(key)
        self._video, self._of_video = item.video, path
        return path


def _key(path: Path) -> int:
    return hash(str(path.with_suffix('')))


def of_frame(output: Path, item: Item) -> Path:
    """Return the path for a file about one image: for frames with their number."""
    return output if item.video is None else output.with_name(f'{output.stem}_{item.frame:06d}.jpg')
