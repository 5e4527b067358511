"""PyTorch, for checkpoints. The backend is in `rtmdet_plugin`, which is imported only if a checkpoint is opened."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import CHECKPOINTS, MODELS
from ..messages import needed_by

if TYPE_CHECKING:
    from . import Backend

PUBLISHED = {config: model for model, config in MODELS.items()}
"""Name of published weights, which is that of their config: model."""
MODULE = 'rtmdet_plugin.inference.predictor'


def is_checkpoint(model: str | Path) -> bool:
    """Return whether a model is a checkpoint or the name of published weights, rather than an exported model."""
    return Path(model).suffix in CHECKPOINTS or str(model) in PUBLISHED


def open_checkpoint(model: str | Path, config: Any, device: str | None, threads: int | None, precision: str) -> Backend:
    """Open a checkpoint or published weights; see `RTMDetector`.

    Raises:
        ImportError: if rtmdet_plugin or PyTorch isn't installed.
        FileNotFoundError, ValueError: if there is no such file, it can't be opened, or a setting can't be used.
    """
    with needed_by(str(model)):
        opener = importlib.import_module(MODULE).open_checkpoint
    return opener(str(model), config, device, threads, precision)
