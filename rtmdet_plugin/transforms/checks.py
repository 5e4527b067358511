"""Checks of arguments that several transforms share; each returns the accepted value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

from ..errors import RefusedError


def check_at_least(name: str, value: int, low: int) -> int:
    """Return `value` if it is an integer of at least `low`; raise RefusedError otherwise."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise RefusedError(f'{name} must be an integer of at least {low}, got {value!r}.')
    return int(value)


def check_probability(name: str, value: float) -> float:
    """Return `value` if it is a number from 0 to 1; raise RefusedError otherwise."""
    if not _is_real(value) or not 0 <= value <= 1:
        raise RefusedError(f'{name} must be a number from 0 to 1, got {value!r}.')
    return value


def check_image_scale(name: str, value: Sequence[int]) -> tuple[int, int]:
    """Return `value` as (width, height) in pixels; raise RefusedError unless both are positive integers."""
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    if not pair or not all(isinstance(v, Integral) and not isinstance(v, bool) and v > 0 for v in value):
        raise RefusedError(f'{name} must be two positive integers (width, height), got {value!r}.')
    return int(value[0]), int(value[1])


def check_range(name: str, value: Sequence[float], high: float | None = None) -> tuple[float, float]:
    """Return `value` if it is two numbers with 0 < a <= b (<= `high`, if given); raise RefusedError otherwise."""
    pair = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    ordered = pair and all(map(_is_real, value)) and 0 < value[0] <= value[1]
    if not ordered or (high is not None and value[1] > high):
        limit = '' if high is None else f' <= {high}'
        raise RefusedError(f'{name} must be two numbers (a, b) with 0 < a <= b{limit}, got {value!r}.')
    return value[0], value[1]


def check_pad_value(name: str, value: float | Sequence[float]) -> float | tuple[float, ...]:
    """Return `value`, a number from 0 to 255 or one per channel of three; raise RefusedError otherwise."""
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(values) not in (1, 3) or not all(_is_real(v) and 0 <= v <= 255 for v in values):
        raise RefusedError(f'{name} must be a number from 0 to 255, or three of them, got {value!r}.')
    return values[0] if len(values) == 1 else values


def _is_real(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
