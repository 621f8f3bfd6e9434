"""The prover's loops over the field, compiled by numba.

Elements are uint64 below p = 2^64 − 2^32 + 1; the extension's have a last axis of two words. What
they compute is defined in ``otr_core.spotcheck.proof.field``, with which tests compare them.
Arrays are contiguous; ``out`` and others named so are written.
"""

# Kernels take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-any-return"
from __future__ import annotations

import numba
import numpy as np

from otr_core.spotcheck.proof.field import NON_RESIDUE, P
from otr_node.integers.compiled import compiled

_P, _LOW, _HALF = np.uint64(P), np.uint64(2**32 - 1), np.uint64(32)
_SEVEN = np.uint64(NON_RESIDUE)
_ZERO, _ONE = np.uint64(0), np.uint64(1)

_ROOM = 512  # numbers worked on at once: they stay in the nearest cache

inlined = numba.njit(inline="always")
"""Written into the loops that call it: only so do compilers make vectors of them."""


@inlined
def plus(x, y):
    total = x + y
    total += _LOW if total < x else _ZERO
    return total - (_P if total >= _P else _ZERO)


@inlined
def minus(x, y):
    return x - y + (_P if x < y else _ZERO)


@inlined
def times(x, y):
    """x · y modulo p by halves of 32 bits, which compilers turn into vectors."""
    x0, x1, y0, y1 = x & _LOW, x >> _HALF, y & _LOW, y >> _HALF
    low = x0 * y0
    a = x1 * y0 + (low >> _HALF)
    b = x0 * y1 + (a & _LOW)
    high = x1 * y1 + (a >> _HALF) + (b >> _HALF)
    low = (low & _LOW) | (b << _HALF)
    top, rest = high >> _HALF, (high << _HALF) - (high & _LOW)
    part = low - top
    part -= _LOW if low < top else _ZERO
    total = part + rest
    total += _LOW if total < rest else _ZERO
    return total - (_P if total >= _P else _ZERO)


@compiled
def multiply(a0, a1, b0, b1, out0, out1):
    """(a0 + a1√7)(b0 + b1√7), words apart: arrays (n,), of which none is ``out``'s."""
    for i in range(len(out0)):
        first, second = times(a0[i], b0[i]), times(a1[i], b1[i])
        crossed = times(plus(a0[i], a1[i]), plus(b0[i], b1[i]))
        out1[i] = minus(minus(crossed, first), second)
        out0[i] = plus(first, times(second, _SEVEN))


@compiled
def multiply_by(x0, x1, b0, b1, out0, out1):
    """The same with one number x."""
    both = plus(x0, x1)
    for i in range(len(out0)):
        first, second = times(x0, b0[i]), times(x1, b1[i])
        crossed = times(both, plus(b0[i], b1[i]))
        out1[i] = minus(minus(crossed, first), second)
        out0[i] = plus(first, times(second, _SEVEN))


@compiled
def add_to(a, out):
    """out += a."""
    for i in range(len(out)):
        out[i] = plus(out[i], a[i])


@compiled
def subtract(a, b, out):
    """out = a − b."""
    for i in range(len(out)):
        out[i] = minus(a[i], b[i])


@compiled
def sum_all(a):
    """Σ a of fewer than 2^32 values."""
    low, high = _ZERO, _ZERO
    for i in range(len(a)):
        low += a[i] & _LOW
        high += a[i] >> _HALF
    return plus(low % _P, times(high % _P, _LOW + _ONE))


@inlined
def xtimes(a, b, c, d):
    """(a + b√7)(c + d√7)."""
    first, second = times(a, c), times(b, d)
    crossed = minus(minus(times(plus(a, b), plus(c, d)), first), second)
    return plus(first, times(second, _SEVEN)), crossed


