"""The prover's loops in the rounds of sum-checks, compiled by numba: products of three factors, sums
of fractions, and how factors are made.

Elements and arrays as in ``kernels``.
"""

# Kernels take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from otr_node.integers.compiled import compiled
from otr_node.proof.arithmetic import (
    ONE_WORD,
    ZERO_WORD,
    add_to,
    minus,
    multiply,
    multiply_by,
    plus,
    residue,
    subtract,
    sum_all,
    times,
    xtimes,
)

_ROOM = 512  # numbers worked on at once: they stay in the nearest cache


# --- sum-checks of three factors


@compiled
def pairs_of(row, first, low, step):
    """Of pairs of a row from pair ``first`` on the lower one, and the way to the upper one; beyond the row lies 0."""
    n, length = len(low), len(row)
    part = row[2 * first : 2 * (first + n)]
    for i in range(len(part) // 2):
        low[i] = part[2 * i]
        step[i] = minus(part[2 * i + 1], part[2 * i])
    if 2 * (first + n) > length:
        low[n - 1] = row[length - 1]
        step[n - 1] = minus(ZERO_WORD, low[n - 1])


@compiled
def products(f, g, h):
    """A round's polynomial Σ f · g · h at 0 … 3 over pairs along the last axis: three arrays (2, outer, length)."""
    out = np.zeros((4, 2), np.uint64)
    outer, length = f.shape[1], f.shape[2]
    pairs = (length + 1) // 2
    room = min(pairs, _ROOM)
    lows, steps = np.empty((6, room), np.uint64), np.empty((6, room), np.uint64)
    t, u = np.empty((2, room), np.uint64), np.empty((2, room), np.uint64)
    for o in range(outer):
        for first in range(0, pairs, room):
            n = min(room, pairs - first)
            for word in range(2):
                pairs_of(f[word, o], first, lows[word, :n], steps[word, :n])
                pairs_of(g[word, o], first, lows[2 + word, :n], steps[2 + word, :n])
                pairs_of(h[word, o], first, lows[4 + word, :n], steps[4 + word, :n])
            a0, a1, b0, b1 = lows[0, :n], lows[1, :n], lows[2, :n], lows[3, :n]
            t0, t1, u0, u1 = t[0, :n], t[1, :n], u[0, :n], u[1, :n]
            for x in range(4):
                multiply(a0, a1, b0, b1, t0, t1)
                multiply(t0, t1, lows[4, :n], lows[5, :n], u0, u1)
                out[x, 0], out[x, 1] = plus(out[x, 0], sum_all(u0)), plus(out[x, 1], sum_all(u1))
                if x < 3:
                    for each in range(6):
                        add_to(steps[each, :n], lows[each, :n])
    return out


@compiled
def bind_axis(f, x0, x1, out):
    """Bind the lowest bit of the last axis: (2, outer, length) to (2, outer, ⌈length / 2⌉)."""
    pairs = out.shape[2]
    room = min(pairs, _ROOM)
    lows, steps = np.empty((2, room), np.uint64), np.empty((2, room), np.uint64)
    for o in range(f.shape[1]):
        for first in range(0, pairs, room):
            n = min(room, pairs - first)
            own0, own1 = out[0, o, first : first + n], out[1, o, first : first + n]
            for word in range(2):
                pairs_of(f[word, o], first, lows[word, :n], steps[word, :n])
            multiply_by(x0, x1, steps[0, :n], steps[1, :n], own0, own1)
            add_to(lows[0, :n], own0)
            add_to(lows[1, :n], own1)


# --- sums of fractions


# Both words of a number lie in arrays of their own here, (4, n): p's two and q's two, or (2, n). Where every
# numerator of a tree's leaves is one, (2, n) are the denominators alone.


@compiled
def range_leaves(blocks, ids, alpha0, alpha1, beta0, beta1, at, out):
    """Denominators α − cell − β · id of blocks, from leaf ``at`` on: cells (count, n), ids (count, n or 1)."""
    n = blocks.shape[1]
    for b in range(blocks.shape[0]):
        row, own, first, end = blocks[b], ids[b], at + b * n, at + (b + 1) * n
        q0, q1 = out[0, first:end], out[1, first:end]
        one0, one1 = minus(alpha0, times(beta0, own[0])), minus(alpha1, times(beta1, own[0]))
        for i in range(n):
            q0[i], q1[i] = minus(one0, row[i]), one1
        if len(own) > 1:
            for i in range(n):
                q0[i] = minus(minus(alpha0, times(beta0, own[i])), row[i])
                q1[i] = minus(alpha1, times(beta1, own[i]))


@compiled
def pair_leaves(index, value, base0, base1, square0, square1, out):
    """Denominators base − index − β² · value, base = α − β · id."""
    for i in range(len(index)):
        out[0, i] = minus(minus(base0, index[i]), times(square0, value[i]))
        out[1, i] = minus(base1, times(square1, value[i]))


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
def add_denominators(q, out):
    """``add_fractions`` where every numerator is one: denominators (2, 2n) to fractions (4, n)."""
    n = out.shape[1]
    room = min(n, _ROOM)
    q0, q1, o0, o1, o2, o3 = q[0], q[1], out[0], out[1], out[2], out[3]
    for i in range(0, n, room):
        e, j, m = i + room, i + n, i + n + room
        multiply(q0[i:e], q1[i:e], q0[j:m], q1[j:m], o2[i:e], o3[i:e])
        for low, high, own in ((q0[i:e], q0[j:m], o0[i:e]), (q1[i:e], q1[j:m], o1[i:e])):
            for place in range(len(own)):
                own[place] = plus(low[place], high[place])


@compiled
def one_more(x0, x1, q):
    """q becomes 1 + x · q, (2, n)."""
    room = min(q.shape[1], _ROOM)
    t0, t1 = np.empty(room, np.uint64), np.empty(room, np.uint64)
    q0, q1 = q[0], q[1]
    for first in range(0, q.shape[1], room):
        own0, own1 = q0[first : first + room], q1[first : first + room]
        multiply_by(x0, x1, own0, own1, t0, t1)
        for i in range(room):
            own0[i], own1[i] = plus(t0[i], ONE_WORD), t1[i]


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
def product_round(f, eq, middle):
    """Σ eq · c0 c1 with the highest bit of x at 0, 1 (where ``middle``) and 2: f (2, 4n), whose highest bit tells c0
    from c1, eq (2, n)."""
    n = eq.shape[1]
    out = np.zeros((3, 2), np.uint64)
    room = min(n, _ROOM)
    t, u, lines = np.empty((2, room), np.uint64), np.empty((2, room), np.uint64), np.empty((4, room), np.uint64)
    t0, t1, u0, u1 = t[0], t[1], u[0], u[1]
    f0, f1, e0, e1 = f[0], f[1], eq[0], eq[1]
    for first in range(0, n, room):
        g0, g1 = e0[first : first + room], e1[first : first + room]
        for x in range(3):
            if x == 1 and not middle:
                continue
            if x < 2:
                i = x * n + first
                e, j, m = i + room, i + 2 * n, i + 2 * n + room
                multiply(f0[i:e], f1[i:e], f0[j:m], f1[j:m], t0, t1)
            else:
                for half in range(2):
                    i = 2 * n * half + first
                    e, j, m = i + room, i + n, i + n + room
                    extend(f0[i:e], f0[j:m], lines[2 * half])
                    extend(f1[i:e], f1[j:m], lines[2 * half + 1])
                multiply(lines[0], lines[1], lines[2], lines[3], t0, t1)
            multiply(t0, t1, g0, g1, u0, u1)
            out[x, 0], out[x, 1] = plus(out[x, 0], sum_all(u0)), plus(out[x, 1], sum_all(u1))
    return out


@compiled
def fraction_round(f, eq, mix0, mix1, middle):
    """Σ eq · (p0 q1 + p1 q0 + mix q0 q1) with the highest bit of x at 0, 1 (where ``middle``) and 2: f (4, 4n), whose
    highest bit tells p0 from p1, eq (2, n)."""
    n = eq.shape[1]
    out = np.zeros((3, 2), np.uint64)
    room = min(n, _ROOM)
    t, u, lines = np.empty((2, room), np.uint64), np.empty((2, room), np.uint64), np.empty((8, room), np.uint64)
    f0, f1, f2, f3, e0, e1 = f[0], f[1], f[2], f[3], eq[0], eq[1]
    for first in range(0, n, room):
        g0, g1 = e0[first : first + room], e1[first : first + room]
        for x in range(2 if middle else 1):
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


# --- factors of sum-checks, (2, …): words apart


@compiled
def lift(values, out):
    """Signed integers (n,) to the extension (2, n)."""
    for i in range(len(values)):
        out[0, i], out[1, i] = residue(values[i]), ZERO_WORD


@compiled
def outer_three(x, y, z, out):
    """out[:, a, t, j] = x[a] · y[t] · z[j]: x and y (n, 2), z (2, n)."""
    for a in range(len(x)):
        for t in range(len(y)):
            r0, r1 = xtimes(x[a, 0], x[a, 1], y[t, 0], y[t, 1])
            multiply_by(r0, r1, z[0], z[1], out[0, a, t], out[1, a, t])


@compiled
def seen_keys(keys, weights, out):
    """out[:, l, t, g, c] = Σ_{s ≤ t} weights[s] · keys[l, s, g, c]: keys int64."""
    for a in range(keys.shape[0]):
        for t in range(keys.shape[1]):
            for g in range(keys.shape[2]):
                row, own0, own1 = keys[a, t, g], out[0, a, t, g], out[1, a, t, g]
                for c in range(len(row)):
                    x = residue(row[c])
                    own0[c], own1[c] = times(x, weights[t, 0]), times(x, weights[t, 1])
                if t:
                    add_to(out[0, a, t - 1, g], own0)
                    add_to(out[1, a, t - 1, g], own1)
