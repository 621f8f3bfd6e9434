"""The operators without weights, recomputed from opened values in NumPy integers, one unit at a time.

The same definitions as ``inference.portable``, written for a verifier who holds a few hundred opened values and no
model. All accumulators stay below 2^62 for values of the sizes checked on opening (int32, and 2^52 for the rest).
"""

from __future__ import annotations

import functools
from math import isqrt
from typing import TYPE_CHECKING

from otr_core.lane.architecture import Architecture
from otr_core.lane.formats import (
    EXP,
    GATE,
    HEAD,
    MLP,
    NORM_INPUT,
    NORM_LEAST_SCALE,
    NORMED,
    PROBABILITY,
    ROTARY,
    SCORE,
    SIGMOID,
    SIGMOID_INDEX,
    SIGMOID_LIMIT,
    norm_epsilon,
)
from otr_core.lane.tables import exp2_table, rotary_table, sigmoid_table

if TYPE_CHECKING:
    import numpy as np


def rounded(value: int, bits: int) -> int:
    """⌊value / 2^bits + 1/2⌋, also for negative bits."""
    return (value + (1 << (bits - 1))) >> bits if bits > 0 else value << -bits


def norm(architecture: Architecture, row: np.ndarray) -> list[int]:
    """RMSNorm of a residual row without its weight (which is in the next matrix)."""
    values, n = row.tolist(), architecture.hidden
    power = min(NORM_INPUT - max(abs(v) for v in values).bit_length(), -NORM_LEAST_SCALE)
    scaled = [rounded(v, -power) for v in values]
    squares = sum(v * v for v in scaled) + rounded(norm_epsilon(architecture), -2 * power)
    root = isqrt(max(1, 4 * squares))
    drop = 51 - (NORMED + 1 + (n.bit_length() + 1) // 2)
    factor = isqrt(n << (2 * (NORMED + 1 + drop))) // root
    return [rounded(v * factor, drop) for v in scaled]


def rotate(architecture: Architecture, row: np.ndarray, position: int) -> list[int]:
    """Rotary positions of a row of query or key heads."""
    a, half, result = architecture, architecture.head_dim // 2, []
    room = 1 << max(8, position.bit_length())
    cosines, sines = (table[position] for table in rotary_table(a.rope_theta, a.head_dim, room, ROTARY, a.rope_scaling))
    values = row.tolist()
    for at in range(0, len(values), a.head_dim):
        first, second = values[at : at + half], values[at + half : at + a.head_dim]
        parts = list(zip(first, second, cosines, sines, strict=True))
        result += [rounded(x * c - y * s, ROTARY) for x, y, c, s in parts]
        result += [rounded(y * c + x * s, ROTARY) for x, y, c, s in parts]
    return result


def attend(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> list[int]:
    """One head: softmax of query·keys over all positions so far, then the weighted values.

    Args:
        query: (head_dim,). keys, values: (positions, head_dim) of the head's group.
    """
    scores = [sum(q * k for q, k in zip(query.tolist(), key, strict=True)) for key in keys.tolist()]
    most = max(scores)
    weights = [_exp2((most - score) >> (2 * HEAD - SCORE)) for score in scores]
    share = (1 << (EXP + PROBABILITY)) // sum(weights)
    shares = [weight * share >> EXP for weight in weights]
    columns = values.T.tolist()
    return [rounded(sum(s * v for s, v in zip(shares, column, strict=True)), PROBABILITY) for column in columns]


def gated(gate: np.ndarray, up: np.ndarray, saturation: int) -> list[int]:
    """SiLU(gate) · up, saturated: what enters the down projection."""
    result = []
    for g, u in zip(gate.tolist(), up.tolist(), strict=True):
        index = rounded(g, GATE - SIGMOID_INDEX) + (SIGMOID_LIMIT << SIGMOID_INDEX)
        table = _sigmoid()
        silu = rounded(table[min(max(index, 0), len(table) - 1)] * g, SIGMOID)
        result.append(max(-saturation, min(saturation, rounded(silu * u, 2 * GATE - MLP))))
    return result


@functools.cache
def _sigmoid() -> list[int]:
    return sigmoid_table(SIGMOID_INDEX, SIGMOID, SIGMOID_LIMIT)


@functools.cache
def _octave() -> list[int]:
    return exp2_table(SCORE, EXP)


def _exp2(index: int) -> int:
    octave, rest = divmod(index, 1 << SCORE)
    return _octave()[rest] >> octave if octave <= EXP else 0
