"""Measure the latency of one image with its parts, and the throughput by batch size; candidates take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from rtmdet_runtime import RTMDetector

Step = Callable[[], object]
Name = TypeVar('Name')
Figures = TypeVar('Figures')
PAUSE = 0.1
"""Seconds between calls, because the threads of one runtime keep spinning for a moment and slow down the next one."""


@dataclass(frozen=True)
class Latency:
    """Latency in milliseconds.

    Attributes:
        median: median of all calls.
        p95: 95th percentile.
    """

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Summarise the durations of calls in seconds."""
        milliseconds = np.asarray(seconds) * 1e3
        return cls(float(np.median(milliseconds)), float(np.percentile(milliseconds, 95)))


def in_turns(
    candidates: Mapping[Name, Callable[[], Figures]], rounds: int, warmup: int = 0
) -> dict[Name, list[Figures]]:
    """Call candidates in turns, so that a noisy machine is noisy for all of them.

    Args:
        candidates: functions by name.
        rounds: number of measured calls of each candidate.
        warmup: number of calls of each candidate before those; their results are dropped.

    Returns:
        The results of the measured calls of each candidate.

    Raises:
        ValueError: if `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f'rounds must be at least 1, got {rounds}')
    figures: dict[Name, list[Figures]] = {name: [] for name in candidates}
    for _ in range(warmup + rounds):
        for name, candidate in candidates.items():
            figures[name].append(candidate())
    return {name: values[warmup:] for name, values in figures.items()}


def seconds_of(step: Step) -> float:
    """Return the duration of a call in seconds, measured after a pause."""
    time.sleep(PAUSE)
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def take_turns(candidates: Mapping[Name, Step], rounds: int, warmup: int = 2) -> dict[Name, list[float]]:
    """Return the durations of all calls in seconds; see `in_turns`."""
    return in_turns({name: partial(seconds_of, step) for name, step in candidates.items()}, rounds, warmup)


def latency_steps(detectors: Mapping[str, RTMDetector], image: np.ndarray) -> dict[tuple[str, str], Step]:
    """Return what is measured for the latency of each model: its name, and `predict`, `network` or `post`.

    Args:
        detectors: models by name.
        image: BGR, uint8, decoded. (H, W, 3)
    """
    steps: dict[tuple[str, str], Step] = {}
    for name, detector in detectors.items():
        inputs, placements = detector.preprocess([image])
        outputs = [output[0] for output in detector.backend(inputs)]
        steps[name, 'predict'] = lambda detector=detector: detector.predict(image)
        steps[name, 'network'] = lambda detector=detector, inputs=inputs: detector.backend(inputs)
        steps[name, 'post'] = lambda d=detector, o=outputs, p=placements[0]: d.postprocess(o, p)
    return steps


def latency_rows(detectors: Mapping[str, RTMDetector], image: np.ndarray, rounds: int) -> list[dict]:
    """Measure `predict` of one image, the network and the post-processing of each model, in milliseconds.

    Args:
        detectors: models by name.
        image: BGR, uint8, decoded. (H, W, 3)
        rounds: number of measured calls.
    """
    latencies = {key: Latency.of(times) for key, times in take_turns(latency_steps(detectors, image), rounds).items()}
    return [
        dict(
            model=name,
            median_ms=latencies[name, 'predict'].median,
            p95_ms=latencies[name, 'predict'].p95,
            network_ms=latencies[name, 'network'].median,
            post_ms=latencies[name, 'post'].median,
        )
        for name in detectors
    ]


def throughput_rows(
    detectors: Mapping[str, RTMDetector], image: np.ndarray, batches: Sequence[int], rounds: int
) -> list[dict]:
    """Measure images per second of `predict`, for each model and each batch size that the model accepts."""
    steps: dict[tuple[str, int], Step] = {}
    for name, detector in detectors.items():
        for batch in [detector.backend.batch] if detector.backend.batch else batches:
            steps[name, batch] = lambda d=detector, b=batch: d.predict([image] * b, batch_size=b)
    seconds = take_turns(steps, rounds, warmup=1)
    return [
        dict(model=name, batch=batch, images_per_s=batch / statistics.median(seconds[name, batch]))
        for name, batch in steps
    ]
