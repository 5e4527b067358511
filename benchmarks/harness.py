"""Medians of alternating runs, peak memory, tables and JSON of the benchmarks."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from rtmdet_plugin.inference.benchmark import Name, take_turns

RESULTS = Path(__file__).parent / 'results'


def device_name() -> str:
    """Return the accelerator's name, or the number of CPU threads."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f'CPU, {torch.get_num_threads()} threads'


def synchronize() -> None:
    """Wait for the GPU if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def durations(candidates: dict[Name, Callable[[], object]], repeats: int) -> dict[Name, list[float]]:
    """Measure the seconds of each candidate in turns, on a GPU too; a first call of each is the warm-up."""

    def complete(candidate: Callable[[], object]) -> None:
        candidate()
        synchronize()

    steps = {name: partial(complete, candidate) for name, candidate in candidates.items()}
    return take_turns(steps, repeats, warmup=1)


def alternate(candidates: dict[Name, Callable[[], object]], repeats: int) -> dict[Name, float]:
    """Return the medians of `durations`."""
    return {name: statistics.median(seconds) for name, seconds in durations(candidates, repeats).items()}


def peak_memory(candidate: Callable[[], object]) -> float:
    """Measure how many MB of tensors a call holds at its peak, in addition to those held before."""
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
