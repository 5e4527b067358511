"""The order of a rank's samples in an epoch, and the seed of each.

The order is that of mmengine's `DefaultSampler`. Difference: each index carries its place in the run, and in an
`RTMEpochBasedTrainLoop` each sample is drawn with a seed of that place (see seeded_fetch.py). With mmengine's sampler,
a sample depends on everything that its worker process did before. Then a resumed run doesn't continue the interrupted
one, and workers that are started again draw the same numbers in every epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized

from mmdet.registry import DATA_SAMPLERS
from mmengine.dataset import DefaultSampler

from .seeded_fetch import PlacedIndex


@DATA_SAMPLERS.register_module()
class RTMDefaultSampler(DefaultSampler):
    """Sampler with the arguments of mmengine's `DefaultSampler`, whose indices carry their place in the run.

    In an `RTMEpochBasedTrainLoop`, with the same `seed`, the same number of ranks and of workers, and the same batch
    size, a sample depends only on its epoch and its position in it, not on what the processes did before. Other loops
    treat the indices as those of `DefaultSampler`.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle, seed, round_up)
        self._pass = 0

    def __iter__(self) -> Iterator[PlacedIndex]:
        """Yield the indices of this rank's samples, each with its place in the run."""
        self._pass += 1
        order = self._pass
        for position, index in enumerate(super().__iter__()):
            yield PlacedIndex(index, (self.seed, self.rank, self.epoch, position), order)
