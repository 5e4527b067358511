"""Check result files before their content is computed, and write them atomically."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from .atomic_files import check_writable, naming, unfinished

STDOUT = Path('-')
"""Name of a JSON file that stands for standard output."""
METADATA = r'\{\s*"rtmdet\.'
"""Pattern of the beginning of the JSON file with the metadata of an ncnn or TensorRT model."""
MODELS = {'.onnx': r'\x08', '.xml': r'<\?xml[^>]*>\s*<net\b', '.param': r'7767517\b'}
"""Patterns of the beginning of a model file by its ending: ONNX's version, OpenVINO's element, ncnn's number."""
InputFiles = Mapping[tuple[int, int], Path]
"""Files that a command reads, by device and inode, which are the same for all links to a file and spellings."""


def companion_files(model: Path) -> list[Path]:
    """Return the other files of a model, which depend on the ending of its name."""
    if model.suffix == '.engine':
        return [model.with_name(f'{model.name}.json')]
    endings = {'.xml': ['.bin'], '.param': ['.bin', '.json']}.get(model.suffix, [])
    return [model.with_suffix(ending) for ending in endings]


def input_files(paths: Iterable[str | Path]) -> InputFiles:
    """Return the files that a command reads, with all files of its models; files that don't exist are skipped."""
    found = {}
    for path in map(Path, paths):
        for file in (path, *companion_files(path)):
            with contextlib.suppress(OSError):
                found[_identity(file)] = file
    return found


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def check_output(path: Path, inputs: InputFiles, endings: Iterable[str], beginning: str | None = None) -> None:
    """Check that a result can be written without replacing an input or a file of another kind.

    Call it before the result is computed. The other files of a model are checked as well; a weights file (.bin) must
    belong to an earlier model of this name.

    Args:
        path: the file to write.
        inputs: see `input_files`.
        endings: accepted endings of the name.
        beginning: regular expression for the beginning of a file that may be replaced; None for the one in `MODELS`, or
            anything for other endings.

    Raises:
        ValueError: if the ending isn't accepted, or an input or a file of another kind would be replaced.
        OSError: see `check_writable`.
    """
    if path.suffix not in endings:
        raise ValueError(f'the name of {path} must end in {", ".join(endings)}, got {path.suffix or "no ending"}')
    others = [(file, METADATA if file.suffix == '.json' else None) for file in companion_files(path)]
    for file, start in ((path, beginning or MODELS.get(path.suffix)), *others):
        check_writable(file)
        if not file.exists():
            continue
        if (source := inputs.get(_identity(file))) is not None:
            raise ValueError(f'{file} would replace the input {source}; choose another name')
        stray = file.suffix == '.bin' and not path.exists()
        if stray or start is not None and not _begins_with(file, start):
            raise ValueError(f'{file} would replace a file of another kind; choose another name, or remove it')


def check_json(path: Path, inputs: InputFiles, beginning: str) -> None:
    """Like `check_output`, for a JSON file; `-` is standard output, which replaces nothing.

    Args:
        path: see `check_output`.
        inputs: see `check_output`.
        beginning: regular expression for the beginning of earlier results, which may be replaced.

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
    """Write a result file atomically; create its folder if necessary. If `path` is a link, its target is written.

    Raises:
        OSError: with the name of the file; see `unfinished`.
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
