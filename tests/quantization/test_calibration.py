"""Histograms and ranges, against values computed by hand or by numpy."""

import numpy as np
import pytest

from rtmdet_plugin.quantization.calibration import (
    BINS,
    Observation,
    absolute_histogram,
    entropy_bins,
    mse_bins,
    percentile_bins,
    value_range,
)


def seen(values: np.ndarray) -> Observation:
    top = np.abs(values).max()
    return Observation(float(values.min()), float(values.max()), absolute_histogram(values.astype(np.float32), top))


def test_histogram_of_absolute_values():
    values = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    top = np.abs(values).max()
    expected, _ = np.histogram(np.abs(values), BINS, range=(0, top))
    found = absolute_histogram(values, top)
    assert found.sum() == 5000 and np.abs(found - expected).sum() < 10  # rounding at the edges
    assert absolute_histogram(np.zeros(7, np.float32), 0.0)[0] == 7


def test_minmax_is_everything():
    assert value_range(seen(np.array([-0.25, 1.0, 4.0])), 'minmax', 99) == (-0.25, 4.0)


def test_percentile_leaves_out_the_outlier():
    values = np.append(np.linspace(0, 1, 9999), 100)
    low, high = value_range(seen(values), 'percentile', 99.99)
    assert low == 0 and 1 <= high < 1.1
    assert percentile_bins(seen(values).histogram, 100) == BINS


def test_a_short_side_stays_whole():
    low, high = value_range(seen(np.append(np.linspace(-0.28, 1, 9999), 100)), 'percentile', 99)
    assert low == -0.28 and high < 1.1


@pytest.mark.parametrize('tail', [2, 20, 200])
def test_mse_is_the_least_error_of_all_limits(tail):
    generator = np.random.default_rng(tail)
    values = np.append(generator.normal(size=20000), generator.uniform(0, tail, 20)).astype(np.float32)
    observation = seen(values)

    def error(bins: int) -> float:
        limit = observation.top * bins / BINS
        low, high = max(observation.low, -limit), min(observation.high, limit)
        step = (high - low) / 255
        return float(np.mean((np.round(np.clip(values, low, high) / step) * step - values) ** 2))

    best = min(error(bins) for bins in range(8, BINS + 1, 8))
    assert error(mse_bins(observation)) <= 1.1 * best


def test_entropy_clips_a_thin_tail():
    generator = np.random.default_rng(0)
    values = np.append(generator.normal(size=200_000), 30.0)
    assert 2 < value_range(seen(values), 'entropy', 99)[1] < 10
    uniform = np.full(BINS, 100)
    assert entropy_bins(uniform) == BINS
