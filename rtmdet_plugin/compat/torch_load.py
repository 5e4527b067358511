"""Load every checkpoint with `weights_only=True`, so that a checkpoint can't run code.

mmengine 0.10.7 uses torch's default and then can't read its own checkpoints: their message hub holds `HistoryBuffer`s,
numpy arrays and numpy scalars, and their `dataset_meta` may hold a config's dictionaries. The onedl fork falls back to
`weights_only=False` if torch refuses a file. Here exactly those harmless classes are added to torch's list of allowed
globals, and `weights_only` is forced regardless of what the caller or the fork sets. This is done in mmengine's
`CheckpointLoader`, through which training, resume, `mim test`, DetInferencer, export and mmdeploy all load.
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
FORCE_WEIGHTS_ONLY = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'


class UnsafeCheckpointError(pickle.UnpicklingError):
    """Raised if a checkpoint asks for a class or function that isn't data; no code of it was run."""


class DamagedCheckpointError(RuntimeError):
    """Raised if a file is truncated, altered, or not a checkpoint."""


def history_buffer_method(owner: type, name: str):
    """Replace `builtins.getattr` for checkpoints: return a statistics method of `HistoryBuffer`.

    A `HistoryBuffer` is saved with a dictionary of its own statistics methods, and pickle writes a method as
    `getattr(HistoryBuffer, 'mean')`. The real `getattr` would give the file access to every object.

    Raises:
        UnsafeCheckpointError: for any other object or name.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        # `ASKED_FOR` parses the beginning of this message, as it does those of torch.
        raise UnsafeCheckpointError(
            f'GLOBAL builtins.getattr({owner!r}, {name!r}); only {", ".join(STATISTICS)} of HistoryBuffer are allowed'
        )
    return getattr(HistoryBuffer, name)


def harmless_globals() -> list:
    """Return the entries for torch's list: classes, or pairs of an object and the name that stands for it in a file."""
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    entries = [ConfigDict, HistoryBuffer, (history_buffer_method, 'builtins.getattr'), np.ndarray, np.dtype]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # as numpy 1 and numpy 2 write it
        entries += [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
    # Without 'O': an array of objects could hold anything.
    return entries + sorted({type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDU'}, key=repr)


def load_checkpoints_safely() -> None:
    """Make mmengine load its own checkpoints, and refuse any that would run code. Idempotent."""
    torch.serialization.add_safe_globals(harmless_globals())
    # The onedl fork's own list contains the real `getattr`. It is torch's list during a load, and is taken off it
    # afterwards, so a list of ours would be gone after the first load.
    if hasattr(mmengine_checkpoint, 'get_torch_safe_globals'):
        mmengine_checkpoint.get_torch_safe_globals = list
    original = CheckpointLoader.load_checkpoint
    if not hasattr(original, '__wrapped__'):
        CheckpointLoader.load_checkpoint = staticmethod(safely(original))


def safely(load: Callable) -> Callable:
    """Wrap mmengine's `CheckpointLoader.load_checkpoint` so that it accepts only data; `.safetensors` as well.

    Returns:
        The wrapped function. It raises `UnsafeCheckpointError` if the file asks for a class or a function that isn't
        on the list, and `DamagedCheckpointError` if the file is truncated, altered, compressed, or not a checkpoint.
    """

    @functools.wraps(load)
    def load_checkpoint(filename: str, map_location: Any = None, logger: Any = 'current') -> dict:
        if str(filename).endswith(SUFFIX):
            return load_safetensors(filename, map_location)
        check_stored(filename)
        with weights_only():
            try:
                return load(filename, map_location, logger)
            except (OSError, ImportError):  # a missing file, permission, network connection or backend
                raise
            except Exception as error:  # a file of random bytes can raise nearly any exception
                explanation = explain(filename, error)
                if explanation is None:
                    raise
        raise explanation  # outside the block, to hide torch's long advice on how to load the file anyway

    return load_checkpoint


def check_stored(filename: str) -> None:
    """Refuse a local file whose unpacked entries are larger than the file.

    torch reads compressed entries, but never writes them, so only a crafted file has them.

    Raises:
        DamagedCheckpointError: if the entries are larger; the message names the file and both sizes.
    """
    path = Path(filename).expanduser()
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # a missing file, another format, or a damaged zip file: torch reports these
        return
    size = path.stat().st_size
    if unpacked > size:
        raise DamagedCheckpointError(
            f'{filename} is refused, and none of it was loaded: its entries must be stored uncompressed, as '
            f'torch.save writes them, got {unpacked:,} bytes of entries in a file of {size:,} bytes'
        )


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Force `torch.load` to be safe within this context, even if its caller sets `weights_only=False`."""
    before = os.environ.get(FORCE_WEIGHTS_ONLY)
    os.environ[FORCE_WEIGHTS_ONLY] = '1'
    try:
        yield
    finally:
        del os.environ[FORCE_WEIGHTS_ONLY]
        if before is not None:
            os.environ[FORCE_WEIGHTS_ONLY] = before


ASKED_FOR = re.compile(
    r'GLOBAL (builtins\.getattr\(.+?\)|\S+)'  # a name in the file
    r'|unrecognized function (.+?)(?: which belongs to|\.?$)'  # a call of an object that the file built
    r'|allowlisted via `add_safe_globals`,? but got (.+?)\.?$',
    re.MULTILINE,
)


def explain(filename: str, error: Exception) -> Exception | None:
    """Return one clear error for what torch reports about a file, or None if the file isn't the cause."""
    message = str(error)
    refused = f'{filename} is refused, and no code of it was run: '
    trusted = (
        'A checkpoint must hold only tensors, plain Python values, numpy arrays, and HistoryBuffer and ConfigDict of '
        'mmengine'
    )
    asked = ASKED_FOR.search(message) if isinstance(error, pickle.UnpicklingError) else None
    if asked:
        name = next(group for group in asked.groups() if group)
        return UnsafeCheckpointError(f'{refused}it asks for {name}. {trusted}')
    if isinstance(error, RuntimeError):
        for kind in ('TorchScript archives', 'legacy .tar format'):
            if kind in message:
                return UnsafeCheckpointError(f'{refused}it is one of the {kind}, which can run code. {trusted}')
        if 'PytorchStreamReader' not in message:
            return None
    reason = message.rpartition('WeightsUnpickler error:')[2].strip().partition('\n')[0].partition('. ')[0] or 'empty'
    return DamagedCheckpointError(
        f'{filename} is cut off, altered, or no checkpoint ({type(error).__name__}: {reason})'
    )
