"""The order of a rank's samples in an epoch, and the seed of each.

mmengine's `DefaultSampler`, with the same order. What differs: each index carries its place in the run, and
`RTMEpochBasedTrainLoop` has each sample drawn from a seed of that place (see seeded_fetch.py). With mmengine alone, a
sample depends on all that its worker process did before, so that no resumed run continues the one that was cut off, and
workers that are started again draw the same numbers in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized

from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from .seeded_fetch import PlacedIndex


@DATA_SAMPLERS.register_module()
class RTMDefaultSampler(DefaultSampler):
    """Takes the arguments of mmengine's `DefaultSampler`; its indices carry their place in the run.

    In an `RTMEpochBasedTrainLoop`, with the same `seed`, the same number of ranks and of workers, and the same batch
    size, a sample follows from its epoch and its position in it, whatever the processes did before. Other loops take
    the indices as those of `DefaultSampler`.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle, seed, round_up)
        self._pass = 0

    def __iter__(self) -> Iterator[PlacedIndex]:
        """The indices of this rank's samples, each with its place in the run."""
        self._pass += 1
        order = self._pass
        for position, index in enumerate(super().__iter__()):
            yield PlacedIndex(index, (self.seed, self.rank, self.epoch, position), order)