@inlined
def residue(value):
    """A signed integer as an element."""
    return np.uint64(value) + _P if value < 0 else np.uint64(value)


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
    total0, total1 = _ZERO, _ZERO
    for a in range(values.shape[0]):
        for t in range(values.shape[1]):
            r0, r1 = rows[a, t, 0], rows[a, t, 1]
            if r0 == _ZERO and r1 == _ZERO:
                continue
            s0, s1 = _ZERO, _ZERO
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
    total0, total1 = _ZERO, _ZERO
    for a in range(values.shape[0]):
        s0, s1 = _ZERO, _ZERO
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
    total0, total1 = _ZERO, _ZERO
    for b in range(cells.shape[0]):
        s0, s1 = _ZERO, _ZERO
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
            if r0 == _ZERO and r1 == _ZERO:
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


# --- sum-checks of three factors


@compiled
def products(f, g, h):
    """A round's polynomial Σ f · g · h at 0 … 3 over pairs along the last axis: three arrays
    (outer, length, 2)."""
    out = np.zeros((4, 2), np.uint64)
    length = f.shape[1]
    for o in range(f.shape[0]):
        for i in range(0, length, 2):
            more = i + 1 < length
            a0, a1, b0, b1, c0, c1 = f[o, i, 0], f[o, i, 1], g[o, i, 0], g[o, i, 1], h[o, i, 0], h[o, i, 1]
            da0 = minus(f[o, i + 1, 0], a0) if more else minus(_ZERO, a0)
            da1 = minus(f[o, i + 1, 1], a1) if more else minus(_ZERO, a1)
            db0 = minus(g[o, i + 1, 0], b0) if more else minus(_ZERO, b0)
            db1 = minus(g[o, i + 1, 1], b1) if more else minus(_ZERO, b1)
            dc0 = minus(h[o, i + 1, 0], c0) if more else minus(_ZERO, c0)
            dc1 = minus(h[o, i + 1, 1], c1) if more else minus(_ZERO, c1)
            for x in range(4):
                y0, y1 = xtimes(a0, a1, b0, b1)
                y0, y1 = xtimes(y0, y1, c0, c1)
                out[x, 0] = plus(out[x, 0], y0)
                out[x, 1] = plus(out[x, 1], y1)
                a0, a1, b0, b1, c0, c1 = (
                    plus(a0, da0),
                    plus(a1, da1),
                    plus(b0, db0),
                    plus(b1, db1),
                    plus(c0, dc0),
                    plus(c1, dc1),
                )
    return out


