"""Base class of the random transforms: the source of their random numbers."""

from __future__ import annotations

import random

from mmcv.transforms import BaseTransform

# The `random` module has the methods of `random.Random`. Transforms use it unless they get an instance,
# because mmengine seeds it in each worker from `randomness.seed`: runs repeat, and workers differ.
RandomSource = random.Random


class RandomTransform(BaseTransform):
    """A transform that draws random numbers.

    Args:
        rng: source of all random numbers; None for Python's `random` module, which mmengine seeds in each worker. An
            instance of `random.Random` is copied into every worker with its state, so all of them draw the same.
    """

    def __init__(self, rng: RandomSource | None) -> None:
        self._rng = rng  # a module can't be pickled, so the default is looked up on use

    @property
    def rng(self) -> RandomSource:
        """The source of random numbers."""
        # The module has the methods of `random.Random`.
        return random if self._rng is None else self._rng  # pyright: ignore[reportReturnType]
