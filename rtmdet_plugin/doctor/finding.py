"""What a check finds: a sentence, its severity, and the files and boxes that it is about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SEVERITIES = ('error', 'warning', 'note')
"""From the most to the least severe."""


@dataclass(frozen=True)
class Item:
    """A file that a finding is about, or a box in it."""

    file: str
    text: str = ''
    """Which box it is, or what is wrong with the file."""
    box: tuple[float, float, float, float] | None = None
    """The box, xyxy in pixels of the image."""
    annotation: int | None = None
    """Id of the box in its COCO file."""
    other: str = ''
    """The file that it is a copy of."""


@dataclass(frozen=True)
class Finding:
    """A finding. Its severity says what it means for a training.

    error: `rtmdet train` refuses the data, or AP would be wrong. warning: probably a mistake that costs AP.
    note: worth a look.
    """

    kind: str
    """Name of the finding, the same in each run, such as 'duplicates'."""
    severity: Literal['error', 'warning', 'note']
    text: str
    """One sentence, with what to do if that isn't obvious."""
    items: list[Item] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the finding for JSON, with all items; their empty fields are left out."""
        content = asdict(self)
        items = [{key: value for key, value in item.items() if value not in ('', None)} for item in content['items']]
        return {**content, 'items': items}


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the most severe ones first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def some(names: Iterable[object], limit: int = 6) -> str:
    """Return the first names as text, and the number of the others."""
    listed = [' '.join(str(name).split()) for name in names]
    return ', '.join(listed[:limit]) + (f' and {len(listed) - limit} more' if len(listed) > limit else '')