@compiled
def bind_axis(f, x0, x1, out):
    """Bind the lowest bit of the last axis: (outer, length, 2) to (outer, ⌈length / 2⌉, 2)."""
    length = f.shape[1]
    for o in range(f.shape[0]):
        for i in range(0, length, 2):
            a0, a1 = f[o, i, 0], f[o, i, 1]
            b0, b1 = _ZERO, _ZERO
            if i + 1 < length:
                b0, b1 = f[o, i + 1, 0], f[o, i + 1, 1]
            y0, y1 = xtimes(x0, x1, minus(b0, a0), minus(b1, a1))
            out[o, i // 2, 0], out[o, i // 2, 1] = plus(a0, y0), plus(a1, y1)


@compiled
def join_products(f, g):
    """Σ f · g at 0, 1, 2 over pairs; f and g (length, 2)."""
    out = np.zeros((3, 2), np.uint64)
    length = f.shape[0]
    for i in range(0, length, 2):
        a0, a1, b0, b1 = f[i, 0], f[i, 1], g[i, 0], g[i, 1]
        c0, c1, d0, d1 = _ZERO, _ZERO, _ZERO, _ZERO
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


# --- sums of fractions


# Both words of a number lie in arrays of their own here, (4, n): p's two and q's two, or (2, n).


@compiled
def range_leaves(cells, ids, alpha0, alpha1, beta0, beta1, out):
    """Fractions 1 / (α − cell − β · id) of blocks: cells (blocks, n), ids (blocks, n or 1); what lies
    beyond is 0 / 1."""
    at = 0
    for b in range(cells.shape[0]):
        for i in range(cells.shape[1]):
            own = ids[b, i] if ids.shape[1] > 1 else ids[b, 0]
            out[0, at], out[1, at] = _ONE, _ZERO
            out[2, at] = minus(minus(alpha0, cells[b, i]), times(beta0, own))
            out[3, at] = minus(alpha1, times(beta1, own))
            at += 1
    for i in range(at, out.shape[1]):
        out[0, i], out[1, i], out[2, i], out[3, i] = _ZERO, _ZERO, _ONE, _ZERO


@compiled
def pair_leaves(index, value, base0, base1, square0, square1, out):
    """Fractions 1 / (base − index − β² · value), base = α − β · id; what lies beyond is 0 / 1."""
    for i in range(len(index)):
        out[0, i], out[1, i] = _ONE, _ZERO
        out[2, i] = minus(minus(base0, index[i]), times(square0, value[i]))
        out[3, i] = minus(base1, times(square1, value[i]))
    for i in range(len(index), out.shape[1]):
        out[0, i], out[1, i], out[2, i], out[3, i] = _ZERO, _ZERO, _ONE, _ZERO


# One-dimensional slices of rows alone are known to lie without gaps.


@compiled
def add_fractions(f, out):
    """The level above: sums of fractions half a level apart, (4, 2n) to (4, n)."""
    n = out.shape[1]
    room = min(n, _ROOM)
    t0, t1 = np.empty(room, np.uint64), np.empty(room, np.uint64)
    f0, f1, f2, f3, o0, o1, o2, o3 = f[0], f[1], f[2], f[3], out[0], out[1], out[2], out[3]
    for i in range(0, n, room):
        e, j, m = i + room, i + n, i + n + room
        multiply(f0[i:e], f1[i:e], f2[j:m], f3[j:m], o0[i:e], o1[i:e])
        multiply(f0[j:m], f1[j:m], f2[i:e], f3[i:e], t0, t1)
        add_to(t0, o0[i:e])
        add_to(t1, o1[i:e])
        multiply(f2[i:e], f3[i:e], f2[j:m], f3[j:m], o2[i:e], o3[i:e])


@compiled
def fraction_terms(a0, a1, c0, c1, b0, b1, d0, d1, e0, e1, mix0, mix1, t, u):
    """Σ e · (a d + b c + mix c d): fractions a / c and b / d with the level's highest bit 0, and 1;
    t and u (2, n) are overwritten."""
    t0, t1, u0, u1 = t[0], t[1], u[0], u[1]
    multiply_by(mix0, mix1, d0, d1, t0, t1)
    add_to(b0, t0)
    add_to(b1, t1)
    multiply(c0, c1, t0, t1, u0, u1)
    multiply(a0, a1, d0, d1, t0, t1)
    add_to(u0, t0)
    add_to(u1, t1)
    multiply(t0, t1, e0, e1, u0, u1)
    return sum_all(u0), sum_all(u1)


@compiled
def extend(low, high, out):
    """What the line through two values is at 2."""
    for i in range(len(out)):
        out[i] = minus(plus(high[i], high[i]), low[i])


@compiled
def fraction_round(f, eq, mix0, mix1):
    """Σ eq · (p0 q1 + p1 q0 + mix q0 q1) with the highest bit of x at 0, 1, 2: f (4, 4n), whose
    highest bit tells p0 from p1, eq (2, n)."""
    n = eq.shape[1]
    out = np.zeros((3, 2), np.uint64)
    room = min(n, _ROOM)
    t, u, lines = np.empty((2, room), np.uint64), np.empty((2, room), np.uint64), np.empty((8, room), np.uint64)
    f0, f1, f2, f3, e0, e1 = f[0], f[1], f[2], f[3], eq[0], eq[1]
    for first in range(0, n, room):
        g0, g1 = e0[first : first + room], e1[first : first + room]
        for x in range(2):
            i = x * n + first
            e, j, m = i + room, i + 2 * n, i + 2 * n + room
            low = f0[i:e], f1[i:e], f2[i:e], f3[i:e]
            y0, y1 = fraction_terms(
                low[0], low[1], low[2], low[3], f0[j:m], f1[j:m], f2[j:m], f3[j:m], g0, g1, mix0, mix1, t, u
            )
            out[x, 0], out[x, 1] = plus(out[x, 0], y0), plus(out[x, 1], y1)
        for half in range(2):
            i = 2 * n * half + first
            e, j, m = i + room, i + n, i + n + room
            extend(f0[i:e], f0[j:m], lines[4 * half])
            extend(f1[i:e], f1[j:m], lines[4 * half + 1])
            extend(f2[i:e], f2[j:m], lines[4 * half + 2])
            extend(f3[i:e], f3[j:m], lines[4 * half + 3])
        y0, y1 = fraction_terms(
            lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], lines[6], lines[7], g0, g1, mix0, mix1, t, u
        )
        out[2, 0], out[2, 1] = plus(out[2, 0], y0), plus(out[2, 1], y1)
    return out


