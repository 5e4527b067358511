"""Run the commands that the pages and the notebook show, in this process: a new one takes seconds to start."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import mmdet
import pytest
from click.testing import CliRunner
from user_run import ROOT

from rtmdet_cli.main import main

TOOLS = Path(mmdet.__file__).parent / '.mim' / 'tools'
TARGETS = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
EXTRAS = (ROOT / 'pyproject.toml').read_text().partition('[project.optional-dependencies]')[2].partition('\n[')[0]


def run_rtmdet(*arguments: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f'rtmdet {shlex.join(arguments)}\n{done.output}\n{done.exception!r}'


def run_mim(command: str, package: str, *arguments: str) -> None:
    """Run the tool of mmdet that `mim train` and `mim test` start; mim takes the checkpoint as an option."""
    assert package == 'mmdet'
    words = [word for word in arguments if word != '--checkpoint']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [f'{command}.py', *words])
        runpy.run_path(str(TOOLS / f'{command}.py'), run_name='__main__')


def check_make(target: str, *settings: str) -> None:
    assert target in TARGETS
    assert all('=' in setting for setting in settings)


def check_pip(command: str, *arguments: str) -> None:
    """Check that `pip install ".[extra]"` names extras that exist; nothing is installed."""
    assert command == 'install'
    known = re.findall(r'^(\w+) = ', EXTRAS, re.MULTILINE)
    for argument in arguments:
        extras = re.fullmatch(r'(?:\.|rtmdet_plugin)\[(.+)\]', argument)
        assert extras and set(extras[1].split(',')) <= set(known), argument


COMMANDS = {'rtmdet': run_rtmdet, 'mim': run_mim, 'make': check_make, 'pip': check_pip}


def run_line(line: str, extra: str = '') -> None:
    """Run a line of a shell, in the current folder.

    Args:
        line: the line as it is shown, which may end with a comment.
        extra: arguments that are added to the line.

    Raises:
        KeyError: if it is none of `COMMANDS`.
    """
    command, *arguments = [*shlex.split(line, comments=True), *shlex.split(extra)]
    COMMANDS[command](*arguments)
