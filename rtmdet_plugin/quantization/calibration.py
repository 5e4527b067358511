"""Observe the values of an ONNX graph's tensors on images, and choose the ranges that 8 bits cover.

ONNX Runtime has calibrators of its own. They hold the tensors of all images in memory at once, and their entropy
method, with as many bins as it needs, took over six minutes for the smallest RTMDet.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort

BINS = 2048
LEVELS = 128
"""Number of levels of one sign in 8 bits."""
Track = Callable[..., Iterable]
"""Function that returns `items` unchanged and may show progress: `track(items, description=..., total=...)`."""


def no_progress(items: Iterable, description: str, total: int | None = None) -> Iterable:
    """Return `items` without showing progress."""
    return items


@dataclass(frozen=True)
class Observation:
    """Statistics of one tensor over all images.

    Attributes:
        low, high: smallest and largest value.
        histogram: counts of the absolute values from 0 to the largest, int64. (BINS,)
    """

    low: float
    high: float
    histogram: np.ndarray

    @property
    def top(self) -> float:
        """Largest absolute value."""
        return max(-self.low, self.high)


def observe(
    model: onnx.ModelProto, tensors: Iterable[str], inputs: Callable[[str], Iterable[np.ndarray]], threads: int | None
) -> dict[str, Observation]:
    """Run a model on inputs and collect statistics of its tensors.

    The inputs are processed twice: first for the smallest and largest values, then for the histograms.

    Args:
        model: a checked model with inferred shapes.
        tensors: names of the tensors to observe.
        inputs: function that yields the network's inputs each time it is called; its argument describes the pass.
        threads: number of ONNX Runtime's threads; None for its own choice.

    Returns:
        Statistics by the tensor's name.
    """
    tensors = list(tensors)
    run = open_runner(model, tensors, threads)
    ends = np.tile(np.array([np.inf, -np.inf]), (len(tensors), 1))  # (T, 2)
    for images in inputs('Finding the ends of ranges'):
        for end, values in zip(ends, run(images), strict=True):
            end[:] = min(end[0], values.min()), max(end[1], values.max())
    histograms = np.zeros((len(tensors), BINS), np.int64)
    tops = np.maximum(-ends[:, 0], ends[:, 1])
    for images in inputs('Counting values'):
        for histogram, top, values in zip(histograms, tops, run(images), strict=True):
            histogram += absolute_histogram(values, top)
    return {
        name: Observation(low, high, histogram)
        for name, (low, high), histogram in zip(tensors, ends.tolist(), histograms, strict=True)
    }


def open_runner(
    model: onnx.ModelProto, tensors: list[str], threads: int | None
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function from the network's input to the values of the named tensors."""
    model = copy.deepcopy(model)
    outputs = {value.name for value in model.graph.output}
    kind = onnx.TensorProto.FLOAT
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, kind, None) for name in tensors if name not in outputs
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda images: list(session.run(tensors, {name: images}))


def absolute_histogram(values: np.ndarray, top: float) -> np.ndarray:
    """Count absolute values from 0 to `top` in `BINS` bins, int64, (BINS,)."""
    scale = np.float32(BINS / top) if top > 0 else np.float32(0)
    bins = np.minimum(np.abs(values.reshape(-1)) * scale, np.float32(BINS - 1)).astype(np.int32)
    return np.bincount(bins, minlength=BINS)


def value_range(observation: Observation, method: str, percentile: float) -> tuple[float, float]:
    """Choose the range of values that 8 bits cover; values outside are clipped.

    Args:
        observation: statistics of a tensor.
        method: 'minmax' for the range of all values. The others choose the largest absolute value to cover: see
            `mse_bins`, `percentile_bins` and `entropy_bins`.
        percentile: share of the absolute values to cover, in percent; used by the method 'percentile'.

    Returns:
        Smallest and largest value of the range.
    """
    if method == 'minmax':
        return observation.low, observation.high
    if method == 'mse':
        bins = mse_bins(observation)
    elif method == 'percentile':
        bins = percentile_bins(observation.histogram, percentile)
    else:
        bins = entropy_bins(observation.histogram)
    limit = observation.top * bins / BINS
    return max(observation.low, -limit), min(observation.high, limit)


def mse_bins(observation: Observation) -> int:
    """Return the number of bins with the least mean squared error of clipping values above them and rounding others."""
    histogram = observation.histogram.astype(np.float64)
    centers = np.arange(BINS) + 0.5
    tried = np.arange(8, BINS + 1, 8)
    beyond = np.maximum(centers - tried[:, None], 0)  # (tries, BINS)
    # Width of a level, in bins: the range extends to the limit, or only to the values if they end before it.
    width = (np.minimum(-observation.low / observation.top * BINS, tried) if observation.low < 0 else 0) + (
        np.minimum(observation.high / observation.top * BINS, tried) if observation.high > 0 else 0
    )
    inside = np.cumsum(histogram)[tried - 1]
    errors = beyond**2 @ histogram + inside * (width / (2 * LEVELS - 1)) ** 2 / 12
    return int(tried[np.argmin(errors)])


def percentile_bins(histogram: np.ndarray, percentile: float) -> int:
    """Return the smallest number of bins that hold at least `percentile` percent of the values."""
    total = np.cumsum(histogram)
    return int(np.searchsorted(total, total[-1] * percentile / 100)) + 1


def entropy_bins(histogram: np.ndarray) -> int:
    """Return the number of bins that loses the least information in `LEVELS` levels if values above it are clipped.

    Args:
        histogram: counts of absolute values. (BINS,)

    Source: Migacz, 8-bit inference with TensorRT, GTC 2017.
    """
    histogram = histogram.astype(np.float64)
    tried = list(range(LEVELS, len(histogram) + 1, 16))
    return tried[int(np.argmin([_divergence(histogram, bins) for bins in tried]))]


def _divergence(histogram: np.ndarray, bins: int) -> float:
    """Return the Kullback-Leibler divergence of the clipped distribution from its quantisation to `LEVELS` levels."""
    inside = histogram[:bins]
    clipped = inside.copy()
    clipped[-1] += histogram[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    filled = inside > 0
    counts = np.bincount(level, weights=filled, minlength=LEVELS)
    sums = np.bincount(level, weights=inside, minlength=LEVELS)
    quantized = np.where(filled, (sums / np.maximum(counts, 1))[level], 0)
    if not quantized.sum():
        return np.inf
    p, q = clipped / clipped.sum(), quantized / quantized.sum()
    found = p > 0
    return float(np.sum(p[found] * np.log(p[found] / np.maximum(q[found], 1e-12))))