@compiled
def bind_high(f, x0, x1, out):
    """Bind the highest bit but one of (2, 4n), the two halves apart: (2, 2n)."""
    n = f.shape[1] // 4
    room = min(n, _ROOM)
    t0, t1 = np.empty(room, np.uint64), np.empty(room, np.uint64)
    f0, f1, o0, o1 = f[0], f[1], out[0], out[1]
    for half in range(2):
        for first in range(0, n, room):
            i, o = 2 * n * half + first, n * half + first
            e, j, m, end = i + room, i + n, i + n + room, o + room
            subtract(f0[j:m], f0[i:e], t0)
            subtract(f1[j:m], f1[i:e], t1)
            multiply_by(x0, x1, t0, t1, o0[o:end], o1[o:end])
            add_to(f0[i:e], o0[o:end])
            add_to(f1[i:e], o1[o:end])


@compiled
def eq_half(eq, out):
    """Forget the highest bit: (2, 2n) to (2, n)."""
    n = out.shape[1]
    for k in range(2):
        row, own = eq[k], out[k]
        low, high = row[:n], row[n:]
        for i in range(n):
            own[i] = plus(low[i], high[i])


@compiled
def eq_double(table, x0, x1, out):
    """One more bit, the highest: (2, n) to (2, 2n)."""
    n = table.shape[1]
    o0, o1 = out[0], out[1]
    multiply_by(x0, x1, table[0], table[1], o0[n:], o1[n:])
    subtract(table[0], o0[n:], o0[:n])
    subtract(table[1], o1[n:], o1[:n])


# --- factors of sum-checks


@compiled
def fold_positions(values, weights, out):
    """out[a, k] = Σ_t weights[t] · values[a, t, k]: values int64, weights (positions, 2)."""
    for a in range(values.shape[0]):
        for t in range(values.shape[1]):
            w0, w1 = weights[t, 0], weights[t, 1]
            if w0 == _ZERO and w1 == _ZERO:
                continue
            for k in range(values.shape[2]):
                x = residue(values[a, t, k])
                out[a, k, 0] = plus(out[a, k, 0], times(x, w0))
                out[a, k, 1] = plus(out[a, k, 1], times(x, w1))


@compiled
def lift(values, out):
    """Signed integers (n,) to the extension (n, 2)."""
    for i in range(len(values)):
        out[i, 0], out[i, 1] = residue(values[i]), _ZERO


@compiled
def outer_three(x, y, z, out):
    """out[a, t, j] = x[a] · y[t] · z[j]."""
    for a in range(len(x)):
        for t in range(len(y)):
            r0, r1 = xtimes(x[a, 0], x[a, 1], y[t, 0], y[t, 1])
            for j in range(len(z)):
                out[a, t, j, 0], out[a, t, j, 1] = xtimes(r0, r1, z[j, 0], z[j, 1])


@compiled
def seen_keys(keys, weights, out):
    """out[l, t, g, c] = Σ_{s ≤ t} weights[s] · keys[l, s, g, c]: keys int64."""
    for a in range(keys.shape[0]):
        for t in range(keys.shape[1]):
            for g in range(keys.shape[2]):
                for c in range(keys.shape[3]):
                    x = residue(keys[a, t, g, c])
                    y0, y1 = times(x, weights[t, 0]), times(x, weights[t, 1])
                    if t:
                        y0, y1 = plus(y0, out[a, t - 1, g, c, 0]), plus(y1, out[a, t - 1, g, c, 1])
                    out[a, t, g, c, 0], out[a, t, g, c, 1] = y0, y1
