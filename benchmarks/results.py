"""Describe the machine, and write the rows of a benchmark with it to benchmarks/results."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from rtmdet_cli.doctor import versions
from rtmdet_plugin.doctor.machine import cpu_features, cpu_name, gpus
from rtmdet_plugin.version import __version__
from rtmdet_runtime.cpu_cores import available_cores
from rtmdet_runtime.output import write_json

RESULTS = Path(__file__).parent / 'results'
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
ISA = 'ONEDNN_MAX_CPU_ISA'
_LOAD = os.getloadavg()[0]  # when the script starts: later it is the script's own


def device_name() -> str:
    """Return the GPU's name, or the number of CPU threads."""
    return torch.cuda.get_device_name() if DEVICE == 'cuda' else f'CPU, {torch.get_num_threads()} threads'


def cpu_kind(name: str, features: Sequence[str]) -> str:
    """Return a short name of a processor: family and widest instructions, for example xeon-avx512.

    Args:
        name: model, as Linux names it.
        features: as `cpu_features` names them.
    """
    words = re.sub(r'\(\w+\)', '', name).lower().split()
    family = next((word for word in words if word not in ('amd', 'intel', 'genuine')), 'cpu')
    widest = [isa for isa in ('AMX', 'AVX512', 'AVX2', 'NEON') if any(f.startswith(isa) for f in features)]
    return '-'.join([family, *widest[:1]]).lower()


def machine_kind() -> str:
    """Return the short name of the GPU or of the processor, as in the names of results."""
    if DEVICE == 'cuda':
        return re.sub(r'\W+', '-', device_name().removeprefix('NVIDIA ')).lower()
    limit = [f'max-{os.environ[ISA].lower()}'] if ISA in os.environ else []
    return '-'.join([cpu_kind(cpu_name(), cpu_features()), *limit])


def machine() -> dict:
    """Return what figures depend on: hardware, threads, load, versions, date."""
    packages = dict(python=platform.python_version(), rtmdet_plugin=__version__, **versions())
    return dict(
        kind=machine_kind(),
        gpus=list(gpus()),
        cpu=cpu_name(),
        features=cpu_features(),
        cores=available_cores(),
        threads=torch.get_num_threads(),
        **{ISA: os.environ.get(ISA)},
        load_at_start=_LOAD,
        versions=packages,
        date=date.today().isoformat(),
    )


def result_file(name: str, suffix: str = '.json') -> Path:
    """Return the file of a benchmark's results on this machine."""
    return RESULTS / f'{name}_{DEVICE}_{machine_kind()}{suffix}'


def command() -> str:
    """Return the command that runs this script, without the folders of its paths."""
    script, *arguments = (Path(word).name if os.sep in word else word for word in sys.argv)
    return ' '.join(['python', f'benchmarks/{script}', *arguments])


def write_rows(name: str, rows: Sequence[dict]) -> None:
    """Write the rows of a benchmark, with the command and the machine, to `result_file`, and print its path."""
    write_json(result_file(name), dict(command=command(), machine=machine(), rows=list(rows)))
    print(result_file(name).relative_to(RESULTS.parents[1]))


def print_rows(name: str, rows: Sequence[dict], columns: Sequence[str]) -> None:
    """Print these columns of the rows as a table."""
    table = Table(*columns, title=f'{name}: {device_name()}, torch {torch.__version__}')
    for row in rows:
        cells = (row.get(column, '') for column in columns)
        table.add_row(*(f'{cell:.4g}' if isinstance(cell, float) else str(cell) for cell in cells))
    Console(width=160).print(table)


def report(name: str, rows: Sequence[dict], columns: Sequence[str] | None = None, save: bool = True) -> None:
    """Print the rows as a table, and write them to `result_file`.

    Args:
        name: name of the benchmark.
        rows: figures by name.
        columns: those to print; by default all of the first row.
        save: whether to write them.
    """
    print_rows(name, rows, columns or list(rows[0]))
    if save:
        write_rows(name, rows)
