"""A checkpoint for others: the weights that a model is used with, the classes, and nothing else of the training."""

import io
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.runner import CheckpointLoader

from ..compat.safetensors_file import SUFFIX, dump_safetensors
from .atomic_file import write_atomically
from .finite import check_finite

META = ('dataset_meta', 'cfg', 'epoch', 'iter', 'mmengine_version')
"""What is kept of `meta`: the names of the classes, the text of the config, where the weights are from."""


@dataclass(frozen=True)
class Published:
    """What was written."""

    path: Path
    tensors: int
    averaged: bool
    """Whether these are the EMA's weights; else they are the model's own, the only ones in the file."""


def publish(source: str | Path, target: str | Path) -> Published:
    """Write the weights in the checkpoint `source` to `target`, `.safetensors` or `.pth` by its ending.

    Where the training kept an EMA, its averaged weights are written. Optimiser, schedulers and logs are left out.

    Raises:
        ValueError: where `target` has another ending, or `source` holds no weights or weights that aren't finite.
        FileNotFoundError, UnsafeCheckpointError, DamagedCheckpointError: where `source` can't be loaded.
        ImportError: where `.safetensors` is asked for, and the package isn't installed.
    """
    target = Path(target)
    if target.suffix not in (SUFFIX, '.pth'):
        raise ValueError(f'{target}: expected a name that ends in {SUFFIX} or .pth')
    checkpoint = CheckpointLoader.load_checkpoint(str(source), map_location='cpu', logger=None)
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f'{source} holds no weights: expected a state_dict of tensors')
    check_finite(weights, source)
    meta = {name: value for name, value in checkpoint.get('meta', {}).items() if name in META}
    # mmengine's EMAHook saves the averaged weights as `state_dict`, and the model's own as `ema_state_dict`.
    averaged = 'ema_state_dict' in checkpoint

    if target.suffix == SUFFIX:
        content = dump_safetensors(weights, meta)
    else:
        buffer = io.BytesIO()
        torch.save(dict(meta=meta, state_dict=weights), buffer)
        content = buffer.getvalue()
    write_atomically(target, content)
    return Published(target, len(weights), averaged)
