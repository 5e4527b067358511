"""Checkpoints are read as data: one from the web must not run code."""

import pickle
from pathlib import Path

import torch
from torch import nn

from ...hooks.load_report import compare


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load a checkpoint that holds all of the model.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it isn't a checkpoint, or one of another model.
    """
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        checkpoint = torch.load(path, map_location='cpu', weights_only=True)
        state = checkpoint.get('state_dict', checkpoint)
        report = compare(model.state_dict(), state)
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise ValueError(f'{path} is not a checkpoint: {str(error).splitlines()[0]}') from error
    if report.other_shape or report.missing:
        lines = '; '.join(line.strip() for line in report.lines()[:3])
        raise ValueError(f'{path} does not fit the config: {lines}')
    model.load_state_dict({name.removeprefix('module.'): value for name, value in state.items()}, strict=False)
