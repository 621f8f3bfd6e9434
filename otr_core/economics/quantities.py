"""Checked numbers: every public function of this package passes its arguments through here.

A number is a float, or an array of floats where a figure needs a grid; what comes out has the shape
of what went in. The suffix of a name is its unit: ``_usd`` US dollars, ``_s`` seconds, no suffix a
pure number or a probability.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from otr_core.errors import ParameterError

#: A float, or an array of floats, as the inputs were.
Quantity: TypeAlias = Any
Array: TypeAlias = NDArray[np.float64]
MOST_COUNTED = 2.0**53
"""The largest whole number that a float holds together with every smaller one."""
MOST_GIVEN = 1e15
"""The largest number that a file or a sweep may give: in USD more than all money there is. Searches start from it, and
products of what they are given have to stay finite."""


def _numbers(field: str, value: Quantity, allowed: str) -> Array:
    if isinstance(value, str | bytes | bool) or value is None:
        raise ParameterError(field, value, allowed)
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(field, value, allowed) from error
    if np.isnan(numbers).any():
        raise ParameterError(field, _first(numbers, np.isnan(numbers)), allowed)
    return numbers


def _first(numbers: Array, bad: NDArray[np.bool_]) -> float:
    return float(np.extract(bad, numbers)[0])


def _within(field: str, value: Quantity, allowed: str, low: float, high: float, *, open_low: bool = False) -> Array:
    numbers = _numbers(field, value, allowed)
    bad = (numbers < low) | (numbers > high)
    if open_low:
        bad |= numbers == low
    if bad.any():
        raise ParameterError(field, _first(numbers, bad), allowed)
    return numbers


def given(field: str, value: Any) -> Any:
    """``value`` of a file or a sweep as it is, but for a number beyond ``MOST_GIVEN`` on either side."""
    if isinstance(value, int | float) and abs(value) > MOST_GIVEN:
        raise ParameterError(field, value, f"at most {MOST_GIVEN:g}")
    return value


def probability(field: str, value: Quantity) -> Array:
    """``value`` in [0, 1]."""
    return _within(field, value, "a probability in [0, 1]", 0.0, 1.0)


def amount(field: str, value: Quantity) -> Array:
    """A finite amount, zero or more (a price, a cost, a duration)."""
    return _within(field, value, "a finite number, 0 or more", 0.0, np.finfo(float).max)


def positive(field: str, value: Quantity) -> Array:
    """A finite amount above zero (a stake, a rate, a duration that must pass)."""
    return _within(field, value, "a finite number above 0", 0.0, np.finfo(float).max, open_low=True)


def gain(field: str, value: Quantity) -> Array:
    """What a cheat earns: any finite number, or +infinity for a gain without bound."""
    return _within(field, value, "a finite number, or inf for a gain without bound", -np.finfo(float).max, np.inf)


def count(field: str, value: Quantity, *, least: int = 0) -> Array:
    """Whole numbers of at least ``least``, as floats that hold them exactly."""
    allowed = f"a whole number, {least} or more"
    numbers = _within(field, value, allowed, least, np.inf)
    if (numbers > MOST_COUNTED).any():
        raise ParameterError(field, _first(numbers, numbers > MOST_COUNTED), f"at most {MOST_COUNTED:.0f}")
    bad = numbers != np.floor(numbers)
    if bad.any():
        raise ParameterError(field, _first(numbers, bad), allowed)
    return numbers


def whole(field: str, value: Quantity, *, least: int = 0) -> int:
    """One whole number of at least ``least``."""
    numbers = count(field, value, least=least)
    if numbers.ndim:
        raise ParameterError(field, value, "one whole number, not an array")
    return int(numbers)


def dated(text: str) -> bool:
    """Whether ``text`` names a year, month or day (2026, 2026-11, 2026-11-26), and each that it names exists."""
    found = re.findall(r"\b(?:19|20)\d\d(?:-\d\d(?:-\d\d)?)?\b", text)
    try:
        return bool([dt.date.fromisoformat(one + "2000-01-01"[len(one) :]) for one in found])
    except ValueError:
        return False


def shaped(value: Quantity) -> Quantity:
    """A plain float for a scalar result, the array itself otherwise."""
    return float(value) if np.ndim(value) == 0 else value
