"""Result files: checked before the work that they are for, and written atomically."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from .atomic_files import check_writable, naming, unfinished

STDOUT = Path('-')
"""Standard output, as the name of a JSON file."""
METADATA = r'\{\s*"rtmdet\.'
"""Beginning of the JSON file beside a model of ncnn or TensorRT."""
MODELS = {'.onnx': r'\x08', '.xml': r'<\?xml[^>]*>\s*<net\b', '.param': r'7767517\b'}
"""Beginning of a model by the ending of its name: the version of ONNX, OpenVINO's element, ncnn's number."""
InputFiles = Mapping[tuple[int, int], Path]
"""Files that a command reads, by device and inode, which all links to a file and all spellings of its name share."""


def files_beside(model: Path) -> list[Path]:
    """Return the other files of a model, by the ending of its name."""
    if model.suffix == '.engine':
        return [model.with_name(f'{model.name}.json')]
    endings = {'.xml': ['.bin'], '.param': ['.bin', '.json']}.get(model.suffix, [])
    return [model.with_suffix(ending) for ending in endings]


def input_files(paths: Iterable[str | Path]) -> InputFiles:
    """Return the files that a command reads, with those beside a model; names without a file are left out."""
    found = {}
    for path in map(Path, paths):
        for file in (path, *files_beside(path)):
            with contextlib.suppress(OSError):
                found[_identity(file)] = file
    return found


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def check_output(path: Path, inputs: InputFiles, endings: Iterable[str], beginning: str | None = None) -> None:
    """Refuse a result that would replace an input or a file of another kind, before the work that it is for.

    The files that are written beside a model are checked as well: weights (.bin) must belong to an earlier one.

    Args:
        path: the file to write.
        inputs: see `input_files`.
        endings: those that its name may have.
        beginning: what a file that is there already must begin with, as a regular expression; None for that in
            `MODELS`, or anything for other endings.

    Raises:
        ValueError: if the ending is another one, or if an input or a file of another kind would be replaced.
        OSError: see `check_writable`.
    """
    if path.suffix not in endings:
        raise ValueError(f'the name of {path} must end in {", ".join(endings)}, got {path.suffix or "no ending"}')
    beside = [(file, METADATA if file.suffix == '.json' else None) for file in files_beside(path)]
    for file, start in ((path, beginning or MODELS.get(path.suffix)), *beside):
        check_writable(file)
        if not file.exists():
            continue
        if (source := inputs.get(_identity(file))) is not None:
            raise ValueError(f'{file} would replace the input {source}; choose another name')
        stray = file.suffix == '.bin' and not path.exists()
        if stray or start is not None and not _begins_with(file, start):
            raise ValueError(f'{file} would replace a file of another kind; choose another name, or remove it')


def check_json(path: Path, inputs: InputFiles, beginning: str) -> None:
    """Do as `check_output` for a JSON file; `-` is standard output, which replaces nothing.

    Args:
        path: see `check_output`.
        inputs: see `check_output`.
        beginning: beginning of earlier results, which may be replaced.

    Raises:
        ValueError, OSError: see `check_output`.
    """
    if path != STDOUT:
        check_output(path, inputs, ('.json',), beginning)


def _begins_with(path: Path, beginning: str) -> bool:
    with open(path, 'rb') as file:
        head = file.read(4096).decode(errors='replace').strip()
    return not head or re.match(beginning, head) is not None


def write_result(path: Path, content: bytes) -> None:
    """Write a result file atomically; its folder is made if need be, a link to it stays one.

    Raises:
        OSError: it names the file; see `unfinished`.
    """
    with unfinished(path) as (file,):
        file.write_bytes(content)


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically; `-` is standard output.

    Raises:
        OSError: see `write_result`.
    """
    text = json.dumps(content, indent=1) + '\n'
    if path == STDOUT:
        with naming('standard output'):
            sys.stdout.write(text)
            sys.stdout.flush()
    else:
        write_result(path, text.encode())
