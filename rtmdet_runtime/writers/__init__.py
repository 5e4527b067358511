"""Write detections: drawn images and videos, crops, records in one file, and label files.

A writer gets one image at a time, so that memory doesn't grow with their number. Each of its files appears complete or
not at all, and none replaces an input or a file of another kind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..detections import Detections
from ..sources.item import Item


class Writer(Protocol):
    """Writes one kind of result."""

    def write(self, item: Item, found: Detections, output: Path) -> None:
        """Write the result of an image.

        Args:
            item: the image.
            found: its detections.
            output: relative path that no other image has, see `OutputNames`; that of the video for its frames.

        Raises:
            ValueError: if the format can't contain it, or it would replace another file; other images may work.
            OSError: if it can't be written.
        """
        ...

    def finish(self) -> None:
        """Complete the files with what was written so far."""
        ...

    def stop(self) -> None:
        """End early, after an error: keep what can be complete, and remove the rest."""
        ...
