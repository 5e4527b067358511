"""A checkpoint for others: the weights that a model is used with, the classes, and nothing else of the training."""

import io
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from mmengine.runner import CheckpointLoader

from rtmdet_runtime.output import check_output, input_files, naming

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

    If the training kept an EMA, its averaged weights are written. Optimiser, schedulers and logs are left out.

    Raises:
        ValueError: if `target` has another ending or would replace `source` or another training's checkpoint, or if
            `source` holds no weights or weights that aren't finite.
        OSError: if `target` can't be written.
        FileNotFoundError, UnsafeCheckpointError, DamagedCheckpointError: where `source` can't be loaded.
        ImportError: where `.safetensors` is asked for, and the package isn't installed.
    """
    target = Path(target)
    check_output(target, input_files([source]), (SUFFIX, '.pth'))
    if target.is_file():
        _check_replaceable(target)
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
    with naming(target):
        write_atomically(target, content)
    return Published(target, len(weights), averaged)


def _check_replaceable(path: Path) -> None:
    """Refuse to replace what `publish` can't have written, such as a checkpoint with the state of an optimiser.

    Raises:
        ValueError: it names the file.
    """
    try:
        there = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger=None)
    except (ValueError, RuntimeError, OSError, UnpicklingError):
        there = None
    ours = isinstance(there, dict) and there.keys() <= {'meta', 'state_dict'}
    if ours and path.suffix == SUFFIX:  # any file has no more than these; those of other programs have no `META`
        ours = not there['meta'].keys().isdisjoint(META)
    if not ours:
        raise ValueError(
            f'{path} would replace a file that rtmdet publish did not write; choose another name, or remove it'
        )
