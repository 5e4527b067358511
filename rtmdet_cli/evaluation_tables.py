"""Print the numbers of `rtmdet val` as tables, and write those of the classes as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

MAX_CONFUSION = 12
"""Number of classes up to which the confusion matrix is printed."""
AVERAGES = ('AP', 'AP50', 'AP75', 'AP_small', 'AP_medium', 'AP_large', 'AR')
COLUMNS = ('images', 'objects', 'AP', 'AP50', 'mask_AP', 'mask_AP50', 'precision', 'recall', 'F1', 'score_thr')
"""Numbers of each class; those of masks only if they are evaluated."""
WIDE = 200
"""Width of the tables in characters if the output isn't a terminal."""


def show(numbers: dict, err: bool) -> None:
    """Print the numbers of `summary` as tables.

    Args:
        numbers: the numbers.
        err: whether to print to standard error.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=err, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE

    def print_table(columns: Sequence[str], rows: Sequence[Sequence], title: str | None = None) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column, value in zip(columns, rows[0], strict=True):
            table.add_column(_text('', column), justify='left' if isinstance(value, str) else 'right', overflow='fold')
        for row in rows:
            table.add_row(*map(_text, columns, row))
        if title:
            console.print(title)
        console.print(table)
        console.print()

    averages = [[numbers[prefix + name] for name in AVERAGES] for prefix in ('', 'mask_') if prefix + 'AP' in numbers]
    if len(averages) > 1:
        print_table(('', *AVERAGES), [[of, *row] for of, row in zip(('boxes', 'masks'), averages, strict=True)])
    else:
        print_table(AVERAGES, averages)
    columns = [name for name in COLUMNS if name in numbers]
    rows = [[row['name'], *(row[name] for name in columns)] for row in numbers['classes']]
    print_table(('class', *columns), [*rows, ['all', *(numbers[name] for name in columns)]])
    errors = numbers['errors']
    if any(errors.values()):
        print_table(list(errors), [list(errors.values())], 'AP50 that each kind of error costs')
    confusion = numbers['confusion']
    if confusion is None:
        console.print('No detection is correct, so there is no best score threshold.')
    elif len(numbers['classes']) <= MAX_CONFUSION:
        names = confusion['classes']
        print_table(
            ('object \\ detected as', *names),
            [[name, *row] for name, row in zip(names, confusion['matrix'], strict=True)],
            f'Confusion matrix at the score threshold {_text("score_thr", confusion["score_thr"])}',
        )


def _text(column: str, value: float | str | None) -> str:
    """Return a number as text; a threshold with more digits, because scores can be small."""
    if value is None:
        return '-'
    if isinstance(value, float):
        return f'{value:.4g}' if column == 'score_thr' else f'{value:.3f}'
    return str(value).encode(errors='replace').decode()  # a name of a class may not be valid Unicode


def csv_of_classes(classes: Sequence[dict]) -> str:
    """Return the numbers of each class as CSV."""
    file = io.StringIO()
    columns = [name for name in COLUMNS if name in classes[0]]
    writer = csv.DictWriter(file, ('class', *columns), lineterminator='\n')
    writer.writeheader()
    writer.writerows({'class': row['name'], **{name: row[name] for name in columns}} for row in classes)
    return file.getvalue()
