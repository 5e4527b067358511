"""Find the checkpoint that a training starts from."""

from __future__ import annotations

from pathlib import Path

from ..checkpoints.published import published_weights


def find_weights(weights: str, model: str) -> Path | None:
    """Return the checkpoint to start from.

    Args:
        weights: 'default' for the published weights, 'none' for none, or a file.
        model: name of the model, see `MODELS`.

    Returns:
        An existing file; None to train from scratch.

    Raises:
        RefusedError: see `published_weights`.
        FileNotFoundError: if there is no such file.
    """
    if weights == 'none':
        return None
    if weights != 'default':
        if not Path(weights).is_file():
            raise FileNotFoundError(f'{weights}: no such checkpoint')
        return Path(weights).resolve()
    return published_weights(model, 'give --weights FILE, or train from scratch with --weights none')
