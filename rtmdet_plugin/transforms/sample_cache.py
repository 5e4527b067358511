"""The store from which the mixing transforms take their partner images.

It follows mmdet's cached transforms in size and order: a sample is appended, and where the store is over its
size then, one of the others leaves: the oldest, or a random one.
Differences: what is kept are copies of image, boxes, labels, ignore flags and masks, not the whole dict of
the pipeline; what is handed out is what is kept, uncopied, and refuses to be written to; there is a limit in
bytes beside the one in number; and a sample's partners don't include the sample's own picture from an earlier
epoch, which is there where the data set is smaller than the store.
"""

from __future__ import annotations

from typing import Any

from .checks import check_at_least
from .random_transform import RandomSource
from .sample import Sample
from .walk import walk_transforms

# 40 images of 640x640 take 47 MiB, of 1280x1280 188 MiB; it is bitmap masks that can be many times that.
MAX_BYTES = 2**28


class SampleCache:
    """Samples by place, oldest first.

    Args:
        max_size: number of samples that are kept, at least 1.
        random_pop: a random sample leaves when the store is full; otherwise the oldest (FIFO).
        max_bytes: memory that the samples may take together. The newest is kept even where it alone takes more.

    Raises:
        ValueError: where `max_size` or `max_bytes` isn't an integer of at least 1.
    """

    def __init__(self, max_size: int, random_pop: bool = True, max_bytes: int = MAX_BYTES) -> None:
        self.max_size = check_at_least('max_size', max_size, 1)
        self.max_bytes = check_at_least('max_bytes', max_bytes, 1)
        self.random_pop = random_pop
        self.nbytes = 0
        self._samples: list[Sample] = []

    def add(self, sample: Sample, rng: RandomSource) -> int:
        """Keep a copy of `sample`; drop others while there are too many, or they take too much.

        Args:
            sample: stays the caller's, who may change it afterwards.
            rng: draws the place that is dropped; not asked for FIFO, nor while there is room.

        Returns:
            The number of *other* samples in the store. They are at the places 0 to this number - 1; the new
            one comes after them.
        """
        self._samples.append(sample.snapshot())
        self.nbytes += sample.nbytes
        others = len(self._samples) - 1
        while others and (others >= self.max_size or self.nbytes > self.max_bytes):
            self.nbytes -= self._samples.pop(rng.randrange(others) if self.random_pop else 0).nbytes
            others -= 1
        return others

    def partners(self, sample: Sample, others: int) -> list[int]:
        """Places of the samples to mix with `sample`.

        Args:
            sample: the one that was added last.
            others: the number that `add` gave for it.

        Returns:
            Those of the first `others` places that show another picture, by `img_id`; all of them where none
            does, or where the sample has no `img_id`.
        """
        places = list(range(others))
        if sample.img_id is None:
            return places
        return [place for place in places if self._samples[place].img_id != sample.img_id] or places

    def clear(self) -> None:
        """Forget all samples."""
        self._samples.clear()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Sample:
        """The sample at `place`; its arrays are read-only."""
        return self._samples[place]

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_size={self.max_size}, random_pop={self.random_pop}, max_bytes={self.max_bytes})'
        )


def clear_caches(transforms: Any) -> int:
    """Empty the caches of transforms, of those within other transforms too.

    Args:
        transforms: a transform, a pipeline, or a list of them. mmdet's cached transforms count as well.

    Returns:
        The number of caches that were found.
    """
    found = 0
    for transform in walk_transforms(transforms):
        for name, value in vars(transform).items():
            if isinstance(value, SampleCache) or (name == 'results_cache' and isinstance(value, list)):
                value.clear()
                found += 1
    return found
