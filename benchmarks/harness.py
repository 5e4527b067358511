"""What the benchmarks share: alternating runs, medians, peak memory, tables and JSON."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / 'results'
Figures = TypeVar('Figures')


def device_name() -> str:
    """The accelerator's name, or the number of CPU threads."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turns(candidates: dict[str, Callable[[], Figures]], rounds: int) -> dict[str, list[Figures]]:
    """What each candidate gives in each round, called in turns, so that a noisy machine is noisy for all of them."""
    figures = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, candidate in candidates.items():
            figures[name].append(candidate())
    return figures


def seconds_of(candidate: Callable[[], object]) -> float:
    """How long a call takes, on a GPU as well."""
    synchronize()
    start = time.perf_counter()
    candidate()
    synchronize()
    return time.perf_counter() - start


def alternate(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each candidate, measured in turns; a first call of each is the warm-up."""
    runs = in_turns({name: partial(seconds_of, call) for name, call in candidates.items()}, repeats + 1)
    return {name: statistics.median(seconds[1:]) for name, seconds in runs.items()}


def peak_memory(candidate: Callable[[], None]) -> float:
    """MB that a call holds at its worst, over what was held before: the allocator's own count of tensors."""
    if torch.cuda.is_available():
        synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        candidate()
        synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        candidate()
    # The profiler's log of allocations and frees in their order; its running sum is what is held.
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == '[memory]']
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 2**20


def write(name: str, rows: list[dict], columns: list[str]) -> None:
    """Print the rows as a table and write them to results/<name>_<device>.json."""
    kind = 'cuda' if torch.cuda.is_available() else 'cpu'
    table = Table(*columns, title=f'{name}: {device_name()}, torch {torch.__version__}')
    for row in rows:
        table.add_row(*(f'{row[c]:.4g}' if isinstance(row[c], float) else str(row[c]) for c in columns))
    Console(width=160).print(table)
    content = dict(device=device_name(), machine=platform.machine(), torch=torch.__version__, rows=rows)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f'{name}_{kind}.json').write_text(json.dumps(content, indent=1) + '\n')
