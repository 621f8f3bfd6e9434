"""The prover's loops over committed cells, compiled by numba: their code words, claims about them,
and the sum-check that joins all claims.

Elements are uint64 below p; the extension's have a last axis of two words. What they compute is
defined in ``otr_core.spotcheck.proof.field``, with which tests compare them. Arrays are contiguous;
``out`` and others named so are written.
"""

# Kernels take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from otr_node.integers.compiled import compiled
from otr_node.proof.arithmetic import ZERO_WORD, minus, plus, residue, times, xtimes

# --- code words


@compiled
def butterflies(upper, lower, roots):
    """One round: upper and lower become their sum, and their difference times the round's roots."""
    for i in range(len(upper)):
        a, b = upper[i], lower[i]
        upper[i] = plus(a, b)
        lower[i] = times(minus(a, b), roots[i])


@compiled
def last_rounds(x, roots):
    """The rounds with halves of 4, 2 and 1 values; at least 8 of them."""
    w1, w2, w3 = roots[5], roots[6], roots[7]  # w2 is a square root of −1
    for i in range(0, len(x), 8):
        a, b, c, d, e, f, g, h = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        a, e = plus(a, e), minus(a, e)
        b, f = plus(b, f), times(minus(b, f), w1)
        c, g = plus(c, g), times(minus(c, g), w2)
        d, h = plus(d, h), times(minus(d, h), w3)
        a, c = plus(a, c), minus(a, c)
        b, d = plus(b, d), times(minus(b, d), w2)
        e, g = plus(e, g), minus(e, g)
        f, h = plus(f, h), times(minus(f, h), w2)
        x[i], x[i + 1], x[i + 2], x[i + 3] = plus(a, b), minus(a, b), plus(c, d), minus(c, d)
        x[i + 4], x[i + 5], x[i + 6], x[i + 7] = plus(e, f), minus(e, f), plus(g, h), minus(g, h)


