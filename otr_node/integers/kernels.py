"""The portable lane's operations as loops over integers, compiled by numba.

Sums are int64. A sum that does not leave 64 bits in the end is exact in any order, because what
wraps around on the way comes back; that no sum leaves them is proven from the weights when a model
is loaded (``rounding.check_bounds``). Arrays are contiguous; ``out`` and others named so are
written. The twins (``twins``) have the same names and arguments.
"""

# Kernels and twins take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np

from otr_core.lane import formats as bits
from otr_node.integers.compiled import compiled
from otr_node.integers.products import many_product, product, room_for, unit_lengths

__all__ = ("many_product", "product", "room_for", "unit_lengths")  # the other half of what has twins

_INT32 = bits.INT32
_NORM_INPUT, _NORM_MOST = bits.NORM_INPUT, -bits.NORM_LEAST_SCALE
_ROTARY, _PROBABILITY, _EXP = bits.ROTARY, bits.PROBABILITY, bits.EXP
_SCORE_SHIFT, _ONE_SHARE, _PART = bits.SCORE_SHIFT, bits.ONE_SHARE, 2.0**-bits.EXP
# Each octave of the table of 2^−x is the first one halved: what is read of it stays in a cache.
_SCORE, _OCTAVE = bits.SCORE, (1 << bits.SCORE) - 1
_SIGMOID, _SIGMOID_SHIFT, _SIGMOID_ZERO = bits.SIGMOID, bits.SIGMOID_SHIFT, bits.SIGMOID_ZERO
_PRODUCT_SHIFT = bits.PRODUCT_SHIFT

# --- products with a packed matrix


@compiled
def split_tokens(x, planes):
    """Cut int32 (tokens, columns) of magnitude at most 2^30 into limbs of 8 bits, −128 to 127,
    lowest first: ``planes`` int8 (tokens, limbs, columns)."""
    tokens, limbs, width = planes.shape
    # With 128 added to each byte, the bytes are the limbs and 128 more.
    bias = np.uint32(0x80808080)
    for token in range(tokens):
        for limb in range(limbs):
            down = np.uint32(8 * limb)
            for k in range(width):
                planes[token, limb, k] = np.int8(((np.uint32(x[token, k]) + bias) >> down) ^ np.uint32(128))


@compiled
def split_weights(low, width, planes):
    """Cut int16 (rows, columns) into limbs of ``width`` bits, signed and highest first: ``planes``
    int8 (rows, limbs, columns)."""
    rows, limbs, columns = planes.shape
    half, mask = np.int32(1 << (width - 1)), np.int32((1 << width) - 1)
    for row in range(rows):
        bias = np.int32(0)
        for limb in range(limbs):
            down = np.int32(width * limb)
            bias += half << down  # what the lower limbs are rounded by
            for k in range(columns):
                planes[row, limbs - 1 - limb, k] = np.int8((((np.int32(low[row, k]) + bias) >> down) & mask) - half)


@compiled
def rest_products(x, starts, columns, extra, out):
    """Products with the sparse rest alone: int32 ``x`` (columns, tokens) to ``out``, int64 (rows,
    tokens)."""
    rows, tokens = out.shape
    for row in range(rows):
        for token in range(tokens):
            out[row, token] = 0
        for j in range(starts[row], starts[row + 1]):
            value, column = np.int64(extra[j]), columns[j]
            for token in range(tokens):
                out[row, token] += value * np.int64(x[column, token])


