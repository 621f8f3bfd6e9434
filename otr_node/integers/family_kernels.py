"""Operations that families add to a plain Llama's, as loops over integers, compiled by numba.

What is said of ``kernels`` holds here too; the twins stand in ``family_twins``.
"""

# Kernels and twins take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np

from otr_core.lane import formats as bits
from otr_node.integers.compiled import compiled

_PROBABILITY, _EXP, _SCORE_SHIFT, _ONE_SHARE = bits.PROBABILITY, bits.EXP, bits.SCORE_SHIFT, bits.ONE_SHARE
_SIGMOID, _SIGMOID_SHIFT, _SIGMOID_ZERO = bits.SIGMOID, bits.SIGMOID_SHIFT, bits.SIGMOID_ZERO
_PRODUCT_SHIFT, _GATE = bits.PRODUCT_SHIFT, bits.GATE
_GELU, _LINEAR, _CUBIC, _GELU_MOST = bits.GELU, bits.GELU_LINEAR, bits.GELU_CUBIC, bits.GELU_MOST
_REST, _MORE, _SLOPE = bits.CAP_REST, bits.CAP_MORE, bits.CAP_SLOPE
_UP, _FARTHEST = 1 + bits.SIGMOID_INDEX + bits.CAP_REST, bits.SIGMOID_LIMIT // 2


@compiled
def weigh(x, weights, shift, out):
    """x · weights, rounded: int32 (tokens, width) and int32 (width,) to int64 (tokens, width)."""
    half = np.int64(1) << np.int64(shift - 1)
    for token in range(x.shape[0]):
        for k in range(x.shape[1]):
            out[token, k] = (np.int64(x[token, k]) * np.int64(weights[k]) + half) >> shift


@compiled
def gelu(gate_up, sigmoid, bound, out):
    """As ``kernels.gate``, with the GELU in its tanh form."""
    tokens, width = out.shape
    last = len(sigmoid) - 1
    half_index = np.int64(1) << np.int64(_SIGMOID_SHIFT - 1)
    half = np.int64(1) << np.int64(_SIGMOID - 1)
    half_product = np.int64(1) << np.int64(_PRODUCT_SHIFT - 1)
    for token in range(tokens):
        for k in range(width):
            value, up = gate_up[token, k], gate_up[token, width + k]
            x = min(max(value, -_GELU_MOST), _GELU_MOST)
            inner = _LINEAR + ((_CUBIC * ((x * x) >> _GATE)) >> _GATE)
            index = ((((x * inner) >> _GELU) + half_index) >> _SIGMOID_SHIFT) + _SIGMOID_ZERO
            activated = (np.int64(sigmoid[min(max(index, 0), last)]) * value + half) >> _SIGMOID
            made = (activated * up + half_product) >> _PRODUCT_SHIFT
            out[token, k] = min(max(made, -bound), bound)


@compiled
def capped(x, most, sigmoid):
    """most · tanh(x / most) of one int64."""
    cut = min(abs(x), _FARTHEST * most)
    index = (cut << _UP) // most
    place = (index >> _REST) + _SIGMOID_ZERO
    entry = np.int64(sigmoid[min(place, len(sigmoid) - 1)])
    slope = entry * ((np.int64(1) << _SIGMOID) - entry)
    rest = index & ((np.int64(1) << _REST) - 1)
    value = (entry << _MORE) + ((slope * rest) >> _SLOPE)
    made = most * (2 * value - (np.int64(1) << (_SIGMOID + _MORE)))
    rounded = (made + (np.int64(1) << (_SIGMOID + _MORE - 1))) >> (_SIGMOID + _MORE)
    return rounded if x >= 0 else -rounded


@compiled
def cap(x, most, sigmoid, out):
    """``capped`` of int64 (tokens, width), to ``out``, which may be ``x``."""
    for token in range(x.shape[0]):
        for k in range(x.shape[1]):
            out[token, k] = capped(x[token, k], np.int64(most), sigmoid)


@compiled
def attend_within(query, keys, values, begin, pads, window, most, exp2, sigmoid, mixed):
    """As ``kernels.attend``, of the last ``window`` places (0: of all), with scores capped at
    ``most`` (0: not)."""
    batch, heads, count, size = query.shape
    share_heads = heads // keys.shape[1]
    last = len(exp2) - 1
    sums, scores = np.empty(size, np.int64), np.empty(begin + count, np.int64)
    half = np.int64(1) << np.int64(_PROBABILITY - 1)
    for row in range(batch):
        for token in range(count):
            first, end = pads[row], begin + token + 1
            if window:
                first = max(first, end - window)
            for head in range(heads):
                group = head // share_heads
                top = -(np.int64(1) << np.int64(62))
                for place in range(first, end):
                    score = np.int64(0)
                    for j in range(size):
                        score += np.int64(query[row, head, token, j]) * np.int64(keys[row, group, place, j])
                    if most:
                        score = capped(score, np.int64(most), sigmoid)
                    scores[place] = score
                    top = max(top, score)
                total = np.int64(0)
                for place in range(first, end):
                    weight = np.int64(exp2[min((top - scores[place]) >> _SCORE_SHIFT, last)])
                    scores[place] = weight
                    total += weight
                share = np.int64(_ONE_SHARE) // max(total, np.int64(1))
                for j in range(size):
                    sums[j] = 0
                for place in range(first, end):
                    part = np.int32((scores[place] * share) >> _EXP)
                    if part:
                        for j in range(size):
                            sums[j] += np.int64(part) * np.int64(values[row, group, place, j])
                for j in range(size):
                    mixed[row, token, head, j] = (sums[j] + half) >> _PROBABILITY
