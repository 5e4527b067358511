"""What commands that take a config have in common."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mmengine.config import Config

config_argument = click.argument('config')
"""A path, or the name of a shipped one: see `config_file`."""

cfg_options = click.option(
    '--cfg-options',
    'changes',
    multiple=True,
    metavar='KEY=VALUE',
    help='A change to CONFIG, such as model.bbox_head.num_classes=3; may repeat.',
)


def changed_config(source: str, changes: tuple[str, ...]) -> Config:
    """A config with changes such as `model.test_cfg.score_thr=0.05`.

    Raises:
        FileNotFoundError, ValueError: see `read_config`; ValueError as well for a change without `=`, or one that the
            config doesn't take.
    """
    from rtmdet_plugin.checkpoints.load_model import read_config

    config = read_config(source)
    for change in changes:
        if change.find('=') < 1:
            raise ValueError(f'--cfg-options {change}; accepted: KEY=VALUE')
        try:
            config.merge_from_dict(parsed(change))
        except (AssertionError, AttributeError, KeyError, TypeError) as error:  # brackets; no such place in a list
            raise ValueError(f'--cfg-options {change} does not fit {config.filename}: {error}') from None
    return read_config(config)


def parsed(change: str) -> dict[str, Any]:
    """Return KEY=VALUE as a dict; mmengine parses the value, as for `mim train --cfg-options`."""
    from mmengine.config import DictAction

    result = Namespace()
    DictAction([], 'changes')(ArgumentParser(), result, [change])
    return result.changes
