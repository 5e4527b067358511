"""What a run leaves behind, compared."""

from pathlib import Path

import numpy as np
import torch


def training_state(path: Path) -> dict:
    """Of a checkpoint: weights, averaged weights, and what the steps to come depend on."""
    checkpoint = torch.load(path, weights_only=True)
    return {key: checkpoint[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')}


def assert_same(a, b, where: str = '') -> None:
    """Equal bit for bit, through dictionaries and lists."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f'{where}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for place, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f'{where}[{place}]')
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        np.testing.assert_equal(a, b, where)
