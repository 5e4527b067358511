"""What the transforms that draw have in common: where their random numbers come from."""

from __future__ import annotations

import random

from mmcv.transforms import BaseTransform

# The `random` module has the methods of `random.Random`. It is what transforms use unless told otherwise,
# because mmengine seeds it in each worker from `randomness.seed`: runs repeat, and workers differ.
RandomSource = random.Random


class RandomTransform(BaseTransform):
    """A transform that draws.

    Args:
        rng: source of all draws; None for Python's `random` module, which mmengine seeds in each worker. An instance
            of `random.Random` is copied into workers as it stands, so they would draw the same.
    """

    def __init__(self, rng: RandomSource | None) -> None:
        self._rng = rng  # a module can't be pickled, so the default is looked up on use

    @property
    def rng(self) -> RandomSource:
        return random if self._rng is None else self._rng
