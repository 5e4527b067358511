"""Compare the states that runs leave."""

from pathlib import Path

import numpy as np
import torch


def training_state(path: Path) -> dict:
    """Return the parts of a checkpoint that later steps depend on: weights, averaged weights, optimiser, schedulers."""
    checkpoint = torch.load(path, weights_only=True)
    return {key: checkpoint[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')}


def assert_same(a, b, path: str = '') -> None:
    """Check that two values are equal bit for bit; compare dictionaries and lists recursively."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f'{path}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for place, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f'{path}[{place}]')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        np.testing.assert_equal(a, b, path)
