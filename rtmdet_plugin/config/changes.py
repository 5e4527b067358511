"""Apply changes such as `model.test_cfg.score_thr=0.05` to a config, as `--cfg-options` of `mim train` does."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable

from mmengine.config import Config, DictAction

from ..errors import RefusedError


def apply_changes(config: Config, changes: Iterable[str], option: str) -> None:
    """Change values of a config in place.

    Args:
        config: the config.
        changes: KEY=VALUE; mmengine parses the value.
        option: option of the command that has the changes, for the error.

    Raises:
        RefusedError: if a change has no `=` or can't be applied.
    """
    for change in changes:
        if change.find('=') < 1:
            raise RefusedError(f'{option} must be KEY=VALUE, got {change}')
        result = Namespace()
        try:
            DictAction([], 'changes')(ArgumentParser(), result, [change])
            config.merge_from_dict(result.changes)
        # Unbalanced brackets, an index out of range.
        except (AssertionError, AttributeError, KeyError, TypeError) as error:
            raise RefusedError(f'{option} {change} does not fit {config.filename}: {error}') from None
