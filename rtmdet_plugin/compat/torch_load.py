"""Checkpoints are data: everything that mmengine loads, is loaded with `weights_only=True`.

mmengine 0.10.7 leaves it to torch's default and then can't read its own checkpoints, whose message hub holds
`HistoryBuffer`s, numpy arrays and numpy scalars, and whose `dataset_meta` may hold a config's dictionaries; the onedl
fork falls back to `weights_only=False` where torch refuses a file. Here exactly those harmless classes are put on
torch's list of allowed globals, and `weights_only` is forced whatever the caller or the fork asks for. Training,
resume, `mim test`, DetInferencer, export and mmdeploy all load through mmengine's `CheckpointLoader`, which is where
this happens.
"""

import contextlib
import functools
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint

from .safetensors_file import SUFFIX, load_safetensors

STATISTICS = ('current', 'max', 'mean', 'min')
FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


class UnsafeCheckpointError(pickle.UnpicklingError):
    """A checkpoint asks for more than data; nothing of it was run."""


class DamagedCheckpointError(RuntimeError):
    """A file is cut off, altered, or no checkpoint at all."""


def history_buffer_method(owner: type, name: str):
    """What a checkpoint gets that asks for `builtins.getattr`.

    A `HistoryBuffer` is saved with a dictionary of its own statistics methods, and pickle writes a method as
    `getattr(HistoryBuffer, 'mean')`. The real `getattr` would open every object to the file.

    Raises:
        UnsafeCheckpointError: for any other object or name.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        accepted = ', '.join(STATISTICS)
        raise UnsafeCheckpointError(
            f'GLOBAL builtins.getattr({owner!r}, {name!r}); accepted: {accepted} of HistoryBuffer'
        )
    return getattr(HistoryBuffer, name)


def harmless_globals() -> list:
    """The entries for torch's list: classes, or pairs of what to use and the name that the file gives."""
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    entries = [ConfigDict, HistoryBuffer, (history_buffer_method, 'builtins.getattr'), np.ndarray, np.dtype]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # as numpy 1 and numpy 2 write it
        entries += [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
    # No 'O': an array of objects could carry anything.
    return entries + sorted({type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDU'}, key=repr)


def load_checkpoints_safely() -> None:
    """Let mmengine load its own checkpoints, and nothing that runs code; calling it again changes nothing."""
    torch.serialization.add_safe_globals(harmless_globals())
    # The fork's own list has the real `getattr` on it.
    if hasattr(mmengine_checkpoint, 'get_torch_safe_globals'):
        mmengine_checkpoint.get_torch_safe_globals = harmless_globals
    original = CheckpointLoader.load_checkpoint
    if not hasattr(original, '__wrapped__'):
        CheckpointLoader.load_checkpoint = staticmethod(safely(original))


def safely(load: Callable) -> Callable:
    """`load`, mmengine's `CheckpointLoader.load_checkpoint`, for files that are data; `.safetensors` too.

    Raises:
        UnsafeCheckpointError: where the file asks for a class or a function that isn't on the list.
        DamagedCheckpointError: where it is cut off, altered, no checkpoint, or compressed.
    """

    @functools.wraps(load)
    def load_checkpoint(filename: str, map_location: Any = None, logger: Any = 'current') -> dict:
        if str(filename).endswith(SUFFIX):
            return load_safetensors(filename, map_location)
        check_stored(filename)
        with weights_only():
            try:
                return load(filename, map_location, logger)
            except (OSError, ImportError):  # not there, no permission, no network, no such backend
                raise
            except Exception as error:  # a file of random bytes can raise nearly anything
                explanation = explain(filename, error)
                if explanation is None:
                    raise
        raise explanation  # out of the block, so that torch's long advice on how to load it anyway isn't shown

    return load_checkpoint


def check_stored(filename: str) -> None:
    """Refuse a local file whose entries are larger than the file: torch reads compressed ones, and writes none.

    Raises:
        DamagedCheckpointError: it names the file and both sizes.
    """
    path = Path(filename).expanduser()
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # not there, not a zip file, or a damaged one, which torch reports
        return
    size = path.stat().st_size
    if unpacked > size:
        raise DamagedCheckpointError(
            f'{filename} is refused, and nothing of it was loaded: its entries must be stored uncompressed, as '
            f'torch.save writes them, got {unpacked:,} bytes of entries in a file of {size:,} bytes'
        )


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Within it, `torch.load` is safe even where its caller says `weights_only=False`."""
    before = os.environ.get(FORCE)
    os.environ[FORCE] = '1'
    try:
        yield
    finally:
        del os.environ[FORCE]
        if before is not None:
            os.environ[FORCE] = before


ASKED_FOR = re.compile(
    r'GLOBAL (builtins\.getattr\(.+?\)|\S+)'  # a name in the file
    r'|unrecognized function (.+?)(?: which belongs to|\.?$)'  # a call of something that the file built
    r'|allowlisted via `add_safe_globals`,? but got (.+?)\.?$',
    re.MULTILINE,
)


def explain(filename: str, error: Exception) -> Exception | None:
    """One clear error for what torch says about a file, or None where the file isn't to blame."""
    message = str(error)
    refused = f'{filename} is refused, and nothing of it was run: '
    trusted = 'Accepted: tensors, plain Python values, numpy arrays, and HistoryBuffer and ConfigDict of mmengine'
    asked = ASKED_FOR.search(message) if isinstance(error, pickle.UnpicklingError) else None
    if asked:
        name = next(group for group in asked.groups() if group)
        return UnsafeCheckpointError(f'{refused}it asks for {name}. {trusted}')
    if isinstance(error, RuntimeError):
        for kind in ('TorchScript archives', 'legacy .tar format'):
            if kind in message:
                return UnsafeCheckpointError(f'{refused}it is of the kind "{kind}", which can run code. {trusted}')
        if 'PytorchStreamReader' not in message:
            return None
    reason = message.rpartition('WeightsUnpickler error:')[2].strip().partition('\n')[0].partition('. ')[0] or 'empty'
    return DamagedCheckpointError(
        f'{filename} is cut off, altered, or no checkpoint ({type(error).__name__}: {reason})'
    )
