"""How long models take: latency of pictures one by one with its parts, and throughput by batch, candidates in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rtmdet_runtime import RTMDetector

Step = Callable[[], object]
PAUSE = 0.1
"""Seconds between calls: the threads of one runtime go on spinning for a moment, at the expense of the next one."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds.

    Attributes:
        median, p95: of all runs after the warm-up.
    """

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        milliseconds = np.asarray(seconds) * 1e3
        return cls(float(np.median(milliseconds)), float(np.percentile(milliseconds, 95)))


def take_turns(candidates: Mapping[str, Step], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each call, in turns, so that a noisy machine is noisy for all of them.

    Args:
        candidates: by name.
        rounds: calls of each that count.
        warmup: calls of each before those.

    Raises:
        ValueError: where `rounds` is below 1.
    """
    if rounds < 1:
        raise ValueError(f'rounds={rounds}; accepted: 1 or more')
    seconds = {name: [] for name in candidates}
    for turn in range(warmup + rounds):
        for name, candidate in candidates.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            candidate()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def latency_rows(
    detectors: Mapping[str, RTMDetector], image: np.ndarray, rounds: int, others: Mapping[str, Step] | None = None
) -> list[dict]:
    """For each model: `predict` of one picture, the network alone, and what post-processing takes, in milliseconds.

    Args:
        detectors: by name.
        image: BGR, uint8, decoded. (H, W, 3)
        rounds: calls that count.
        others: by name, what else predicts this picture; it has no parts, which are None. The rows begin with them.
    """
    steps: dict[str, Step] = {f'{name}/predict': step for name, step in (others or {}).items()}
    for name, detector in detectors.items():
        inputs, scales = detector.preprocess([image])
        outputs = [output[0] for output in detector.backend(inputs)]
        steps[f'{name}/predict'] = lambda detector=detector: detector.predict(image)
        steps[f'{name}/network'] = lambda detector=detector, inputs=inputs: detector.backend(inputs)
        steps[f'{name}/post'] = lambda d=detector, o=outputs, s=scales[0]: d.postprocess(o, s)
    latencies = {name: Latency.of(times) for name, times in take_turns(steps, rounds).items()}
    rows = []
    for name in [*(others or {}), *detectors]:
        predict = latencies[f'{name}/predict']
        network, post = (latencies.get(f'{name}/{part}') for part in ('network', 'post'))
        rows.append(
            dict(
                model=name,
                median_ms=predict.median,
                p95_ms=predict.p95,
                network_ms=network and network.median,
                post_ms=post and post.median,
            )
        )
    return rows


def throughput_rows(
    detectors: Mapping[str, RTMDetector], image: np.ndarray, batches: Sequence[int], rounds: int
) -> list[dict]:
    """For each model and batch size: pictures a second through `predict`; a model with a fixed batch has that alone."""
    steps: dict[tuple[str, int], Step] = {}
    for name, detector in detectors.items():
        for batch in [detector.backend.batch] if detector.backend.batch else batches:
            steps[name, batch] = lambda d=detector, b=batch: d.predict([image] * b, batch_size=b)
    seconds = take_turns(steps, rounds, warmup=1)
    return [
        dict(model=name, batch=batch, images_per_s=batch / statistics.median(seconds[name, batch]))
        for name, batch in steps
    ]
