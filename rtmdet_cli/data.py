"""The argument of commands that take a dataset or a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .config import changed_config

if TYPE_CHECKING:
    from mmengine.config import Config


def read_argument(data: str, changes: tuple[str, ...]) -> str | Config:
    """Return a config if `data` is one, with its changes; else `data` itself.

    Raises:
        click.UsageError: if there are changes for a dataset.
        FileNotFoundError, ValueError: see `changed_config`.
    """
    from rtmdet_plugin.checkpoints.load_model import is_config

    if is_config(data):
        return changed_config(data, changes)
    if changes:
        raise click.UsageError(f'--cfg-options must be left out, unless DATA is a config, got the data {data}')
    return data
