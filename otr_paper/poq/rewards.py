"""What Proof of Quality pays, by the published formulas.

Original (arXiv 2405.17934): an answer earns ``exp(-alpha (U - mean score))``, the assessors share
their part by closeness to the mean. Cost-aware (2512.16317): ``alpha quality - beta cost``, both
normalised. Robust (2601.21189): the mean gives way to a median, a trimmed mean or a mean weighted
by trust, and trust follows closeness to the consensus.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from otr_core.errors import InputError, ParameterError

Scores = Sequence[float] | np.ndarray
Aggregate = Callable[[np.ndarray], np.ndarray]
"""Scores, shape (assessors, answers) -> one score an answer."""


def reward_share(mean_score: float, *, alpha: float, upper: float) -> float:
    """What PoQ pays an answer, as a share of the full reward: ``exp(-alpha (U - mean score))``."""
    return math.exp(-alpha * (upper - mean_score))


def assessor_shares(scores: Scores, *, beta: float) -> np.ndarray:
    """Each assessor's share of the assessors' reward: ``exp(-beta (s_i - mean)^2)``, scaled to sum
    1.

    Closeness to the mean is all that counts: assessors who are wrong alike share alike.
    """
    values = _scores(scores)
    distance = beta * (values - values.mean()) ** 2
    weights = np.exp(distance.min() - distance)
    shares: np.ndarray = weights / weights.sum()
    return shares


def cost_aware_reward(quality: Scores, cost: Scores, *, alpha: float, beta: float) -> np.ndarray:
    """``alpha quality - beta cost``.

    Args:
        quality, cost: normalised to [0, 1]. How the paper normalises a cost is not public to us; we
            divide by the largest of the nodes compared.
    """
    q, c = _scores(quality), _scores(cost)
    for name, values in (("quality", q), ("cost", c)):
        if values.min() < 0 or values.max() > 1:
            raise ParameterError(name, [float(values.min()), float(values.max())], "[0, 1]: normalise first")
    reward: np.ndarray = alpha * q - beta * c
    return reward


def mean(scores: np.ndarray) -> np.ndarray:
    """The original aggregation."""
    result: np.ndarray = np.mean(scores, axis=0)
    return result


def median(scores: np.ndarray) -> np.ndarray:
    """The middle score: unmoved by fewer than half of the assessors."""
    result: np.ndarray = np.median(scores, axis=0)
    return result


def trimmed_mean(share: float) -> Aggregate:
    """The mean without the ``share`` lowest and the ``share`` highest scores (rounded down), 0 to
    below 0.5."""
    if not 0 <= share < 0.5:
        raise ParameterError("share", share, "[0, 0.5)")

    def aggregate(scores: np.ndarray) -> np.ndarray:
        cut = math.floor(share * len(scores))
        result: np.ndarray = np.sort(scores, axis=0)[cut : len(scores) - cut].mean(axis=0)
        return result

    return aggregate


def trust_weighted(
    scores: np.ndarray, *, rate: float = 0.1, low: float = 0.1, high: float = 2.0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Mean weighted by trust that is updated answer by answer: ``w <- clip(w (1 + rate (0.5 - d)),
    low, high)`` with ``d = |score - consensus| / scale`` (2601.21189, equation 21; their scale is
    10).

    Every deviation below half of the scale raises trust, so weights run into ``high`` and the plain
    mean comes back.

    Args:
        scores: shape (assessors, answers). rate, low, high: the paper's values are not public to
            us.

    Returns:
        one consensus score an answer, and the weights after each answer, shape (answers,
        assessors).
    """
    weights, consensus, history = np.ones(len(scores)), [], []
    for column in scores.T:
        agreed = float(weights @ column / weights.sum())
        weights = np.clip(weights * (1 + rate * (0.5 - np.abs(column - agreed) / scale)), low, high)
        consensus.append(agreed)
        history.append(weights)
    return np.array(consensus), np.array(history)


def boosted(scores: np.ndarray, colluders: Sequence[int], by: float, upper: float = 1.0) -> np.ndarray:
    """The scores when some assessors add ``by`` to theirs, at most to ``upper`` (2601.21189,
    equation 18)."""
    result = np.array(scores, dtype=float)
    result[list(colluders)] = np.minimum(upper, result[list(colluders)] + by)
    return result


def _scores(values: Scores) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.all(np.isfinite(array)):
        raise InputError(f"scores: found {array.size} of them, expected some, all finite")
    return array
