"""The operations of ``kernels`` in NumPy alone: the same names, arguments and bits, slower.

They run where numba is absent, and they are what the kernels are compared with. Steps that a
dispute tells apart are functions of their own (``norm_peak``, ``attention_scores`` …), which the
lane's watched place uses as well.
"""

# Kernels and twins take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otr_core.lane import formats as bits
from otr_core.lane.element import PADDING

Ints = NDArray[np.int64]
Array = NDArray[np.generic]

UNIT = 32
"""Columns of a matrix whose lengths are known together."""
_ROWS = 4096  # at once; bounds memory


def shift(x: Ints, count: int) -> Ints:
    """⌊x / 2^count + 1/2⌋."""
    return (x + (1 << (count - 1))) >> count


def scale(x: Ints, power: Ints) -> Ints:
    """⌊x · 2^power + 1/2⌋ with a power for each row."""
    up, down = np.maximum(power, 0), np.maximum(-power, 0)
    half: Ints = (np.ones_like(down) << down) >> 1
    return ((x << up) + half) >> down


def looked_up(table: Array, index: Ints) -> Ints:
    """table[index] with the index cut to the table."""
    return table[np.clip(index, 0, len(table) - 1)].astype(np.int64)


# --- products with a packed matrix


def product(x, low, starts, columns, extra, shift, out):
    wide = x.astype(np.int64)
    for first in range(0, len(low), _ROWS):
        end = min(first + _ROWS, len(low))
        matrix = low[first:end].astype(np.int64)
        _add_rest(matrix, starts, columns, extra, first)
        out[:, first:end] = _shift(wide @ matrix.T, shift)


def many_product(x, low, starts, columns, extra, shift, units, wide, packed, turned, totals, out):
    product(x, low, starts, columns, extra, shift, out)


def unit_lengths(low, out):
    out[:] = 0
    for first in range(0, len(low), _ROWS):
        wide = low[first : first + _ROWS].astype(np.int64)
        sums = np.add.reduceat(wide * wide, np.arange(0, low.shape[1], UNIT), axis=1)
        out[:] = np.maximum(out, sums.max(0))
    out[:] = np.sqrt(out) * (1 + 1e-9)


def split_tokens(x, planes):
    rest = x.astype(np.int64)
    for limb in range(planes.shape[1]):
        planes[:, limb] = ((rest + 128) & 255) - 128
        rest = (rest + 128) >> 8


def split_weights(low, width, planes):
    rest, half = low.astype(np.int32), 1 << (width - 1)
    for limb in reversed(range(planes.shape[1])):
        planes[:, limb] = ((rest + half) & ((1 << width) - 1)) - half
        rest = (rest + half) >> width


def rest_products(x, starts, columns, extra, out):
    for row in range(len(out)):
        at = slice(starts[row], starts[row + 1])
        out[row] = extra[at].astype(np.int64) @ x[columns[at]].astype(np.int64)


def gather(parts, ups, rest, shift, out):
    out[:] = sum(part.astype(np.int64) << up for part, up in zip(parts, ups, strict=True))
    if len(rest):
        out += rest.T
    out[:] = _shift(out, shift)


def widen(low, starts, columns, extra, out):
    out[:] = low
    _add_rest(out, starts, columns, extra, 0)


def round_sums(sums, shift, out):
    out[:] = _shift(sums.astype(np.int64), shift)


def _add_rest(matrix, starts, columns, extra, first):
    """Add the sparse rest to dense rows from row ``first`` on."""
    own = starts[first : first + len(matrix) + 1]
    row = np.repeat(np.arange(len(matrix)), np.diff(own))
    matrix[row, columns[own[0] : own[-1]]] += extra[own[0] : own[-1]]


# --- what stands between the matrices


