"""Checks of the arguments that the mixing transforms share; each returns the value that it accepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from ..errors import RefusedError


def check_at_least(name: str, value: int, low: int) -> int:
    """An integer of at least `low`, or RefusedError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise RefusedError(f'{name}={value!r}; accepted: an integer of at least {low}.')
    return int(value)


def check_probability(name: str, value: float) -> float:
    """A number from 0 to 1, or RefusedError."""
    if not _is_real(value) or not 0 <= value <= 1:
        raise RefusedError(f'{name}={value!r}; accepted: a number from 0 to 1.')
    return value


def check_image_scale(name: str, value: Sequence[int]) -> tuple[int, int]:
    """(width, height) in pixels, both positive integers, or RefusedError."""
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not pair or not all(isinstance(v, Integral) and not isinstance(v, bool) and v > 0 for v in value):
        raise RefusedError(f'{name}={value!r}; accepted: two positive integers, (width, height).')
    return int(value[0]), int(value[1])


def check_range(name: str, value: Sequence[float], high: float | None = None) -> tuple[float, float]:
    """Two ordered numbers above 0 (and up to `high`, where it is given), or RefusedError."""
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    ordered = pair and all(map(_is_real, value)) and 0 < value[0] <= value[1]
    if not ordered or (high is not None and value[1] > high):
        limit = '' if high is None else f' <= {high}'
        raise RefusedError(f'{name}={value!r}; accepted: two numbers (a, b) with 0 < a <= b{limit}.')
    return value[0], value[1]


def check_pad_value(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    """A number from 0 to 255, or one for each of three channels, or RefusedError."""
    values = (value,) if _is_real(value) else value
    right = isinstance(values, Sequence) and not isinstance(values, str) and len(values) in (1, 3)
    if not right or not all(_is_real(v) and 0 <= v <= 255 for v in values):
        raise RefusedError(f'{name}={value!r}; accepted: a number from 0 to 255, or three of them.')
    return values[0] if len(values) == 1 else tuple(values)


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
