"""Write the detections of all images to one file: JSON, JSON Lines, CSV or COCO.

supervision writes COCO as well, but it needs all images and detections in memory.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol

from ..atomic_files import naming, unfinished
from ..detections import Detections
from ..output import STDOUT, check_output
from ..sources.item import Item
from .names import of_frame
from .targets import Inputs

COLUMNS = ('image', 'frame', 'time', 'x1', 'y1', 'x2', 'y2', 'score', 'label', 'name', 'id')
"""Columns of CSV; `frame` and `time` are empty for images, `id` without tracking."""
INFO = 'Predictions of rtmdet'
BEGINNINGS = dict(
    json=r'\[\s*(\]|\{\s*"image"\s*:\s*"(\\.|[^"\\])*"\s*,\s*"boxes"\s*:)',
    jsonl=r'\{"image": "(\\.|[^"\\])*", "boxes": ',
    csv=','.join(COLUMNS),
    coco=r'\{"info": \{"description": "' + INFO,
)
"""Patterns of the beginning of earlier results, which may be replaced; CreateML's labels have `annotations` after
`image`."""
ENDINGS = dict(json=('.json',), jsonl=('.jsonl', '.ndjson'), csv=('.csv',), coco=('.json',))


class Format(Protocol):
    """Text of a record file, in parts."""

    def start(self) -> str:
        """Return the text before the first image."""
        ...

    def add(self, item: Item, found: Detections, output: Path) -> str:
        """Return the text of an image."""
        ...

    def end(self) -> Iterator[str]:
        """Yield the text after the last image."""
        ...


class JSON:
    """A list of the `to_dict()` of all images, with indentation, and each list of numbers on one line."""

    def __init__(self) -> None:
        self.before = '\n'

    def start(self) -> str:
        """Begin the list."""
        return '['

    def add(self, item: Item, found: Detections, output: Path) -> str:
        """Return an element with its separator."""
        before, self.before = self.before, ',\n'
        text = json.dumps(found.to_dict(), indent=1)
        text = re.sub(r'\[\n[-\d.,\s]+\]', lambda numbers: ' '.join(numbers[0].split()), text)
        return before + textwrap.indent(text, ' ')

    def end(self) -> Iterator[str]:
        """End the list."""
        yield ']\n' if self.before == '\n' else '\n]\n'


class JSONLines:
    """The `to_dict()` of each image on a line."""

    def start(self) -> str:
        """Return nothing: there is no header."""
        return ''

    def add(self, item: Item, found: Detections, output: Path) -> str:
        """Return a line."""
        return json.dumps(found.to_dict()) + '\n'

    def end(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())


class CSV:
    """A row per box, with the columns `COLUMNS`."""

    def start(self) -> str:
        """Return the header."""
        return ','.join(COLUMNS) + '\n'

    def add(self, item: Item, found: Detections, output: Path) -> str:
        """Return the rows of an image."""
        text, values = io.StringIO(), replace(found, masks=None).to_dict()
        rows = csv.writer(text, lineterminator='\n')
        place = (values['image'], values.get('frame', ''), values.get('time', ''))
        ids = values.get('ids', [''] * len(found))
        for box, score, label, name, number in zip(
            values['boxes'], values['scores'], found.labels.tolist(), found.names, ids, strict=True
        ):
            rows.writerow((*place, *box, score, label, name, number))
        return text.getvalue()

    def end(self) -> Iterator[str]:
        """Yield nothing."""
        return iter(())


class COCO:
    """A dataset in COCO's format, with the relative paths of images, and scores; boxes are clipped to the image.

    With masks, `segmentation` is a run-length code. Annotations follow the images, so they are kept in a second file.

    Args:
        classes: class names of the model; their ids are 1, 2, ...
        annotations: file for the annotations.
    """

    def __init__(self, classes: tuple[str, ...], annotations: IO[str]) -> None:
        self.classes, self.annotations = classes, annotations
        self.images = self.boxes = 0

    def start(self) -> str:
        """Return info and categories."""
        categories = [dict(id=number, name=name) for number, name in enumerate(self.classes, 1)]
        head = json.dumps(dict(info=dict(description=INFO), categories=categories))
        return f'{head[:-1]}, "images": ['

    def add(self, item: Item, found: Detections, output: Path) -> str:
        """Return an image, and keep its annotations."""
        height, width = item.image.shape[:2]
        self.images += 1
        found = found.clipped()
        sides = found.boxes[:, 2:].astype(float) - found.boxes[:, :2]
        areas = sides.prod(axis=1) if found.masks is None else found.masks.areas
        for result, area in zip(found.to_coco(self.images), areas.round(3).tolist(), strict=True):
            self.boxes += 1
            result['bbox'] = [round(value, 3) for value in result['bbox']]
            result['score'] = round(result['score'], 4)
            annotation = dict(id=self.boxes, **result, area=area, iscrowd=0)
            self.annotations.write(f'{"," if self.boxes > 1 else ""}\n{json.dumps(annotation)}')
        image = dict(id=self.images, file_name=of_frame(output, item).as_posix(), width=width, height=height)
        return f'{"," if self.images > 1 else ""}\n{json.dumps(image)}'

    def end(self) -> Iterator[str]:
        """Yield the annotations."""
        yield '], "annotations": ['
        self.annotations.seek(0)
        while part := self.annotations.read(2**20):
            yield part
        yield ']}\n'


def check_records(kind: str, path: Path, inputs: Inputs) -> None:
    """Check that records can be written without replacing an input or a file of another kind; `-` replaces nothing.

    Raises:
        ValueError, OSError: see `check_output`.
    """
    if path != STDOUT:
        inputs.check_no_input(path)
        check_output(path, inputs.files, ENDINGS[kind], BEGINNINGS[kind])


class RecordFile:
    """Write the detections of all images to one file; see `Writer`.

    Args:
        kind: one of `BEGINNINGS`.
        path: file to write; `-` for standard output.
        classes: class names of the model.
    """

    def __init__(self, kind: str, path: Path, classes: tuple[str, ...]) -> None:
        self.stack, self.count = contextlib.ExitStack(), 0
        self.name = 'standard output' if path == STDOUT else str(path)
        if path == STDOUT:
            self.file: IO[str] = sys.stdout
        else:
            (partial,) = self.stack.enter_context(unfinished(path))
            self.file = self.stack.enter_context(partial.open('w', encoding='utf-8', errors='replace'))
        if kind == 'coco':
            annotations = self.stack.enter_context(tempfile.TemporaryFile('w+', encoding='utf-8'))  # noqa: SIM115
            self.format: Format = COCO(classes, annotations)
        else:
            self.format = dict(json=JSON, jsonl=JSONLines, csv=CSV)[kind]()

    def _write(self, text: str) -> None:
        with naming(self.name):
            self.file.write(text)

    def write(self, item: Item, found: Detections, output: Path) -> None:
        """Append the detections of an image; see `Writer`."""
        before = '' if self.count else self.format.start()
        self._write(before + self.format.add(item, found, output))
        self.count += 1

    def finish(self) -> None:
        """Complete the file."""
        try:
            self._write('' if self.count else self.format.start())
            for text in self.format.end():
                self._write(text)
            with naming(self.name):
                self.file.flush()
        except BaseException as error:
            self.stack.__exit__(type(error), error, None)
            raise
        self.stack.close()

    def stop(self) -> None:
        """Complete the file with the images so far; without any, nothing is written and an earlier file remains."""
        if self.count:
            self.finish()
        else:
            self.stack.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
