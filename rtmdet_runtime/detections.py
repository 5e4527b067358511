"""`Detections`: the boxes and masks of one image, to select, draw, crop and convert."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .classes import labels_of
from .image import Image, read_image
from .masks import Masks
from .messages import needed_by

if TYPE_CHECKING:
    import pandas
    import supervision

Index = int | slice | str | Sequence[int] | Sequence[bool] | Sequence[str] | np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """Boxes, and masks if the model has them, of one image, by descending score.

    `found[0]`, `found[:5]`, `found[found.scores > 0.5]`, `found['dog']` and `found['dog', 'cat']` are the `Detections`
    with some of the boxes.

    Attributes:
        boxes: xyxy in pixels of the original image, float32. (N, 4)
        scores: float32. (N,)
        labels: indices into `classes`, int64. (N,)
        classes: names of all classes of the model.
        source: file or address of the image or video; '' for an array.
        image: BGR, uint8, (H, W, 3); None if `source` is a file, which is then read when the image is needed.
        frame: number of the frame in a video, from 0; None for an image.
        time: time of the frame in seconds; None for an image.
        ids: number of each box's track, int64; None without tracking. (N,)
        masks: mask of each box, in pixels of the original image; None if the model has none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...] = ()
    source: str = ''
    image: Image | None = None
    frame: int | None = None
    time: float | None = None
    ids: np.ndarray | None = None
    masks: Masks | None = None

    @cached_property
    def names(self) -> list[str]:
        """Class name of each box; `class 3` if the model has no names."""
        count = len(self.classes)
        return [self.classes[label] if label < count else f'class {label}' for label in self.labels.tolist()]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Index) -> Detections:
        """Select boxes by number, slice, mask, list of numbers, or by one or more class names.

        Raises:
            IndexError: if there is no such box, or names and numbers are mixed.
            ValueError: if the model has no class of a name.
        """
        if isinstance(index, str):
            index = [index]
        names = [name for name in index if isinstance(name, str)] if isinstance(index, (list, tuple)) else []
        if isinstance(index, (list, tuple)) and names:
            if len(names) < len(index):
                raise IndexError(f'index must have only class names or only numbers, got {index}')
            kept: Any = np.isin(self.labels, labels_of(names, self.classes))
        elif isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f'index must be below {len(self)}, the number of boxes, got {index}')
            kept = [index]
        else:
            kept = index if isinstance(index, slice) or len(index) else slice(0)
        fields = ('boxes', 'scores', 'labels', 'ids', 'masks')
        return replace(self, **{name: field[kept] for name in fields if (field := getattr(self, name)) is not None})

    def __repr__(self) -> str:
        """Return the number of boxes of each class, the range of the scores, and the source."""
        parts = [self.summary()]
        if len(self):
            low, high = self.scores.min(), self.scores.max()
            parts.append(f'scores {low:.2f} to {high:.2f}' if len(self) > 1 else f'score {high:.2f}')
        place = self.source if self.frame is None else f'{self.source}, frame {self.frame}'
        return f'Detections({"; ".join([*parts, *filter(None, [place])])})'

    def above(self, score_thr: float) -> Detections:
        """Return the detections with a score above a threshold."""
        return self[self.scores > score_thr]

    def clipped(self) -> Detections:
        """Return the detections with boxes clipped to the image, without those outside of it.

        Raises:
            FileNotFoundError, ValueError: see `pixels`.
        """
        height, width = self.pixels().shape[:2]
        boxes = self.boxes.clip(0, np.array([width, height] * 2, np.float32))
        return replace(self, boxes=boxes)[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]

    def summary(self) -> str:
        """Return the number of boxes of each class as text, such as '2 person, 1 dog'; 'nothing' without boxes."""
        return ', '.join(f'{count} {name}' for name, count in Counter(self.names).most_common()) or 'nothing'

    def pixels(self) -> Image:
        """Return the image, BGR, uint8, (H, W, 3), from its file if it isn't kept.

        Raises:
            ValueError: if there is neither an image nor a file.
            FileNotFoundError, ValueError: see `read_image`.
        """
        if self.image is not None:
            return self.image
        if not self.source:
            raise ValueError('image must be kept to be drawn or cropped, got Detections without image and source')
        return read_image(self.source)

    def plot(self) -> Image:
        """Return a copy of the image with boxes, masks, class names and scores drawn on it: BGR, uint8, (H, W, 3).

        Raises:
            FileNotFoundError, ValueError: see `pixels`.
        """
        from .drawing import draw  # `drawing` needs this module

        return draw(self.pixels(), self)

    def crops(self) -> list[Image]:
        """Return the part of the image in each box, at least one pixel: copies, BGR, uint8.

        Raises:
            FileNotFoundError, ValueError: see `pixels`.
        """
        image = self.pixels()
        height, width = image.shape[:2]
        first = np.floor(self.boxes[:, :2]).clip(0, (width - 1, height - 1)).astype(int)
        last = np.ceil(self.boxes[:, 2:]).clip(first + 1, (width, height)).astype(int)
        return [image[y1:y2, x1:x2].copy() for (x1, y1), (x2, y2) in zip(first, last, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain Python values for JSON.

        Returns:
            `image`, the source; `boxes`, xyxy in pixels with 3 decimals; `scores` with 4; `classes`, the class name of
            each box; for a frame of a video also `frame` and `time`, in seconds; with tracking also `ids`; with masks
            also `polygons`: for each box a list of polygons [x1, y1, x2, y2, ...] in pixels, see `Masks.polygons`.
        """
        # float64, because a rounded float32 would have many decimals in JSON; + 0.0 turns -0.0 into 0.0.
        boxes, scores = (
            values.astype(float).round(places) + 0.0 for values, places in ((self.boxes, 3), (self.scores, 4))
        )
        values: dict[str, Any] = dict(
            image=self.source, boxes=boxes.tolist(), scores=scores.tolist(), classes=self.names
        )
        if self.frame is not None:
            values.update(frame=self.frame, time=self.time)
        if self.ids is not None:
            values.update(ids=self.ids.tolist())
        if self.masks is not None:
            polygons = self.masks.polygons()
            values.update(polygons=[[part.round(1).ravel().tolist() for part in parts] for parts in polygons])
        return values

    def to_coco(
        self, image_id: int | str = 0, category_ids: Sequence[int | None] | None = None
    ) -> list[dict[str, Any]]:
        """Return results as pycocotools reads them: `image_id`, `category_id`, `bbox` (xywh in pixels) and `score`.

        With tracking, there is also `track_id`, and with masks `segmentation`, compressed RLE.

        Args:
            image_id: id of the image.
            category_ids: id of each class; None in it drops the boxes of a class. By default 1, 2, ...
        """
        ids = category_ids or range(1, int(self.labels.max(initial=-1)) + 2)
        found = self[np.array([ids[label] is not None for label in self.labels.tolist()], bool)]
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
        results: list[dict[str, Any]] = [
            dict(image_id=image_id, category_id=ids[label], bbox=[x1, y1, x2 - x1, y2 - y1], score=score)
            for (x1, y1, x2, y2), score, label in rows
        ]
        if found.ids is not None:
            for result, number in zip(results, found.ids.tolist(), strict=True):
                result.update(track_id=number)
        if found.masks is not None:
            for result, mask in zip(results, found.masks.rle(), strict=True):
                result.update(segmentation=mask)
        return results

    def to_supervision(self) -> supervision.Detections:
        """Return supervision's `Detections`, with the class names as `data['class_name']`, and masks as arrays.

        Raises:
            ImportError: if supervision isn't installed.
        """
        with needed_by('to_supervision()'):
            import supervision
        return supervision.Detections(
            xyxy=self.boxes.reshape(-1, 4),
            confidence=self.scores,
            class_id=self.labels,
            tracker_id=self.ids,
            mask=None if self.masks is None else self.masks.numpy(),
            data=dict(class_name=np.array(self.names, dtype=str)),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with a row per box: x1, y1, x2, y2, score, label and name; with tracking also id.

        Raises:
            ImportError: if pandas isn't installed.
        """
        with needed_by('to_pandas()'):
            import pandas
        table = pandas.DataFrame(self.boxes.reshape(-1, 4), columns=['x1', 'y1', 'x2', 'y2'])
        table = table.assign(score=self.scores, label=self.labels, name=np.array(self.names, dtype=object))
        return table if self.ids is None else table.assign(id=self.ids)
