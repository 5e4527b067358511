"""Weights that are no numbers: a model with NaN in it exports and runs, and finds nothing."""

from collections.abc import Mapping
from pathlib import Path

import torch

NAMED = 3
"""Tensors that a message names."""


def check_finite(weights: Mapping[str, object], source: str | Path) -> None:
    """Refuse the weights of a checkpoint or a graph if one of them is NaN or infinite.

    Raises:
        ValueError: it names the source, the tensors, and how many of their values.
    """
    bad = {name: count for name, value in weights.items() if (count := count_invalid(value))}
    if not bad:
        return
    named = [f'{name} ({count} of {weights[name].numel()} values)' for name, count in list(bad.items())[:NAMED]]
    more = f' and {len(bad) - NAMED} more' if len(bad) > NAMED else ''
    raise ValueError(
        f'{source}: weights must be finite, got NaN or infinity in {len(bad)} of {len(weights)} tensors: '
        f'{", ".join(named)}{more}; the file is damaged, or the training diverged'
    )


def count_invalid(value: object) -> int:
    """Count the values of a tensor that are NaN or infinite; 0 for integers and for anything else."""
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return 0
    return value.numel() - int(torch.isfinite(value).sum())