def square_root(x: Ints) -> Ints:
    """⌊√x⌋ for 0 ≤ x < 2^62."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root


def norm_peak(hidden: Ints) -> Ints:
    """The largest magnitude of each row: (tokens, 1)."""
    peak: Ints = np.abs(hidden).max(-1, keepdims=True)
    return peak


def norm_scaled(hidden: Ints, peak: Ints) -> tuple[Ints, Ints]:
    """The rows as they are squared, and by which power of two they were scaled."""
    length = np.frexp(peak.astype(np.float64))[1].astype(np.int64)
    power = np.minimum(bits.NORM_INPUT - length, -bits.NORM_LEAST_SCALE)
    return scale(hidden, power), power


def norm_factor(squares: Ints, power: Ints, epsilon: int, numerator: int) -> Ints:
    """By what a scaled row is multiplied."""
    whole = squares + scale(np.full_like(squares, epsilon), 2 * power)
    factor: Ints = numerator // square_root(np.maximum(4 * whole, 1))
    return factor


def norm(hidden, epsilon, numerator, drop, out):
    wide = hidden.astype(np.int64)
    scaled, power = norm_scaled(wide, norm_peak(wide))
    factor = norm_factor((scaled * scaled).sum(-1, keepdims=True), power, epsilon, numerator)
    out[:] = shift(scaled * factor, drop)


def rotate(heads: Ints, cosine: Ints, sine: Ints) -> Ints:
    """Turn heads (…, head_dim) by angles (…, head_dim / 2), the halves of a head paired."""
    first, second = np.split(heads, 2, axis=-1)
    turned = np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
    return shift(turned, bits.ROTARY)


def turn(qkv, begin, pads, cosines, sines, query, keys, values):
    count, heads, groups = qkv.shape[1], query.shape[1], keys.shape[1]
    at = np.maximum(np.arange(begin, begin + count)[None] - pads[:, None], 0)  # (batch, count)
    cosine, sine = (table[at][:, :, None].astype(np.int64) for table in (cosines, sines))
    turned = rotate(qkv[:, :, : heads + groups], cosine, sine)
    query[:] = turned[:, :, :heads].swapaxes(1, 2)
    keys[:, :, begin : begin + count] = turned[:, :, heads:].swapaxes(1, 2)
    values[:, :, begin : begin + count] = qkv[:, :, heads + groups :].swapaxes(1, 2)


def attention_scores(query: Array, keys: Array, begin: int, pads: Ints) -> Ints:
    """Scores of new tokens with all places, (batch, heads, count, places); ``PADDING`` where a
    token does not see a place.

    Args:
        query: (batch, heads, count, head_dim). keys: (batch, kv_heads, places, head_dim).
    """
    batch, heads, count, size = query.shape
    groups, places = keys.shape[1], keys.shape[2]
    wide = query.reshape(batch, groups, heads // groups * count, size).astype(np.int64)
    scores = (wide @ keys.astype(np.int64).swapaxes(2, 3)).reshape(batch, heads, count, places)
    place, token = np.arange(places), np.arange(begin, begin + count)
    seen = (place <= token[:, None]) & (place >= pads[:, None, None])  # (batch, count, places)
    return np.where(seen[:, None], scores, PADDING)


def attention_exps(top: Ints, scores: Ints, exp2: Array) -> Ints:
    """2^−(distance to the top)."""
    return looked_up(exp2, (top - scores) >> bits.SCORE_SHIFT)


def attention_weights(exps: Ints, share: Ints) -> Ints:
    """The attention weights, rounded down."""
    return (exps * share) >> bits.EXP


def attention_mix(weights: Ints, values: Array) -> Ints:
    """Weighted values: (batch, count, heads, head_dim)."""
    batch, heads, count, places = weights.shape
    groups, size = values.shape[1], values.shape[3]
    wide = weights.reshape(batch, groups, heads // groups * count, places)
    mixed = shift(wide @ values.astype(np.int64), bits.PROBABILITY)
    return mixed.reshape(batch, heads, count, size).swapaxes(1, 2)


def attend(query, keys, values, begin, pads, exp2, mixed):
    end = begin + query.shape[2]
    found = attention_scores(query, keys[:, :, :end], begin, pads)
    exps = attention_exps(found.max(-1, keepdims=True), found, exp2) * (found != PADDING)
    share = bits.ONE_SHARE // np.maximum(exps.sum(-1, keepdims=True), 1)
    mixed[:] = attention_mix(attention_weights(exps, share), values[:, :, :end])


def soften(scores, begin, first, exp2):
    _, count, end = scores.shape
    place, token = np.arange(end), np.arange(begin, begin + count)
    seen = (place <= token[:, None]) & (place >= first)
    found = np.where(seen, scores.astype(np.int64), PADDING)
    exps = attention_exps(found.max(-1, keepdims=True), found, exp2) * seen
    share = bits.ONE_SHARE // np.maximum(exps.sum(-1, keepdims=True), 1)
    scores[:] = attention_weights(exps, share)


def settle(sums, mixed):
    mixed[:] = shift(sums.astype(np.int64), bits.PROBABILITY).swapaxes(0, 1)


def gate(gate_up, sigmoid, bound, out):
    value, up = np.split(gate_up, 2, axis=-1)
    index = shift(value, bits.SIGMOID_SHIFT) + bits.SIGMOID_ZERO
    silu = shift(looked_up(sigmoid, index) * value, bits.SIGMOID)
    out[:] = np.clip(shift(silu * up, bits.PRODUCT_SHIFT), -bound, bound)


def add(hidden, delta, out):
    out[:] = np.clip(hidden.astype(np.int64) + delta, -bits.INT32, bits.INT32)


def layer(stream, matrices, constants, shifts, begin, pads, turns, keys, values, tables, bound, out):
    batch, count, hidden = stream.shape
    tokens, groups, size = batch * count, keys.shape[1], keys.shape[3]
    heads = matrices[0][0].shape[0] // size - 2 * groups
    epsilon, numerator, drop = constants
    before, after = stream.reshape((tokens, hidden)), out.reshape((tokens, hidden))
    normed = np.empty((tokens, hidden), np.int32)
    delta = np.empty((tokens, hidden), np.int64)

    norm(before, epsilon, numerator, drop, normed)
    qkv = np.empty((batch, count, heads + 2 * groups, size), np.int64)
    low, starts, columns, extra = matrices[0]
    product(normed, low, starts, columns, extra, shifts[0], qkv.reshape((tokens, -1)))
    query = np.empty((batch, heads, count, size), np.int32)
    turn(qkv, begin, pads, turns[0], turns[1], query, keys, values)
    mixed = np.empty((batch, count, heads, size), np.int32)
    attend(query, keys, values, begin, pads, tables[0], mixed)
    low, starts, columns, extra = matrices[1]
    product(mixed.reshape((tokens, heads * size)), low, starts, columns, extra, shifts[1], delta)
    add(before, delta, after)

    norm(after, epsilon, numerator, drop, normed)
    low, starts, columns, extra = matrices[2]
    gate_up = np.empty((tokens, low.shape[0]), np.int64)
    product(normed, low, starts, columns, extra, shifts[2], gate_up)
    made = np.empty((tokens, low.shape[0] // 2), np.int32)
    gate(gate_up, tables[1], bound, made)
    low, starts, columns, extra = matrices[3]
    product(made, low, starts, columns, extra, shifts[3], delta)
    add(after, delta, after)


# --- packing


def round_rows(source, columns, factor, least, most, out, low, counts, squares, sums):
    largest = 0.0
    for first in range(0, len(source), _ROWS):
        at = slice(first, first + _ROWS)
        value = np.rint((source[at].astype(np.float64) * columns) * factor)
        largest = max(largest, float(np.abs(value).max()))
        with np.errstate(invalid="ignore"):  # beyond int32 the caller refuses the matrix
            out[at] = value
        low[at] = np.clip(out[at], least, most)
        counts[at] = (out[at] != low[at]).sum(-1)
        squares[at] = np.square(value).sum(-1)
        sums[at] = np.abs(value).sum(-1)
    return largest


def cut_rest(values, low, starts, columns, extra):
    row, column = np.nonzero(values != low)
    columns[: len(column)] = column
    extra[: len(column)] = values[row, column] - low[row, column].astype(np.int32)


_shift = shift  # where an argument has its name
