"""Walk through dataset wrappers (Concat, Repeat, ClassBalanced, MultiImageMix, ...) down to the wrapped datasets."""

from collections.abc import Iterator
from typing import Any


def wrapped_datasets(dataset: Any) -> list:
    """Return the datasets directly inside a wrapper; an empty list if `dataset` wraps nothing."""
    # mmengine's slice for `num_batch_per_epoch` forwards unknown attributes to the dataset it wraps: check it first.
    if '_dataset' in vars(dataset):
        return [dataset._dataset]
    if 'datasets' in vars(dataset):
        return list(dataset.datasets)
    if 'dataset' in vars(dataset):
        return [dataset.dataset]
    return []


def walk_datasets(dataset: Any) -> Iterator[Any]:
    """Yield `dataset` and everything inside it, wrappers before their contents, each object once."""
    seen = set()
    stack = [dataset]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        stack.extend(reversed(wrapped_datasets(node)))


def leaf_datasets(dataset: Any) -> list:
    """Return the datasets at the bottom of a tree of wrappers, each object once."""
    return [node for node in walk_datasets(dataset) if not wrapped_datasets(node)]
