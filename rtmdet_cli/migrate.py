"""The command `rtmdet migrate`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rtmdet_plugin.config.drop_in import Migration


@click.command('migrate')
@click.argument('source', metavar='CONFIG')
@click.option(
    '-o',
    '--out',
    type=click.Path(path_type=Path),
    metavar='FILE',
    help="A new .py file. Default: CONFIG's name with _rtm, next to CONFIG, or in this folder for a shipped one.",
)
def command(source: str, out: Path | None) -> None:
    """Write a config that trains CONFIG, an RTMDet config of mmdet, with the parts of this package.

    CONFIG is a file, which may be edited in any way, or a name such as mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py. It is
    the base of the new config, so later edits of CONFIG apply to both. A CONFIG with read_base() can't be a base, so
    the new config is a complete copy. The command prints which parts were replaced, and which were not and why.
    """
    from rtmdet_plugin.checkpoints.load_model import config_file, read_config
    from rtmdet_plugin.config.drop_in import drop_in
    from rtmdet_plugin.config.lazy_types import can_be_base
    from rtmdet_runtime.atomic_files import write_atomically

    path = config_file(source)
    shipped = '::' in source and not Path(source).is_file()
    if out is None:
        out = Path('' if shipped else path.parent, f'{path.stem}_rtm.py')
    if out.suffix != '.py':
        raise ValueError(f'{out} must end in .py')
    if out.exists():
        raise FileExistsError(f'{out} exists already; choose another name with -o')

    config = read_config(source)
    new_style = re.search(r'^with read_base\(', path.read_text(encoding='utf-8'), re.MULTILINE)
    copied = not can_be_base(config) or new_style is not None
    done = drop_in(config)
    # The path is relative, so that both files can be moved together.
    base = source if shipped else Path(os.path.relpath(path.resolve(), out.resolve().parent)).as_posix()
    content = copy_text(base, done, config.pretty_text) if copied else text(base, done)
    write_atomically(out, content.encode())
    click.echo(summary(done))
    click.echo(f'{out}: written; it is a complete copy of {base}' if copied else f'{out}: written; its base is {base}')


def summary(done: Migration) -> str:
    """List what was replaced, and what was not and why."""
    parts = [('Replaced', done.moved), ('Not replaced', done.stays)]
    return '\n'.join(line for title, lines in parts if lines for line in (f'{title}:', *(f'  {x}' for x in lines)))


def comments(done: Migration) -> str:
    """Return the summary as comments of a config."""
    lines = (part for line in summary(done).splitlines() for part in wrap(line, 116, subsequent_indent=' ' * 6))
    return '\n'.join(f'# {line}' for line in lines)


def text(base: str, done: Migration) -> str:
    """Return the config that has `base` as its base."""
    return f"""# Written by `rtmdet migrate`; change settings below the call. When it was written, the call did this:
#
{comments(done)}

_base_ = {base!r}

from rtmdet_plugin import drop_in

drop_in(_base_)
"""


def copy_text(source: str, done: Migration, settings: str) -> str:
    """Return the config that has all settings, those of a moved config, itself."""
    return f"""# Written by `rtmdet migrate` from {source},
# which can't be a `_base_` because it uses read_base(). So this is a copy, and later edits of that file don't apply.
#
{comments(done)}

{settings}"""
