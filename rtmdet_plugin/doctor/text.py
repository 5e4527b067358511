"""Show facts and findings in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .finding import SEVERITIES, Finding, Item

STYLES = dict(error='bold red', warning='yellow', note='cyan')
WIDTH = 120
"""Width of the output if it isn't a terminal."""


def print_facts(console: Console, title: str, facts: Mapping[str, str]) -> None:
    """Print a table of names and values."""
    table = Table(title=title, title_justify='left', show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(_plain(name), _plain(value))
    console.print(table)


def print_findings(console: Console, findings: Sequence[Finding], shown: int) -> None:
    """Print findings with the first items of each, and the number of findings of each severity.

    Args:
        console: where to print.
        findings: findings in the order in which they are printed.
        shown: number of items of each finding.
    """
    table = Table('severity', 'finding', box=None, title='Findings', title_justify='left', header_style='')
    for finding in findings:
        lines = [f'{finding.kind}: {finding.text}', *(f'  {line_of(item)}' for item in finding.items[:shown])]
        if len(finding.items) > shown:
            lines.append(f'  and {len(finding.items) - shown} more')
        table.add_row(Text(finding.severity, STYLES[finding.severity]), _plain('\n'.join(lines)))
    if findings:
        console.print(table)
    console.print(count_by_severity(findings))


def line_of(item: Item) -> str:
    """Return an item as one line; texts that name the file are complete."""
    text = ' '.join(item.text.split())
    return text if item.file in text else f'{item.file}: {text}' if text else item.file


def count_by_severity(findings: Sequence[Finding]) -> str:
    """Return the number of errors, warnings and notes as text."""
    return ', '.join(
        f'{sum(finding.severity == severity for finding in findings)} {severity}s' for severity in SEVERITIES
    )


def terminal(err: bool) -> Console:
    """Return the console for standard output, or for standard error."""
    console = Console(stderr=err, highlight=False)
    return console if console.is_terminal else Console(stderr=err, highlight=False, width=WIDTH)


def _plain(text: str) -> Text:
    """Return text without markup; names of files may hold bytes that aren't valid text."""
    return Text(text.encode(errors='replace').decode(), overflow='fold')