@compiled
def encode_rows(rows, roots, order, out):
    """Code words of rows: uint64 (count, cells) to (count, 2 · cells), the transform of the row and
    as many zeros.

    Args:
        roots: of the round with halves of 2^k values from 2^k on, up to 2 · cells. order: bit
            reversal of places.
    """
    count = rows.shape[0]
    size = out.shape[1]
    x = np.empty(size, np.uint64)
    near = min(size, 4096)  # so much stays in the nearest cache through the last rounds
    for row in range(count):
        half = size // 2
        # the first round meets zeros in its upper half
        for i in range(half):
            x[i] = rows[row, i]
        lower, own = x[half:], roots[half:]
        for i in range(half):
            lower[i] = times(x[i], own[i])
        half //= 2
        while 2 * half > near:
            for base in range(0, size, 2 * half):
                butterflies(x[base : base + half], x[base + half : base + 2 * half], roots[half : 2 * half])
            half //= 2
        for part in range(0, size, near):
            step = min(half, near // 2)
            while step > 4:
                for base in range(part, part + near, 2 * step):
                    butterflies(x[base : base + step], x[base + step : base + 2 * step], roots[step : 2 * step])
                step //= 2
        last_rounds(x, roots)
        for i in range(size):
            out[row, i] = x[order[i]]


# --- claims


@compiled
def sum_rows(values, rows, across):
    """Σ rows[a, t] · across[j] · values[a, t, j], values int64."""
    total0, total1 = ZERO_WORD, ZERO_WORD
    for a in range(values.shape[0]):
        for t in range(values.shape[1]):
            r0, r1 = rows[a, t, 0], rows[a, t, 1]
            if r0 == ZERO_WORD and r1 == ZERO_WORD:
                continue
            s0, s1 = ZERO_WORD, ZERO_WORD
            for j in range(values.shape[2]):
                x = residue(values[a, t, j])
                s0 = plus(s0, times(x, across[j, 0]))
                s1 = plus(s1, times(x, across[j, 1]))
            y0, y1 = xtimes(r0, r1, s0, s1)
            total0, total1 = plus(total0, y0), plus(total1, y1)
    return total0, total1


@compiled
def sum_planes(values, first, plane):
    """Σ first[a] · plane[t, j] · values[a, t, j]."""
    total0, total1 = ZERO_WORD, ZERO_WORD
    for a in range(values.shape[0]):
        s0, s1 = ZERO_WORD, ZERO_WORD
        for t in range(values.shape[1]):
            for j in range(values.shape[2]):
                x = residue(values[a, t, j])
                s0 = plus(s0, times(x, plane[t, j, 0]))
                s1 = plus(s1, times(x, plane[t, j, 1]))
        y0, y1 = xtimes(first[a, 0], first[a, 1], s0, s1)
        total0, total1 = plus(total0, y0), plus(total1, y1)
    return total0, total1


@compiled
def sum_flat(cells, high, low):
    """Σ high[b] · low[i] · cells[b, i], cells of the base field."""
    total0, total1 = ZERO_WORD, ZERO_WORD
    for b in range(cells.shape[0]):
        s0, s1 = ZERO_WORD, ZERO_WORD
        for i in range(cells.shape[1]):
            x = cells[b, i]
            s0 = plus(s0, times(x, low[i, 0]))
            s1 = plus(s1, times(x, low[i, 1]))
        y0, y1 = xtimes(high[b, 0], high[b, 1], s0, s1)
        total0, total1 = plus(total0, y0), plus(total1, y1)
    return total0, total1


@compiled
def add_rows(rows, across, out):
    """out[a, t, j] += rows[a, t] · across[j]."""
    for a in range(out.shape[0]):
        for t in range(out.shape[1]):
            r0, r1 = rows[a, t, 0], rows[a, t, 1]
            if r0 == ZERO_WORD and r1 == ZERO_WORD:
                continue
            for j in range(out.shape[2]):
                y0, y1 = xtimes(r0, r1, across[j, 0], across[j, 1])
                out[a, t, j, 0] = plus(out[a, t, j, 0], y0)
                out[a, t, j, 1] = plus(out[a, t, j, 1], y1)


@compiled
def add_planes(first, plane, out):
    """out[a, t, j] += first[a] · plane[t, j]."""
    for a in range(out.shape[0]):
        for t in range(out.shape[1]):
            for j in range(out.shape[2]):
                y0, y1 = xtimes(first[a, 0], first[a, 1], plane[t, j, 0], plane[t, j, 1])
                out[a, t, j, 0] = plus(out[a, t, j, 0], y0)
                out[a, t, j, 1] = plus(out[a, t, j, 1], y1)


@compiled
def add_flat(high, low, out):
    """out[b, i] += high[b] · low[i]."""
    for b in range(out.shape[0]):
        for i in range(out.shape[1]):
            y0, y1 = xtimes(high[b, 0], high[b, 1], low[i, 0], low[i, 1])
            out[b, i, 0] = plus(out[b, i, 0], y0)
            out[b, i, 1] = plus(out[b, i, 1], y1)


@compiled
def spread_weights(weights, factor, out):
    """Weights of numbers (rows, positions, values, 2), times a base field factor, to the blocks of
    one limb: out (rows, down, along, positions of a block, values of a block, 2) += …"""
    down, along = out.shape[3], out.shape[4]
    for a in range(weights.shape[0]):
        for t in range(weights.shape[1]):
            for j in range(weights.shape[2]):
                for c in range(2):
                    value = times(weights[a, t, j, c], factor)
                    at = out[a, t // down, j // along, t % down, j % along, c]
                    out[a, t // down, j // along, t % down, j % along, c] = plus(at, value)


@compiled
def cut_limb(numbers, offsets, up, width, out):
    """One limb of numbers int64 (rows, positions, values) to its blocks; cells outside stay.

    Args:
        offsets: (rows,), added first. width: of the limb; 0 for the last one, which takes the rest.
    """
    down, along = out.shape[3], out.shape[4]
    mask = (np.int64(1) << np.int64(width)) - np.int64(1) if width > 0 else np.int64(-1)
    for a in range(numbers.shape[0]):
        for t in range(numbers.shape[1]):
            for j in range(numbers.shape[2]):
                value = ((numbers[a, t, j] + offsets[a]) >> np.int64(up)) & mask
                out[a, t // down, j // along, t % down, j % along] = residue(value)


@compiled
def count_values(cells, out):
    """out[v] += how often v is among the cells."""
    for i in range(len(cells)):
        out[cells[i]] += np.uint64(1)


# --- joining and opening


@compiled
def join_products(f, g):
    """Σ f · g at 0, 1, 2 over pairs; f and g (length, 2)."""
    out = np.zeros((3, 2), np.uint64)
    length = f.shape[0]
    for i in range(0, length, 2):
        a0, a1, b0, b1 = f[i, 0], f[i, 1], g[i, 0], g[i, 1]
        c0, c1, d0, d1 = ZERO_WORD, ZERO_WORD, ZERO_WORD, ZERO_WORD
        if i + 1 < length:
            c0, c1, d0, d1 = f[i + 1, 0], f[i + 1, 1], g[i + 1, 0], g[i + 1, 1]
        y0, y1 = xtimes(a0, a1, b0, b1)
        out[0, 0], out[0, 1] = plus(out[0, 0], y0), plus(out[0, 1], y1)
        y0, y1 = xtimes(c0, c1, d0, d1)
        out[1, 0], out[1, 1] = plus(out[1, 0], y0), plus(out[1, 1], y1)
        y0, y1 = xtimes(
            minus(plus(c0, c0), a0), minus(plus(c1, c1), a1), minus(plus(d0, d0), b0), minus(plus(d1, d1), b1)
        )
        out[2, 0], out[2, 1] = plus(out[2, 0], y0), plus(out[2, 1], y1)
    return out


@compiled
def join_products_base(cells, g):
    """The same with f of the base field (length,), an even number of them."""
    out = np.zeros((3, 2), np.uint64)
    for i in range(0, cells.shape[0], 2):
        a, c = cells[i], cells[i + 1]
        e = minus(plus(c, c), a)
        for k in range(2):
            b, d = g[i, k], g[i + 1, k]
            out[0, k] = plus(out[0, k], times(a, b))
            out[1, k] = plus(out[1, k], times(c, d))
            out[2, k] = plus(out[2, k], times(e, minus(plus(d, d), b)))
    return out


@compiled
def bind_base(cells, x0, x1, out):
    """Bind the lowest bit of base field values: (length,) to (length / 2, 2)."""
    for i in range(0, cells.shape[0], 2):
        a = cells[i]
        d = minus(cells[i + 1], a)
        out[i // 2, 0], out[i // 2, 1] = plus(a, times(x0, d)), times(x1, d)


@compiled
def combine_rows(cells, weights, out):
    """out[j] = Σ weights[i] · cells[i, j]: (rows, cells) of the base field, weights (rows, 2)."""
    for i in range(cells.shape[0]):
        w0, w1 = weights[i, 0], weights[i, 1]
        for j in range(cells.shape[1]):
            x = cells[i, j]
            out[j, 0] = plus(out[j, 0], times(x, w0))
            out[j, 1] = plus(out[j, 1], times(x, w1))
