"""The argument and the option of commands that take a config."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mmengine.config import Config

config_argument = click.argument('config')
"""A path, or the name of a shipped config; see `config_file`."""

cfg_options = click.option(
    '--cfg-options',
    'changes',
    multiple=True,
    metavar='KEY=VALUE',
    help='Change a value of CONFIG, such as model.bbox_head.num_classes=3. May be repeated.',
)


def changed_config(source: str, changes: tuple[str, ...]) -> Config:
    """Read a config and apply changes such as `model.test_cfg.score_thr=0.05`.

    Raises:
        FileNotFoundError, ValueError: see `read_config`; ValueError also if a change has no `=` or can't be applied.
    """
    from rtmdet_plugin.checkpoints.load_model import read_config

    config = read_config(source)
    for change in changes:
        if change.find('=') < 1:
            raise ValueError(f'--cfg-options must be KEY=VALUE, got {change}')
        try:
            config.merge_from_dict(parsed(change))
        except (
            AssertionError,
            AttributeError,
            KeyError,
            TypeError,
        ) as error:  # unbalanced brackets, an index out of range
            raise ValueError(f'--cfg-options {change} does not fit {config.filename}: {error}') from None
    return read_config(config)


def parsed(change: str) -> dict[str, Any]:
    """Return KEY=VALUE as a dict; mmengine parses the value, as for `mim train --cfg-options`."""
    from mmengine.config import DictAction

    result = Namespace()
    DictAction([], 'changes')(ArgumentParser(), result, [change])
    return result.changes
