"""The cache from which the mixing transforms take their partner images.

It follows mmdet's cached transforms in size and order: a sample is appended, and if the cache is then over its
size, one of the others is dropped: the oldest, or a random one. Differences:

- The cache keeps image, boxes, labels, ignore flags and masks, not the pipeline's complete dict.
- Images are copied neither into the cache nor out of it, because a mixed sample gets a new image. All cached arrays are
  read-only.
- There is a limit in bytes as well as in number.
- A sample's partners exclude the same image from an earlier epoch, which is still cached if the dataset is smaller
  than the cache.
"""

from __future__ import annotations

from typing import Any

from .checks import check_at_least
from .random_transform import RandomSource
from .sample import Sample
from .walk import walk_transforms

# 40 images take 47 MiB at 640x640 and 188 MiB at 1280x1280; masks are outlines, which take little.
MAX_BYTES = 2**28


class SampleCache:
    """A bounded list of samples, oldest first.

    Args:
        max_size: number of samples to keep, at least 1.
        random_pop: drop a random sample when the cache is full; otherwise the oldest (FIFO).
        max_bytes: limit on the samples' total memory. The newest sample is kept even if it exceeds the limit by itself.

    Raises:
        ValueError: if `max_size` or `max_bytes` isn't an integer of at least 1.
    """

    def __init__(self, max_size: int, random_pop: bool = True, max_bytes: int = MAX_BYTES) -> None:
        self.max_size = check_at_least('max_size', max_size, 1)
        self.max_bytes = check_at_least('max_bytes', max_bytes, 1)
        self.random_pop = random_pop
        self.nbytes = 0
        self._samples: list[Sample] = []

    def add(self, sample: Sample, rng: RandomSource) -> int:
        """Keep `sample`; drop others until the cache is within its limits.

        Args:
            sample: sample to keep. Its image becomes read-only; its other arrays are copied, and may be modified.
            rng: source of the random index to drop; not used for FIFO, nor if nothing is dropped.

        Returns:
            The number of *other* samples in the cache. Their indices are 0 to this number - 1; the new sample
            comes after them.
        """
        self._samples.append(sample.frozen())
        self.nbytes += sample.nbytes
        others = len(self._samples) - 1
        while others and (others >= self.max_size or self.nbytes > self.max_bytes):
            self.nbytes -= self._samples.pop(rng.randrange(others) if self.random_pop else 0).nbytes
            others -= 1
        return others

    def partners(self, sample: Sample, others: int) -> list[int]:
        """Return the indices of the samples that may be mixed with `sample`.

        Args:
            sample: the sample that was added last.
            others: the number that `add` returned for it.

        Returns:
            Those of the first `others` indices that hold another image, by `img_id`; all of them if none does, or if
            the sample has no `img_id`.
        """
        places = list(range(others))
        if sample.img_id is None:
            return places
        return [place for place in places if self._samples[place].img_id != sample.img_id] or places

    def clear(self) -> None:
        """Remove all samples."""
        self._samples.clear()
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, place: int) -> Sample:
        """Return the sample at index `place`; its arrays are read-only."""
        return self._samples[place]

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(max_size={self.max_size}, random_pop={self.random_pop}, max_bytes={self.max_bytes})'
        )


def clear_caches(transforms: Any) -> int:
    """Empty the caches of transforms, including those nested in other transforms.

    Args:
        transforms: a transform, a pipeline, or a list of them; mmdet's cached transforms are included.

    Returns:
        The number of caches found.
    """
    found = 0
    for transform in walk_transforms(transforms):
        for name, value in vars(transform).items():
            if isinstance(value, SampleCache) or (name == 'results_cache' and isinstance(value, list)):
                value.clear()
                found += 1
    return found
