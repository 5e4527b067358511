"""Refuse weights that aren't finite: a model that holds NaN can be exported and runs, but detects nothing."""

from collections.abc import Mapping
from pathlib import Path

import torch

MAX_NAMED = 3
"""Number of tensors that a message names at most."""


def check_finite(weights: Mapping[str, object], source: str | Path) -> None:
    """Refuse the weights of a checkpoint or a graph if one of them is NaN or infinite.

    Args:
        weights: tensors by name; other values are ignored.
        source: file that the error message names.

    Raises:
        ValueError: if a weight isn't finite; the message names the source, the tensors and the number of such values.
    """
    bad = {
        name: (count, value.numel())
        for name, value in weights.items()
        if isinstance(value, torch.Tensor) and (count := count_invalid(value))
    }
    if not bad:
        return
    named = [f'{name} ({count} of {total} values)' for name, (count, total) in list(bad.items())[:MAX_NAMED]]
    more = f' and {len(bad) - MAX_NAMED} more' if len(bad) > MAX_NAMED else ''
    raise ValueError(
        f'{source}: weights must be finite, got NaN or infinity in {len(bad)} of {len(weights)} tensors: '
        f'{", ".join(named)}{more}; the file is damaged, or the training diverged'
    )


def count_invalid(value: torch.Tensor) -> int:
    """Count the values of a tensor that are NaN or infinite; 0 for integers."""
    if not value.is_floating_point():
        return 0
    return value.numel() - int(torch.isfinite(value).sum())
