"""The learning rate of AdamW that fits a batch: `rtmdet train` chooses it, the report before a run checks it.

The recipe is 0.004 for a batch of 256. From scratch, 0.004 stays for smaller batches: this package's small projects
learn with it at a batch of 8. For fine-tuning, the rate falls with the square root of the batch below 32, the rule for
Adam's kind of optimiser. Both were chosen from a few runs of nano (docs/own_data.md has those of fine-tuning), so the
range of usual rates is wide; it includes mmengine's `--auto-scale-lr`, which scales in proportion to the batch.
"""

from __future__ import annotations

import math

RECIPE_LR, RECIPE_BATCH = 0.004, 256
FINE_TUNE_BATCH = 32
"""Batch below which the rate of fine-tuning falls."""


def fitting_rate(batch: int, pretrained: bool) -> float:
    """Return the learning rate for a batch.

    Args:
        batch: images per step, over all processes and accumulated batches.
        pretrained: whether the training starts from a detector's weights.
    """
    fall = min(1.0, math.sqrt(batch / FINE_TUNE_BATCH)) if pretrained else 1.0
    return float(f'{RECIPE_LR * fall * max(1.0, math.sqrt(batch / RECIPE_BATCH)):.2g}')


def usual_rates(batch: int, pretrained: bool) -> tuple[float, float]:
    """Return the lowest and the highest learning rate that are no reason for a warning; arguments as above."""
    proportional = RECIPE_LR * batch / RECIPE_BATCH
    fitting = fitting_rate(batch, pretrained)
    return min(proportional, fitting) / 10, 1.5 * max(proportional, fitting)
