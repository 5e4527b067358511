"""Build the wheel in a folder, and remove older ones there; `make wheel` runs this file.

    python tests/wheels.py dist

It is built from a copy of the repository, because a build leaves files there and includes those of earlier builds.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
LEADING_BACK = ('PYTHONPATH', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')
"""Variables through which a child process would find this repository, or the make that started it."""


def clean_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment variables, without those of `LEADING_BACK`, and with `changes`."""
    return {name: value for name, value in os.environ.items() if name not in LEADING_BACK} | changes


def create_venv(folder: Path) -> Path:
    """Create a virtual environment with pip; return its interpreter."""
    subprocess.run([sys.executable, '-m', 'venv', folder], check=True, env=clean_environment())
    return folder / 'bin' / 'python'


def copy_source(folder: Path) -> None:
    """Copy what a build needs into an existing folder; symbolic links stay links."""
    for name in ('rtmdet_cli', 'rtmdet_plugin', 'rtmdet_runtime', 'configs'):
        shutil.copytree(REPO / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for path in REPO.iterdir():
        if path.is_file() and path.name != '.git':
            shutil.copy(path, folder)


def build_wheel(python: str | Path, source: Path, out: Path, *flags: str) -> Path:
    """Build the wheel of the project in `source` with the pip of `python`; return its path in `out`."""
    command = [python, '-m', 'pip', 'wheel', '.', '--no-deps', '-q', '-w', out, *flags]
    subprocess.run(command, cwd=source, check=True, env=clean_environment())
    return next(out.glob('*.whl'))


def write_wheel(out: Path) -> Path:
    """Build the wheel of this repository in a temporary environment; it replaces earlier ones in `out`."""
    with tempfile.TemporaryDirectory(prefix='rtmdet-wheel-') as name:
        folder = Path(name)
        for part in ('source', 'built'):
            (folder / part).mkdir()
        copy_source(folder / 'source')
        built = build_wheel(create_venv(folder / 'venv'), folder / 'source', folder / 'built')
        out.mkdir(parents=True, exist_ok=True)
        for earlier in out.glob('rtmdet_plugin-*.whl'):
            earlier.unlink()
        return Path(shutil.copy(built, out))


if __name__ == '__main__':
    print(write_wheel(Path(sys.argv[1])))
