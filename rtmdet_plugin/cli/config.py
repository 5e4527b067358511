"""What verbs that take a config have in common."""

from __future__ import annotations

from pathlib import Path

import click
from mmengine.config import Config, DictAction

from ..deploy.checkpoint import read_config

cfg_options = click.option(
    '--cfg-options', 'changes', multiple=True, metavar='KEY=VALUE', help='A change to the config; may be repeated.'
)


def changed_config(path: Path, changes: tuple[str, ...]) -> Config:
    """A config with changes such as `model.test_cfg.score_thr=0.05`.

    Raises:
        FileNotFoundError, ValueError: see `read_config`; ValueError as well for a change without `=`.
    """
    config = read_config(path)
    for change in changes:
        key, equals, value = change.partition('=')
        if not equals:
            raise ValueError(f'--cfg-options {change}; accepted: KEY=VALUE')
        config.merge_from_dict({key: DictAction._parse_iterable(value)})
    return config