@compiled
def gather(parts, ups, rest, shift, out):
    """Put the products of limbs together, add those with the sparse rest, round.

    Args:
        parts: int32 (products, tokens, rows), of two products at least. ups: int64 (products,), by
            how many bits each is shifted up. rest: int64 (rows, tokens); no rows where there is no
            rest. out: int64 (tokens, rows).
    """
    tokens, rows = out.shape
    half = np.int64(1) << np.int64(shift - 1)
    for token in range(tokens):
        # Two products at a time: what is summed so far passes through memory half as often.
        first, second = parts[0, token], parts[1, token]
        for row in range(rows):
            out[token, row] = (np.int64(first[row]) << ups[0]) + (np.int64(second[row]) << ups[1])
        for number in range(2, len(parts) - 1, 2):
            first, second = parts[number, token], parts[number + 1, token]
            up, over = ups[number], ups[number + 1]
            for row in range(rows):
                out[token, row] += (np.int64(first[row]) << up) + (np.int64(second[row]) << over)
        if len(parts) % 2:
            first, up = parts[len(parts) - 1, token], ups[len(parts) - 1]
            for row in range(rows):
                out[token, row] += np.int64(first[row]) << up
        for row in range(len(rest)):
            out[token, row] += rest[row, token]
        for row in range(rows):
            out[token, row] = (out[token, row] + half) >> shift


@compiled
def widen(low, starts, columns, extra, out):
    """A packed matrix as float64: ``out`` (rows, columns)."""
    rows, width = low.shape
    for row in range(rows):
        for k in range(width):
            out[row, k] = low[row, k]
        for j in range(starts[row], starts[row + 1]):
            out[row, columns[j]] += extra[j]


@compiled
def round_sums(sums, shift, out):
    """Float64 integers (tokens, rows), shifted: ``out`` int64, of the same shape."""
    half = np.int64(1) << np.int64(shift - 1)
    for token in range(sums.shape[0]):
        for row in range(sums.shape[1]):
            out[token, row] = (np.int64(sums[token, row]) + half) >> shift


# --- what stands between the matrices


@compiled
def square_root(x):
    """⌊√x⌋ for 0 ≤ x < 2^62; the hardware's root is one off at most, the squares say so."""
    root = np.int64(np.sqrt(np.float64(x)))
    while root * root > x:
        root -= 1
    while (root + 1) * (root + 1) <= x:
        root += 1
    return root


@compiled
def norm(hidden, epsilon, numerator, drop, out):
    """RMSNorm without its weight: int32 (tokens, hidden) to ``out``, int32."""
    tokens, width = hidden.shape
    for token in range(tokens):
        peak = np.int64(0)
        for k in range(width):
            peak = max(peak, abs(np.int64(hidden[token, k])))
        length = 0
        while peak >> length:
            length += 1
        power = min(_NORM_INPUT - length, _NORM_MOST)
        up, down = np.int64(max(power, 0)), np.int64(max(-power, 0))
        half = (np.int64(1) << down) >> 1
        squares = np.int64(0)
        for k in range(width):
            scaled = ((np.int64(hidden[token, k]) << up) + half) >> down
            squares += scaled * scaled
        # epsilon is scaled as squares are
        half_epsilon = (np.int64(1) << (2 * down)) >> 1
        squares += ((np.int64(epsilon) << (2 * up)) + half_epsilon) >> (2 * down)
        factor = np.int64(numerator) // square_root(max(4 * squares, np.int64(1)))
        half_drop = np.int64(1) << np.int64(drop - 1)
        for k in range(width):
            scaled = ((np.int64(hidden[token, k]) << up) + half) >> down
            out[token, k] = (scaled * factor + half_drop) >> np.int64(drop)


@compiled
def turn(qkv, begin, pads, cosines, sines, query, keys, values):
    """Rotate queries and keys, and put keys and values where they are kept.

    Args:
        qkv: int64 (batch, count, heads + 2 · kv_heads, head_dim). pads: int64 (batch,).
        cosines, sines: int32 (positions, head_dim / 2). query: int32 (batch, heads, count,
            head_dim). keys, values: int32 (batch, kv_heads, room, head_dim).
    """
    batch, count, _, size = qkv.shape
    heads, groups, half = query.shape[1], keys.shape[1], size // 2
    one = np.int64(1) << np.int64(_ROTARY - 1)
    for row in range(batch):
        for token in range(count):
            at = max(begin + token - pads[row], 0)
            for head in range(heads + groups):
                for j in range(half):
                    first, second = qkv[row, token, head, j], qkv[row, token, head, j + half]
                    cosine, sine = np.int64(cosines[at, j]), np.int64(sines[at, j])
                    left = (first * cosine - second * sine + one) >> _ROTARY
                    right = (second * cosine + first * sine + one) >> _ROTARY
                    if head < heads:
                        query[row, head, token, j] = left
                        query[row, head, token, j + half] = right
                    else:
                        keys[row, head - heads, begin + token, j] = left
                        keys[row, head - heads, begin + token, j + half] = right
            for group in range(groups):
                for j in range(size):
                    values[row, group, begin + token, j] = qkv[row, token, heads + groups + group, j]


