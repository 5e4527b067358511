"""Fetch samples that depend only on their place in the run: seed, rank, epoch and position in the epoch.

Before each sample, Python's, numpy's and torch's generators are seeded from its place, so that every transform draws
the same numbers again, in any process.

A sample also depends on the caches of mosaic and MixUp. At the start of an epoch a worker's caches are emptied and then
filled with `WARM_UP` samples that are drawn for this purpose; after that they hold the samples of the worker's
positions in that epoch. A run resumed in the middle of an epoch restores them by fetching the epoch's samples from
the first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from ..transforms.sample_cache import clear_caches
from .tree import leaf_datasets

Place = tuple[int, int, int, int]
"""Seed of the run, rank, epoch, position in the epoch."""

WARM_UP = 8
"""Number of samples that fill the caches before an epoch's first one: more than the three partners that it needs."""


class PlacedIndex(int):
    """An index into a dataset that carries its place in the run.

    Args:
        index: the index.
        place: seed of the sample's random numbers.
        turn: number of the pass over the data; another pass may be through the same epoch again.
    """

    place: Place
    turn: int

    def __new__(cls, index: int, place: Place, turn: int) -> PlacedIndex:
        """Create the index."""
        placed = super().__new__(cls, index)
        placed.place, placed.turn = place, turn
        return placed

    def __reduce__(self) -> tuple:
        return PlacedIndex, (int(self), self.place, self.turn)


def fetch_by_place(dataset: Any) -> None:
    """Let torch's loader fetch the samples of `dataset` through `SeededFetch`.

    The loader asks the outermost dataset for `__getitems__`. An attribute of the instance keeps the dataset's type, and
    with it the paths of its settings; a wrapper would move them one level down.
    """
    dataset.__getitems__ = SeededFetch(dataset)


class SeededFetch:
    """Function that torch's loader calls for the samples of a batch.

    Args:
        dataset: the outermost dataset.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._turn: int | None = None

    def __call__(self, indices: Sequence[int]) -> list:
        """Return the samples at `indices`, in order; without places, as from other samplers, nothing is seeded."""
        placed = [index for index in indices if isinstance(index, PlacedIndex)]
        if len(placed) < len(indices):
            return [self.dataset[index] for index in indices]
        worker = get_worker_info()
        if worker is not None:
            return [self._fetch(index, worker.id) for index in placed]
        # Without workers this is the training process, whose own random numbers must not be affected.
        states = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                return [self._fetch(index, 0) for index in placed]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    def _fetch(self, index: PlacedIndex, worker: int) -> Any:
        if index.turn != self._turn:
            self._begin_epoch(index.place[:3], worker)
            self._turn = index.turn
        seed_generators(*index.place)
        return self.dataset[int(index)]

    def _begin_epoch(self, epoch: tuple[int, int, int], worker: int) -> None:
        transforms = [leaf.pipeline for leaf in leaf_datasets(self.dataset) if hasattr(leaf, 'pipeline')]
        if not clear_caches(transforms):
            return
        for turn in range(WARM_UP):
            seed_generators(*epoch, 'warm-up', worker, turn)
            self.dataset[random.randrange(len(self.dataset))]


def seed_generators(*place: int | str) -> None:
    """Seed Python's, numpy's and torch's global generators from `place`."""
    random.seed(' '.join(map(str, place)))  # strings are hashed, so that neighbouring places get unrelated seeds
    np.random.seed(random.getrandbits(32))
    torch.default_generator.manual_seed(random.getrandbits(63))  # not a GPU's generator, which the model uses
