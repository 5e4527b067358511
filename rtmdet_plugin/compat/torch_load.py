"""torch >= 2.6 loads with `weights_only=True`, and mmengine 0.10.7 writes checkpoints that this refuses.

The message hub in them holds `HistoryBuffer`s, numpy arrays and numpy scalars. Exactly these are put on torch's list
of allowed globals; `weights_only` stays on, so that a checkpoint from the web can't run code.
"""

import mmengine
import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from ..version import release

STATISTICS = ('current', 'max', 'mean', 'min')


def history_buffer_method(owner: type, name: str):
    """What a checkpoint gets that asks for `builtins.getattr`.

    A `HistoryBuffer` is saved with a dictionary of its own statistics methods, and pickle writes a method as
    `getattr(HistoryBuffer, 'mean')`. The real `getattr` would open every object to the file.

    Raises:
        ValueError: for any other object or name.
    """
    if owner is not HistoryBuffer or name not in STATISTICS:
        accepted = ', '.join(STATISTICS)
        raise ValueError(f'a checkpoint asked for {name!r} of {owner!r}; only {accepted} of HistoryBuffer are allowed')
    return getattr(HistoryBuffer, name)


def harmless_globals() -> list:
    """The entries for torch's list: classes, or pairs of what to use and the name that the file gives."""
    reconstruct, scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    entries = [HistoryBuffer, (history_buffer_method, 'builtins.getattr'), np.ndarray, np.dtype]
    for module in ('numpy.core.multiarray', 'numpy._core.multiarray'):  # as numpy 1 and numpy 2 write it
        entries += [(reconstruct, f'{module}._reconstruct'), (scalar, f'{module}.scalar')]
    # No 'O': an array of objects could carry anything.
    return entries + sorted({type(np.dtype(code)) for code in '?bBhHiIlLqQefdFDU'}, key=repr)


def has_gap() -> bool:
    """Whether torch refuses what mmengine writes; the onedl fork (0.10.8 and later) loads in its own way."""
    return release(torch.__version__) >= (2, 6, 0) and release(mmengine.__version__) <= (0, 10, 7)


def allow_mmengine_checkpoints() -> None:
    """Let `torch.load` read what mmengine's `CheckpointHook` writes."""
    if has_gap():
        torch.serialization.add_safe_globals(harmless_globals())
