"""What stands between the projections of the lane ``h100-bf16``: IEEE 754 steps in a stated order.

Each function is written in additions, subtractions, multiplications, divisions and square roots of
fp32, each rounded to nearest even by itself and none fused; no processor's or chip's approximate
functions take part. NumPy computes just these steps on arrays of float32. On arrays of objects the
same lines compute with whatever the objects' steps are: the tests run them on words of integers
(``lane.blocks``), and the bits are the same. What takes NumPy's place (its two protocols for
foreign arrays) computes on a device: ``otr_node.integers.device_floats``.

Places where values are rounded to bf16 stand with the lane (``otr_node.tensor_lane``): all that
enters a projection, queries, keys, values and weights of attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LANE = "h100-bf16"
LANES_OF_SUM = 32
"""Running sums that a row is added up in: as many as a warp has threads."""
LEAST, MOST = -87.0, 88.0
"""Between these e^x is a normal number of fp32. Below it counts as 0, above as e^88; of a NaN it is a NaN."""

Array = Any
"""Arrays of float32, or of objects with the same steps."""

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # nine bits: its products with whole numbers up to 128 are exact
_LN2_LOW = np.float32(-2.1219444005469057e-4)  # ln 2 less that
_ROUND = np.float32(1.5 * 2**23)  # what is added to a small number and taken away rounds it to a whole one
_TERMS = [np.float32(1 / number) for number in (720, 120, 24, 6, 2, 1, 1)]  # of e^r, the highest first
_POWERS = np.float32(2.0) ** np.arange(-126, 128, dtype=np.float32)  # exact


def exponential(x: Array) -> Array:
    """e^x: e^r of the rest r after whole powers of 2, by seven terms of its series from the highest,
    times the power."""
    cut = np.where(x > MOST, _filled(x, MOST), np.where(x >= LEAST, x, _filled(x, LEAST)))
    power = (cut * _LOG2E + _ROUND) - _ROUND
    rest = (cut - power * _LN2_HIGH) - power * _LN2_LOW
    total = rest * _TERMS[0] + _TERMS[1]
    for term in _TERMS[2:]:
        total = total * rest + term
    places = power.astype(np.int64) + 126
    made = total * np.take_along_axis(_POWERS, places.reshape(-1), axis=None).reshape(*places.shape)
    return np.where(x >= LEAST, made, np.where(x < LEAST, _filled(x, 0.0), x))


def _filled(like: Array, value: float) -> Array:
    """An array of one number, of the shape and the steps of another; objects make theirs with ``of``."""
    one = np.float32(value)
    return np.full_like(like, like.flat[0].of(one) if like.dtype == object else one)


def summed(x: Array) -> Array:
    """Sums of rows (…, n): 32 running sums, of every 32nd value in order, zeros after the last; then
    the second half of the sums to the first, until one is left: (…, 1)."""
    missing = -x.shape[-1] % LANES_OF_SUM
    if missing:
        x = np.concatenate([x, np.zeros((*x.shape[:-1], missing), np.float32)], axis=-1)
    total = x[..., :LANES_OF_SUM]
    for first in range(LANES_OF_SUM, x.shape[-1], LANES_OF_SUM):
        total = total + x[..., first : first + LANES_OF_SUM]
    return folded(total)


def folded(total: Array) -> Array:
    """Running sums (…, 2^k) to one, (…, 1): again and again the second half to the first."""
    while (half := total.shape[-1] // 2) > 0:
        total = total[..., :half] + total[..., half:]
    return total


def normed(x: Array, weight: Array, epsilon: np.float32) -> Array:
    """RMSNorm of rows (…, n): (x · (1 / √(Σx² / n + ε))) · weight."""
    return (x * factor_of_norm(summed(x * x), x.shape[-1], epsilon)) * weight


def factor_of_norm(squares: Array, count: int, epsilon: Any) -> Array:
    """1 / √(sum of ``count`` squares / count + ε)."""
    return np.float32(1) / np.sqrt(squares / np.float32(count) + epsilon)


def turned(x: Array, cosines: Array, sines: Array) -> Array:
    """Heads (…, d), the first half of their values turned against the second: (…, d)."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def gated_silu(gate: Array, up: Array) -> Array:
    """SiLU(gate) · up: (gate / (1 + e^−gate)) · up."""
    return (gate / (exponential(-gate) + np.float32(1))) * up


def weighed_scores(scores: Array, head_dim: int) -> tuple[Array, Array]:
    """e^(s − the largest s) of rows of products of queries and keys, each s the product times
    1 / √head_dim; and their sums, (…, 1). What the weights make of the values is divided by the sum."""
    scaled = scores * score_scale(head_dim)
    weights = exponential(scaled - scaled.max(axis=-1, keepdims=True))
    return weights, summed(weights)


def score_scale(head_dim: int) -> np.float32:
    """By what the product of a query and a key is multiplied, 1 / √head_dim: two roundings of numbers
    that every processor makes alike."""
    return np.float32(np.float32(1) / np.sqrt(np.float32(head_dim)))
