"""The argument and the option of commands that take a config."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from rtmdet_plugin.config.changes import apply_changes

    config = read_config(source)
    apply_changes(config, changes, '--cfg-options')
    return read_config(config)