@compiled
def attend(query, keys, values, begin, pads, exp2, mixed):
    """Attention of the new tokens to all places up to their own.

    Args:
        query, keys, values: as ``turn`` wrote them. exp2: int32 table. mixed: int32
            (batch, count, heads, head_dim), written. What padding sees is 0.
    """
    batch, heads, count, size = query.shape
    share_heads = heads // keys.shape[1]
    last = len(exp2) - 1
    sums, scores = np.empty(size, np.int64), np.empty(begin + count, np.int64)
    half = np.int64(1) << np.int64(_PROBABILITY - 1)
    for row in range(batch):
        for token in range(count):
            first, end = pads[row], begin + token + 1
            for head in range(heads):
                group = head // share_heads
                top = -(np.int64(1) << np.int64(62))
                for place in range(first, end):
                    score = np.int64(0)
                    for j in range(size):
                        score += np.int64(query[row, head, token, j]) * np.int64(keys[row, group, place, j])
                    scores[place] = score
                    top = max(top, score)
                total = np.int64(0)
                for place in range(first, end):
                    below = min((top - scores[place]) >> _SCORE_SHIFT, last)
                    weight = np.int64(exp2[below & _OCTAVE]) >> (below >> _SCORE)
                    scores[place] = weight
                    total += weight
                share = np.int64(_ONE_SHARE) // max(total, np.int64(1))
                for j in range(size):
                    sums[j] = 0
                for place in range(first, end):
                    weight = np.int32((scores[place] * share) >> _EXP)
                    if weight:
                        for j in range(size):
                            sums[j] += np.int64(weight) * np.int64(values[row, group, place, j])
                for j in range(size):
                    mixed[row, token, head, j] = (sums[j] + half) >> _PROBABILITY


