"""Checks of class names and of how many objects each class has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..training.formats.find_format import alike
from .finding import Finding, some
from .objects import Objects

IMBALANCE = 100
"""Ratio of the numbers of objects of two classes from which it is reported."""


def check_classes(classes: Sequence[str], splits: Sequence[Objects]) -> Iterator[Finding]:
    """Yield what is unusual about the classes of a dataset."""
    for text in alike(classes):
        yield Finding('class names', 'warning', text)
    for objects in splits:
        counts = class_counts(objects)
        if not len(objects.labels):
            continue  # the dataset is refused
        if unseen := [name for name, count in zip(classes, counts, strict=True) if count == 0]:
            effect = dict(train='the model cannot learn them', val='their AP is not measured')
            text = f'{objects.split}: {len(unseen)} of {len(classes)} classes have no objects: {some(unseen)}'
            effect = effect.get(objects.split, 'their AP is not measured')
            severity = 'note' if objects.split == 'test' else 'warning'
            yield Finding('classes without objects', severity, f'{text}; {effect}')
        if objects.split == 'train':
            yield from check_balance(classes, counts)


def check_balance(classes: Sequence[str], counts: Sequence[int]) -> Iterator[Finding]:
    """Yield a finding if some classes have far fewer objects than the most frequent one."""
    rare = {name: count for name, count in zip(classes, counts, strict=True) if 0 < count * IMBALANCE <= max(counts)}
    if rare:
        shown = some(f'{name} ({count})' for name, count in sorted(rare.items(), key=lambda pair: pair[1]))
        most = int(np.argmax(counts))
        text = (
            f'train: {len(rare)} of {len(classes)} classes have less than 1/{IMBALANCE} of the objects of '
            f'{some([classes[most]])} ({counts[most]}): {shown}; mmdet has ClassBalancedDataset for this'
        )
        yield Finding('class imbalance', 'note', text)


def class_counts(objects: Objects) -> list[int]:
    """Return the number of objects of each class."""
    return np.bincount(objects.labels, minlength=len(objects.classes)).tolist()
