"""Publish a checkpoint: keep the weights for inference and the classes, drop the rest of the training state."""

import io
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from mmengine.runner import CheckpointLoader

from rtmdet_runtime.atomic_files import naming, write_atomically
from rtmdet_runtime.output import check_output, input_files

from ..compat.safetensors_file import SUFFIX, dump_safetensors
from .convert import convert_weights
from .exp_on_reg import KEY
from .finite import check_finite
from .mmyolo_keys import Stack, has_mmyolo_keys

META = ('dataset_meta', 'cfg', 'epoch', 'iter', 'mmengine_version', KEY)
"""Entries of `meta` that are kept: class names, text of the config, origin of the weights."""


@dataclass(frozen=True)
class Published:
    """Describes a published checkpoint."""

    path: Path
    tensors: int
    averaged: bool
    """True for the EMA's weights; False for the model's own, because the source holds no others."""
    converted: Stack | None
    """Stack to whose names the weights were converted; None if they kept their names."""
    dropped: list[str]
    """Entries of the checkpoint that were not written."""


def publish(source: str | Path, target: str | Path) -> Published:
    """Write the weights in the checkpoint `source` to `target`, in the format of its suffix.

    If the training kept an EMA, its averaged weights are written. Optimiser, schedulers and logs are dropped.
    Weights of mmyolo's RTMDet are converted to mmdet's names, see `convert_checkpoint`.

    Args:
        source: checkpoint of a training, or any other that `CheckpointLoader` reads.
        target: file to write, `.safetensors` or `.pth`.

    Raises:
        ValueError: if `target` has another suffix or would replace `source` or another training's checkpoint, or if
            `source` holds no weights or weights that aren't finite; see `convert_checkpoint` for those of mmyolo.
        OSError: if `target` can't be written.
        FileNotFoundError: if `source` doesn't exist.
        UnsafeCheckpointError: if `source` asks for a class or function that isn't data.
        DamagedCheckpointError: if `source` is truncated, altered, or of another format.
        ImportError: if `target` ends in `.safetensors` and the package safetensors isn't installed.
    """
    return _write(Path(source), Path(target), None)


def convert_checkpoint(source: str | Path, target: str | Path, to: Stack) -> Published:
    """Write the weights of an RTMDet checkpoint by the names of mmyolo or of mmdet, as `publish` writes weights.

    Values, types and shared memory of the tensors are kept; a `.safetensors` file can't share memory. The optimiser's
    state is dropped because the parameters have another order in the other stack, and the config's text because it
    builds a model of the stack that the weights are from. In weights from mmyolo, `meta` has `exp_on_reg=False`.

    Args:
        source: checkpoint of the other stack.
        target: file to write, `.safetensors` or `.pth`.
        to: 'mmdet' or 'mmyolo'.

    Raises:
        ValueError, OSError, ImportError, UnsafeCheckpointError, DamagedCheckpointError: see `publish`; ValueError as
            well if the weights are not those of an RTMDet detector of the other stack, or would give other boxes in
            `to`, see `convert_weights`.
    """
    return _write(Path(source), Path(target), to)


def _write(source: Path, target: Path, to: Stack | None) -> Published:
    """Write weights by the names of `to`; None stands for mmdet's, or their own if they are not mmyolo's."""
    check_output(target, input_files([source]), (SUFFIX, '.pth'))
    if target.is_file():
        _check_replaceable(target)
    checkpoint = CheckpointLoader.load_checkpoint(str(source), map_location='cpu', logger=None)
    weights = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not weights or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ValueError(f'{source} holds no weights: state_dict must be a non-empty dict of tensors')
    check_finite(weights, source)
    meta = {name: value for name, value in (checkpoint.get('meta') or {}).items() if name in META}
    dropped = sorted(checkpoint.keys() - {'state_dict', 'meta'}) if 'state_dict' in checkpoint else []
    if to is None and has_mmyolo_keys(weights):
        to = 'mmdet'
    if to is not None:
        dropped += ['meta.cfg'] if 'cfg' in meta else []
        try:
            weights, meta = convert_weights(weights, meta, to)
        except ValueError as error:
            raise ValueError(f'{source}: {error}') from None
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
    return Published(target, len(weights), averaged, to, dropped)


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a file that `publish` can't have written, such as a checkpoint with an optimiser's state.

    Raises:
        ValueError: if it can't have; the message names the file.
    """
    try:
        existing: Any = CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger=None)
    except (ValueError, RuntimeError, OSError, UnpicklingError):
        existing = None
    ours = isinstance(existing, dict) and existing.keys() <= {'meta', 'state_dict'}
    if ours and path.suffix == SUFFIX:  # every such file has only these keys, but other programs write no `META`
        ours = not existing['meta'].keys().isdisjoint(META)
    if not ours:
        raise ValueError(
            f'{path} would replace a file that rtmdet publish did not write; choose another name, or remove it'
        )
