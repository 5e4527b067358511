"""Find classes of a model by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def labels_of(names: Iterable[str], classes: Sequence[str]) -> list[int]:
    """Return the labels of class names; a number stands for a label, unless a class has it as its name.

    Raises:
        ValueError: if there is no such class; the message has the nearest names.
    """
    labels = []
    for name in names:
        if name in classes:
            labels += [label for label, other in enumerate(classes) if other == name]
        elif name.isdecimal() and int(name) < len(classes):
            labels.append(int(name))
        else:
            nearest = get_close_matches(name, classes, 3, 0.5) or list(classes[:5])
            raise ValueError(
                f"class must be one of the model's {len(classes)} classes, got {name!r}; the nearest: "
                f'{", ".join(nearest)}'
            )
    return labels