@compiled
def soften(scores, begin, first, exp2):
    """Scores to attention weights, in place: float64 integers (rows, count, end) of one sequence
    whose first place is ``first``."""
    rows, count, end = scores.shape
    last = np.int64(len(exp2) - 1)
    below, weights = np.empty(end, np.int64), np.empty(end, np.int32)
    for row in range(rows):
        for token in range(count):
            seen = begin + token + 1
            scores[row, token, : min(first, end)] = 0.0
            scores[row, token, seen:] = 0.0
            own = scores[row, token, first:seen]
            # Each of these loops makes many values at a time; one loop over all of it would not.
            top = -(np.int64(1) << np.int64(62))
            for k in range(len(own)):
                top = max(top, np.int64(own[k]))
            for k in range(len(own)):
                below[k] = min((top - np.int64(own[k])) >> _SCORE_SHIFT, last)
            for k in range(len(own)):
                weights[k] = exp2[np.uint64(below[k] & _OCTAVE)] >> (below[k] >> _SCORE)
            total = np.int64(0)
            for k in range(len(own)):
                total += weights[k]
            # A weight's product with the share is at most ONE_SHARE, which a float64 holds.
            share = np.float64(np.int64(_ONE_SHARE) // max(total, np.int64(1)))
            for k in range(len(own)):
                own[k] = np.floor(np.float64(weights[k]) * share * _PART)


@compiled
def settle(sums, mixed):
    """Sums of values by attention weights, rounded: float64 integers (heads, count, head_dim) to
    ``mixed``, int32 (count, heads, head_dim)."""
    heads, count, size = sums.shape
    half = np.int64(1) << np.int64(_PROBABILITY - 1)
    for head in range(heads):
        for token in range(count):
            for j in range(size):
                mixed[token, head, j] = (np.int64(sums[head, token, j]) + half) >> _PROBABILITY


@compiled
def gate(gate_up, sigmoid, bound, out):
    """gate · sigmoid(gate) · up, saturated: int64 (tokens, 2 · intermediate) to ``out``, int32."""
    tokens, width = out.shape
    last = np.int64(len(sigmoid) - 1)
    half_index = np.int64(1) << np.int64(_SIGMOID_SHIFT - 1)
    half = np.int64(1) << np.int64(_SIGMOID - 1)
    half_product = np.int64(1) << np.int64(_PRODUCT_SHIFT - 1)
    index, found = np.empty(width, np.uint32), np.empty(width, np.int32)
    for token in range(tokens):
        gates, ups, own = gate_up[token, :width], gate_up[token, width:], out[token]
        # Each of these loops makes many values at a time; one loop over all of it would not.
        for k in range(width):
            at = ((gates[k] + half_index) >> _SIGMOID_SHIFT) + _SIGMOID_ZERO
            index[k] = np.uint32(min(max(at, 0), last))
        for k in range(width):
            found[k] = sigmoid[index[k]]
        for k in range(width):
            silu = (np.int64(found[k]) * gates[k] + half) >> _SIGMOID
            made = (silu * ups[k] + half_product) >> _PRODUCT_SHIFT
            own[k] = min(max(made, -bound), bound)


@compiled
def add(hidden, delta, out):
    """hidden + delta, saturated at int32: int32 and int64 (tokens, hidden) to ``out``, int32."""
    for token in range(hidden.shape[0]):
        for k in range(hidden.shape[1]):
            out[token, k] = min(max(np.int64(hidden[token, k]) + delta[token, k], -_INT32), _INT32)


# --- all of a layer in one call, for a few tokens: calls would cost as much as what they compute


@compiled
def layer(stream, matrices, constants, shifts, begin, pads, turns, keys, values, tables, bound, out):
    """One layer on int32 (batch, count, hidden), to ``out`` of the same shape.

    Args:
        matrices: qkv, out, gate and up, down, each as ``product`` takes its parts. constants:
            epsilon, numerator and drop of the norm. shifts: after each matrix. turns: cosines and
            sines. tables: of 2^−x and of the sigmoid. The rest: as ``turn``, ``attend``, ``gate``.
    """
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


@compiled
def round_rows(source, columns, factor, least, most, out, low, counts, squares, sums):
    """Round float32 weights to integers and see what they are like.

    Args:
        source: float32 (rows, columns). columns: float64, by which each column is multiplied.
            factor: by which all are, powers of two for the fraction bits included.
        least, most: of what ``low`` can hold.
        out: int32, the integers. low: int16, the integers cut to ``least`` and ``most``.
        counts: int32 (rows,), how many were cut. squares, sums: float64 (rows,), of the integers
            and of their magnitudes.

    Returns:
        the largest magnitude; beyond int32 the rest is void.
    """
    rows, width = source.shape
    largest = 0.0
    for row in range(rows):
        peak, square, total, count = 0.0, 0.0, np.int64(0), 0
        for k in range(width):
            value = np.rint((np.float64(source[row, k]) * columns[k]) * factor)
            peak = max(peak, abs(value))
            whole = np.int32(value)
            cut = min(max(whole, least), most)
            out[row, k] = whole
            low[row, k] = cut
            count += cut != whole
            total += abs(np.int64(whole))
        for k in range(width):
            square += np.float64(out[row, k]) * np.float64(out[row, k])
        counts[row], squares[row], sums[row] = count, square, total
        largest = max(largest, peak)
    return largest


@compiled
def cut_rest(values, low, starts, columns, extra):
    """Where int32 ``values`` differ from ``low`` (rows, columns): ``columns`` and ``extra``, int32,
    by the rows' ``starts``."""
    rows, width = values.shape
    for row in range(rows):
        at = starts[row]
        if at == starts[row + 1]:
            continue
        for k in range(width):
            if values[row, k] != low[row, k]:
                columns[at] = k
                extra[at] = values[row, k] - np.int32(low[row, k])
                at += 1
