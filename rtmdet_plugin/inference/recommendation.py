"""Find the fastest backend, precision and number of threads of a machine: what is measured, and the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from torch import nn

from ..checkpoints.load_model import load_model, read_config
from ..export.convert import to_ncnn
from ..export.onnx_export import export_onnx
from .benchmark import PAUSE, Latency, Name, Step, take_turns

CONFIG = 'rtmdet_plugin::rtmdet_tiny.py'
SECONDS = 60.0
"""Time that the measured calls take together."""
FEWEST_ROUNDS = 3
TIE = 1.05
"""Ratio to the lowest median within which fewer threads are preferred."""


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the numbers of threads to measure on a number of CPU cores: one, half of the cores, and all of them."""
    return tuple(sorted({1, max(1, cores // 2), cores}))


def write_random_model(folder: Path) -> tuple[list[Path], Path]:
    """Write the model of `CONFIG` with random weights, which take as much time as trained ones.

    Args:
        folder: folder to write to.

    Returns:
        The exported models, for ncnn as well if it and its converter are installed, and the checkpoint.
    """
    config = read_config(CONFIG)
    init_default_scope(config.get('default_scope', 'mmdet'))
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)  # otherwise activations fade to 0, layer by layer
    checkpoint, onnx = folder / 'rtmdet_tiny.pth', folder / 'rtmdet_tiny.onnx'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    export_onnx(load_model(CONFIG, checkpoint), onnx, opset=17)  # 17: the faster exporter
    if not (find_spec('ncnn') and find_spec('pnnx')):
        return [onnx], checkpoint
    to_ncnn(onnx, onnx.with_suffix('.param'))
    return [onnx, onnx.with_suffix('.param')], checkpoint


def latencies_within(seconds: float, steps: Mapping[Name, Step], rounds: int) -> dict[Name, Latency]:
    """Measure functions in turns, in about the given time.

    Args:
        seconds: duration of all measured calls; `FEWEST_ROUNDS` rounds are measured even if they take longer.
        steps: functions by name.
        rounds: maximum number of calls of each function.
    """
    first = take_turns(steps, 1, warmup=1)
    duration = sum(times[0] + PAUSE for times in first.values())
    rounds = min(rounds, max(FEWEST_ROUNDS, int(seconds / duration)))
    return {name: Latency.of(times) for name, times in take_turns(steps, rounds, warmup=0).items()}


def fastest(rows: Sequence[Mapping]) -> Mapping:
    """Return the row with the lowest `median_ms`; of those within `TIE` of it, one with the fewest `threads`.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError('rows must have at least one row, got none')
    limit = TIE * min(row['median_ms'] for row in rows)
    return min((row for row in rows if row['median_ms'] <= limit), key=lambda row: (row['threads'], row['median_ms']))
