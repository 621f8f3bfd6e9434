"""The least of a function with one valley, by golden section."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_GOLDEN = (5**0.5 - 1) / 2


def least_at(cost: Callable[[float], float], low: float, high: float, *, within: float = 1e-7) -> float:
    """Where ``cost`` is least on [low, high], both above 0: relative to ``within``, for a function that
    falls and then rises."""
    left, right = float(np.log(low)), float(np.log(high))
    one, other = right - _GOLDEN * (right - left), left + _GOLDEN * (right - left)
    at_one, at_other = cost(np.exp(one)), cost(np.exp(other))
    while right - left > within:
        if at_one <= at_other:
            right, other, at_other = other, one, at_one
            one = right - _GOLDEN * (right - left)
            at_one = cost(np.exp(one))
        else:
            left, one, at_one = one, other, at_other
            other = left + _GOLDEN * (right - left)
            at_other = cost(np.exp(other))
    return float(min((low, np.exp(one), np.exp(other), high), key=cost))
