"""Operations that families add to a plain Llama's, in NumPy alone; ``family_kernels`` compiled."""

# Kernels and twins take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np

from otr_core.lane import formats as bits
from otr_core.lane.element import PADDING
from otr_node.integers import twins


def weigh(x, weights, shift, out):
    out[:] = twins.shift(x.astype(np.int64) * weights, shift)


def gelu(gate_up, sigmoid, bound, out):
    value, up = np.split(gate_up, 2, axis=-1)
    x = np.clip(value, -bits.GELU_MOST, bits.GELU_MOST)
    inner = bits.GELU_LINEAR + (bits.GELU_CUBIC * (x * x >> bits.GATE) >> bits.GATE)
    index = twins.shift(x * inner >> bits.GELU, bits.SIGMOID_SHIFT) + bits.SIGMOID_ZERO
    activated = twins.shift(twins.looked_up(sigmoid, index) * value, bits.SIGMOID)
    out[:] = np.clip(twins.shift(activated * up, bits.PRODUCT_SHIFT), -bound, bound)


def cap(x, most, sigmoid, out):
    cut = np.minimum(np.abs(x), bits.SIGMOID_LIMIT // 2 * most)
    index = (cut << (1 + bits.SIGMOID_INDEX + bits.CAP_REST)) // most
    entry = twins.looked_up(sigmoid, (index >> bits.CAP_REST) + bits.SIGMOID_ZERO)
    slope = entry * ((1 << bits.SIGMOID) - entry)
    rest = index & ((1 << bits.CAP_REST) - 1)
    value = (entry << bits.CAP_MORE) + (slope * rest >> bits.CAP_SLOPE)
    made = most * (2 * value - (1 << (bits.SIGMOID + bits.CAP_MORE)))
    out[:] = np.where(x < 0, -1, 1) * twins.shift(made, bits.SIGMOID + bits.CAP_MORE)


def attend_within(query, keys, values, begin, pads, window, most, exp2, sigmoid, mixed):
    end = begin + query.shape[2]
    found = twins.attention_scores(query, keys[:, :, :end], begin, pads)
    if window:
        place, token = np.arange(end), np.arange(begin, end)
        found = np.where(place > token[:, None] - window, found, PADDING)
    if most:
        capped = np.empty_like(found)
        cap(found, most, sigmoid, capped)
        found = np.where(found == PADDING, PADDING, capped)
    exps = twins.attention_exps(found.max(-1, keepdims=True), found, exp2) * (found != PADDING)
    share = bits.ONE_SHARE // np.maximum(exps.sum(-1, keepdims=True), 1)
    mixed[:] = twins.attention_mix(twins.attention_weights(exps, share), values[:, :, :end])
