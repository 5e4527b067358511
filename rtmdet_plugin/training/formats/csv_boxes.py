"""CSV as in TensorFlow's tutorials: one line for each box, `filename,width,height,class,xmin,ymin,xmax,ymax`."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from ...errors import RefusedError
from .images import SampleError, checked_size, image_folder
from .labelled import Box, Labelled, LabelledImage, labelled
from .split_names import files_by_split

KIND = 'CSV'
COLUMNS = ('filename', 'class', 'xmin', 'ymin', 'xmax', 'ymax')


def find(data: Path) -> dict[str, Path] | None:
    """Return the CSV file of each split; None if there is none.

    Raises:
        RefusedError: if it isn't clear which file belongs to which split.
    """
    if data.is_file():
        return {'train': data} if data.suffix.lower() == '.csv' else None
    files = [file for file in sorted([*data.glob('*.csv'), *data.glob('*/*.csv')]) if _missing_columns(file) == []]
    return files_by_split(files, data, KIND) or None


def read(data: Path, files: dict[str, Path]) -> Labelled:
    """Read the CSV files.

    Raises:
        RefusedError: if a file lacks a column or a line, or the folder of its images can't be found.
    """
    images: dict[str, list[LabelledImage]] = {}
    skipped: dict[str, dict[str, str]] = {}
    root = data if data.is_dir() else data.parent
    for split, file in files.items():
        if missing := _missing_columns(file):
            raise RefusedError(f'{file}:1: the first line must have the columns {", ".join(COLUMNS)}, got no {missing}')
        rows = _rows_by_image(file)
        if not rows:
            raise RefusedError(f'{file} must have a line for each box, got none')
        folder = image_folder(list(rows), [file.parent, root], split, file)
        images[split], skipped[split] = [], {}
        for name, lines in rows.items():
            try:
                images[split].append(_read_image(folder / name, lines, file))
            except SampleError as error:
                skipped[split][str(folder / name)] = str(error)
    return labelled(KIND, data, images, root, skipped_by_split=skipped)


def _read_image(path: Path, lines: list[tuple[int, dict[str, str]]], file: Path) -> LabelledImage:
    number, first = lines[0]
    annotated = [first.get(side) or '' for side in ('width', 'height')]
    size = tuple(int(text) if text.isdecimal() else 0 for text in annotated)
    width, height = checked_size(path, (size[0], size[1]), f'{file}:{number}')
    return LabelledImage(path, width, height, [_box(row, f'{file}:{number}') for number, row in lines])


def _box(row: dict[str, str], at: str) -> Box:
    name, *texts = (row[column] for column in COLUMNS[1:])
    try:
        left, top, right, bottom = edges = [float(text) for text in texts]
    except (TypeError, ValueError):
        raise SampleError(f'{at}: xmin, ymin, xmax and ymax must be numbers, got {texts}') from None
    if not name or not all(map(math.isfinite, edges)) or right < left or bottom < top:
        raise SampleError(f'{at}: a line must have a class and a box in pixels with min <= max, got {name!r}, {texts}')
    return Box(name, left, top, right - left, bottom - top)


def _missing_columns(file: Path) -> list[str]:
    with file.open(newline='', encoding='utf-8-sig', errors='replace') as lines:
        header = next(csv.reader(lines), [])
    return [column for column in COLUMNS if column not in _columns(header)]


def _columns(header: list[str]) -> list[str]:
    return [name.strip().lower() for name in header]


def _rows_by_image(file: Path) -> dict[str, list[tuple[int, dict[str, str]]]]:
    """Return the lines of each image with their numbers, in the order of the file."""
    rows: dict[str, list[tuple[int, dict[str, str]]]] = {}
    with file.open(newline='', encoding='utf-8-sig', errors='replace') as lines:
        reader = csv.reader(lines)
        columns = _columns(next(reader))
        for values in reader:
            row = {column: value.strip() for column, value in zip(columns, values, strict=False)}
            if row.get('filename'):
                padded = {column: row.get(column, '') for column in (*COLUMNS, 'width', 'height')}
                rows.setdefault(row['filename'], []).append((reader.line_num, padded))
    return rows
