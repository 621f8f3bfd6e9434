"""Bootstrap intervals over questions: the questions are drawn again, every model answering the same
ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from otr_core.errors import InputError

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % bootstrap interval (percentiles)."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., np.ndarray], columns: Sequence[np.ndarray], *, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """``statistic`` of the columns, with its interval.

    Args:
        statistic: takes one array a column, questions along the last axis, and reduces that axis.
        columns: arrays of equal length, one value a question; rows are drawn together, so that
            pairing is kept.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InputError: no questions, or columns of different lengths.
    """
    lengths = {len(column) for column in columns}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"bootstrap: found columns of lengths {sorted(lengths)}, expected one length above 0")
    size = lengths.pop()
    rows = np.random.default_rng(seed).integers(0, size, (resamples, size))
    again = statistic(*(np.asarray(column)[rows] for column in columns))
    low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(statistic(*(np.asarray(column) for column in columns))), float(low), float(high))


def mean_of(values: np.ndarray) -> np.ndarray:
    """Mean over questions."""
    result: np.ndarray = np.mean(values, axis=-1)
    return result


def ratio_of_means(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean of ``first`` over mean of ``second``."""
    result: np.ndarray = np.mean(first, axis=-1) / np.mean(second, axis=-1)
    return result


def relative_loss(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """By what share the mean of ``first`` falls short of that of ``second``."""
    return 1.0 - ratio_of_means(first, second)
