"""The prover's loops over the field, compiled by numba.

Elements are uint64 below p = 2^64 − 2^32 + 1; the extension's have a last axis of two words. What
they compute is defined in ``otr_core.spotcheck.proof.field``, with which tests compare them.
Arrays are contiguous; ``out`` and others named so are written.
"""

# Kernels take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from otr_core.spotcheck.proof.field import NON_RESIDUE, P
from otr_node.integers.compiled import compiled

_P, _LOW, _HALF = np.uint64(P), np.uint64(2**32 - 1), np.uint64(32)
_SEVEN = np.uint64(NON_RESIDUE)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@intrinsic
def wide(typingctx, x, y):
    """Both words of a product of 64 bits by 64."""
    signature = types.UniTuple(types.uint64, 2)(types.uint64, types.uint64)

    def generate(context, builder, signature, arguments):
        long = ir.IntType(128)
        a, b = (builder.zext(argument, long) for argument in arguments)
        product = builder.mul(a, b)
        low = builder.trunc(product, ir.IntType(64))
        high = builder.trunc(builder.lshr(product, ir.Constant(long, 64)), ir.IntType(64))
        return context.make_tuple(builder, signature.return_type, (low, high))

    return signature, generate


@compiled
def add(x, y):
    total = x + y
    if total < x:
        total += _LOW
    return total - _P if total >= _P else total


@compiled
def sub(x, y):
    return x - y if x >= y else x + (_P - y)


@compiled
def mul(x, y):
    low, high = wide(x, y)
    top, rest = high >> _HALF, (high & _LOW) * _LOW
    part = low - top
    if low < top:
        part -= _LOW
    total = part + rest
    if total < rest:
        total += _LOW
    return total - _P if total >= _P else total


@compiled
def xmul(a, b, c, d):
    """(a + b√7)(c + d√7)."""
    first, second = mul(a, c), mul(b, d)
    crossed = sub(sub(mul(add(a, b), add(c, d)), first), second)
    return add(first, mul(second, _SEVEN)), crossed


@compiled
def residue(value):
    """A signed integer as an element."""
    return np.uint64(value) + _P if value < 0 else np.uint64(value)


# --- code words


@compiled
def encode_rows(rows, roots, order, out):
    """Code words of rows: uint64 (count, cells) to (count, size), the transform of the row and as
    many zeros.

    Args:
        roots: powers of the size's root of unity, (size / 2,). order: bit reversal of places.
    """
    count, cells = rows.shape
    size = out.shape[1]
    x = np.empty(size, np.uint64)
    for row in range(count):
        # the first round meets zeros in its upper half
        half = size // 2
        for i in range(half):
            value = rows[row, i] if i < cells else _ZERO
            x[i] = value
            x[i + half] = mul(value, roots[i])
        half //= 2
        while half > 0:
            step = size // (2 * half)
            for base in range(0, size, 2 * half):
                for i in range(half):
                    a, b = x[base + i], x[base + half + i]
                    x[base + i] = add(a, b)
                    x[base + half + i] = mul(sub(a, b), roots[i * step])
            half //= 2
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
                s0 = add(s0, mul(x, across[j, 0]))
                s1 = add(s1, mul(x, across[j, 1]))
            y0, y1 = xmul(r0, r1, s0, s1)
            total0, total1 = add(total0, y0), add(total1, y1)
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
                s0 = add(s0, mul(x, plane[t, j, 0]))
                s1 = add(s1, mul(x, plane[t, j, 1]))
        y0, y1 = xmul(first[a, 0], first[a, 1], s0, s1)
        total0, total1 = add(total0, y0), add(total1, y1)
    return total0, total1


@compiled
def sum_flat(cells, high, low):
    """Σ high[b] · low[i] · cells[b, i], cells of the base field."""
    total0, total1 = _ZERO, _ZERO
    for b in range(cells.shape[0]):
        s0, s1 = _ZERO, _ZERO
        for i in range(cells.shape[1]):
            x = cells[b, i]
            s0 = add(s0, mul(x, low[i, 0]))
            s1 = add(s1, mul(x, low[i, 1]))
        y0, y1 = xmul(high[b, 0], high[b, 1], s0, s1)
        total0, total1 = add(total0, y0), add(total1, y1)
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
                y0, y1 = xmul(r0, r1, across[j, 0], across[j, 1])
                out[a, t, j, 0] = add(out[a, t, j, 0], y0)
                out[a, t, j, 1] = add(out[a, t, j, 1], y1)


@compiled
def add_planes(first, plane, out):
    """out[a, t, j] += first[a] · plane[t, j]."""
    for a in range(out.shape[0]):
        for t in range(out.shape[1]):
            for j in range(out.shape[2]):
                y0, y1 = xmul(first[a, 0], first[a, 1], plane[t, j, 0], plane[t, j, 1])
                out[a, t, j, 0] = add(out[a, t, j, 0], y0)
                out[a, t, j, 1] = add(out[a, t, j, 1], y1)


@compiled
def add_flat(high, low, out):
    """out[b, i] += high[b] · low[i]."""
    for b in range(out.shape[0]):
        for i in range(out.shape[1]):
            y0, y1 = xmul(high[b, 0], high[b, 1], low[i, 0], low[i, 1])
            out[b, i, 0] = add(out[b, i, 0], y0)
            out[b, i, 1] = add(out[b, i, 1], y1)


@compiled
def spread_weights(weights, factor, out):
    """Weights of numbers (rows, positions, values, 2), times a base field factor, to the blocks of
    one limb: out (rows, down, along, positions of a block, values of a block, 2) += …"""
    down, along = out.shape[3], out.shape[4]
    for a in range(weights.shape[0]):
        for t in range(weights.shape[1]):
            for j in range(weights.shape[2]):
                for c in range(2):
                    value = mul(weights[a, t, j, c], factor)
                    at = out[a, t // down, j // along, t % down, j % along, c]
                    out[a, t // down, j // along, t % down, j % along, c] = add(at, value)


@compiled
def cut_limb(numbers, offset, up, width, out):
    """One limb of numbers int64 (rows, positions, values) to its blocks; cells outside stay."""
    down, along = out.shape[3], out.shape[4]
    mask = np.int64((np.int64(1) << np.int64(width)) - np.int64(1))
    for a in range(numbers.shape[0]):
        for t in range(numbers.shape[1]):
            for j in range(numbers.shape[2]):
                value = numbers[a, t, j] + offset
                if width > 0:
                    value = (value >> np.int64(up)) & mask
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
            da0 = sub(f[o, i + 1, 0], a0) if more else sub(_ZERO, a0)
            da1 = sub(f[o, i + 1, 1], a1) if more else sub(_ZERO, a1)
            db0 = sub(g[o, i + 1, 0], b0) if more else sub(_ZERO, b0)
            db1 = sub(g[o, i + 1, 1], b1) if more else sub(_ZERO, b1)
            dc0 = sub(h[o, i + 1, 0], c0) if more else sub(_ZERO, c0)
            dc1 = sub(h[o, i + 1, 1], c1) if more else sub(_ZERO, c1)
            for x in range(4):
                y0, y1 = xmul(a0, a1, b0, b1)
                y0, y1 = xmul(y0, y1, c0, c1)
                out[x, 0] = add(out[x, 0], y0)
                out[x, 1] = add(out[x, 1], y1)
                a0, a1, b0, b1, c0, c1 = add(a0, da0), add(a1, da1), add(b0, db0), add(b1, db1), add(c0, dc0), add(c1, dc1)
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
            y0, y1 = xmul(x0, x1, sub(b0, a0), sub(b1, a1))
            out[o, i // 2, 0], out[o, i // 2, 1] = add(a0, y0), add(a1, y1)


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
        y0, y1 = xmul(a0, a1, b0, b1)
        out[0, 0], out[0, 1] = add(out[0, 0], y0), add(out[0, 1], y1)
        y0, y1 = xmul(c0, c1, d0, d1)
        out[1, 0], out[1, 1] = add(out[1, 0], y0), add(out[1, 1], y1)
        y0, y1 = xmul(sub(add(c0, c0), a0), sub(add(c1, c1), a1), sub(add(d0, d0), b0), sub(add(d1, d1), b1))
        out[2, 0], out[2, 1] = add(out[2, 0], y0), add(out[2, 1], y1)
    return out


@compiled
def join_products_base(cells, g):
    """The same with f of the base field (length,), an even number of them."""
    out = np.zeros((3, 2), np.uint64)
    for i in range(0, cells.shape[0], 2):
        a, c = cells[i], cells[i + 1]
        e = sub(add(c, c), a)
        for k in range(2):
            b, d = g[i, k], g[i + 1, k]
            out[0, k] = add(out[0, k], mul(a, b))
            out[1, k] = add(out[1, k], mul(c, d))
            out[2, k] = add(out[2, k], mul(e, sub(add(d, d), b)))
    return out


@compiled
def bind_base(cells, x0, x1, out):
    """Bind the lowest bit of base field values: (length,) to (length / 2, 2)."""
    for i in range(0, cells.shape[0], 2):
        a = cells[i]
        d = sub(cells[i + 1], a)
        out[i // 2, 0], out[i // 2, 1] = add(a, mul(x0, d)), mul(x1, d)


@compiled
def combine_rows(cells, weights, out):
    """out[j] = Σ weights[i] · cells[i, j]: (rows, cells) of the base field, weights (rows, 2)."""
    for i in range(cells.shape[0]):
        w0, w1 = weights[i, 0], weights[i, 1]
        for j in range(cells.shape[1]):
            x = cells[i, j]
            out[j, 0] = add(out[j, 0], mul(x, w0))
            out[j, 1] = add(out[j, 1], mul(x, w1))


# --- sums of fractions


@compiled
def range_leaves(cells, ids, alpha0, alpha1, beta0, beta1, p, q):
    """Fractions 1 / (α − cell − β · id) of blocks: cells (blocks, n), ids (blocks, n or 1); what lies
    beyond is 0 / 1."""
    at = 0
    for b in range(cells.shape[0]):
        for i in range(cells.shape[1]):
            own = ids[b, i] if ids.shape[1] > 1 else ids[b, 0]
            p[at, 0], p[at, 1] = _ONE, _ZERO
            q[at, 0] = sub(sub(alpha0, cells[b, i]), mul(beta0, own))
            q[at, 1] = sub(alpha1, mul(beta1, own))
            at += 1
    for i in range(at, len(p)):
        p[i, 0], p[i, 1], q[i, 0], q[i, 1] = _ZERO, _ZERO, _ONE, _ZERO


@compiled
def pair_leaves(index, value, base0, base1, square0, square1, p, q):
    """Fractions 1 / (base − index − β² · value), base = α − β · id; what lies beyond is 0 / 1."""
    for i in range(len(index)):
        p[i, 0], p[i, 1] = _ONE, _ZERO
        q[i, 0] = sub(sub(base0, index[i]), mul(square0, value[i]))
        q[i, 1] = sub(base1, mul(square1, value[i]))
    for i in range(len(index), len(p)):
        p[i, 0], p[i, 1], q[i, 0], q[i, 1] = _ZERO, _ZERO, _ONE, _ZERO


@compiled
def add_fractions(p, q, up, uq):
    """The level above: sums of neighbours."""
    for i in range(len(up)):
        a, b = 2 * i, 2 * i + 1
        y0, y1 = xmul(p[a, 0], p[a, 1], q[b, 0], q[b, 1])
        z0, z1 = xmul(p[b, 0], p[b, 1], q[a, 0], q[a, 1])
        up[i, 0], up[i, 1] = add(y0, z0), add(y1, z1)
        uq[i, 0], uq[i, 1] = xmul(q[a, 0], q[a, 1], q[b, 0], q[b, 1])


@compiled
def fraction_round(p, q, eq, mix0, mix1):
    """Σ eq · (p0 q1 + p1 q0 + mix q0 q1) at 0, 1, 2: arrays (4n, 2) with the values at both lowest
    bits of the level side by side, eq (n, 2)."""
    out = np.zeros((3, 2), np.uint64)
    for y in range(eq.shape[0]):
        i = 4 * y
        a0, a1, b0, b1 = p[i, 0], p[i, 1], p[i + 1, 0], p[i + 1, 1]
        c0, c1, d0, d1 = q[i, 0], q[i, 1], q[i + 1, 0], q[i + 1, 1]
        da0, da1, db0, db1 = sub(p[i + 2, 0], a0), sub(p[i + 2, 1], a1), sub(p[i + 3, 0], b0), sub(p[i + 3, 1], b1)
        dc0, dc1, dd0, dd1 = sub(q[i + 2, 0], c0), sub(q[i + 2, 1], c1), sub(q[i + 3, 0], d0), sub(q[i + 3, 1], d1)
        for x in range(3):
            # p0 q1 + q0 (p1 + mix q1)
            m0, m1 = xmul(mix0, mix1, d0, d1)
            m0, m1 = xmul(c0, c1, add(b0, m0), add(b1, m1))
            n0, n1 = xmul(a0, a1, d0, d1)
            m0, m1 = xmul(add(m0, n0), add(m1, n1), eq[y, 0], eq[y, 1])
            out[x, 0], out[x, 1] = add(out[x, 0], m0), add(out[x, 1], m1)
            a0, a1, b0, b1 = add(a0, da0), add(a1, da1), add(b0, db0), add(b1, db1)
            c0, c1, d0, d1 = add(c0, dc0), add(c1, dc1), add(d0, dd0), add(d1, dd1)
    return out


@compiled
def bind_pairs(f, x0, x1, out):
    """Bind the lowest bit of pairs: (4n, 2) to (2n, 2)."""
    for i in range(0, len(out), 2):
        for k in range(2):
            a0, a1 = f[2 * i + k, 0], f[2 * i + k, 1]
            y0, y1 = xmul(x0, x1, sub(f[2 * i + 2 + k, 0], a0), sub(f[2 * i + 2 + k, 1], a1))
            out[i + k, 0], out[i + k, 1] = add(a0, y0), add(a1, y1)


@compiled
def eq_half(eq, out):
    """Forget the lowest bit: (2n, 2) to (n, 2)."""
    for i in range(len(out)):
        out[i, 0] = add(eq[2 * i, 0], eq[2 * i + 1, 0])
        out[i, 1] = add(eq[2 * i, 1], eq[2 * i + 1, 1])


@compiled
def eq_double(table, x0, x1, out):
    """One more bit, the lowest: (n, 2) to (2n, 2)."""
    for i in range(len(table)):
        y0, y1 = xmul(table[i, 0], table[i, 1], x0, x1)
        out[2 * i, 0], out[2 * i, 1] = sub(table[i, 0], y0), sub(table[i, 1], y1)
        out[2 * i + 1, 0], out[2 * i + 1, 1] = y0, y1


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
                out[a, k, 0] = add(out[a, k, 0], mul(x, w0))
                out[a, k, 1] = add(out[a, k, 1], mul(x, w1))


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
            r0, r1 = xmul(x[a, 0], x[a, 1], y[t, 0], y[t, 1])
            for j in range(len(z)):
                out[a, t, j, 0], out[a, t, j, 1] = xmul(r0, r1, z[j, 0], z[j, 1])


@compiled
def seen_keys(keys, weights, out):
    """out[l, t, g, c] = Σ_{s ≤ t} weights[s] · keys[l, s, g, c]: keys int64."""
    for a in range(keys.shape[0]):
        for t in range(keys.shape[1]):
            for g in range(keys.shape[2]):
                for c in range(keys.shape[3]):
                    x = residue(keys[a, t, g, c])
                    y0, y1 = mul(x, weights[t, 0]), mul(x, weights[t, 1])
                    if t:
                        y0, y1 = add(y0, out[a, t - 1, g, c, 0]), add(y1, out[a, t - 1, g, c, 1])
                    out[a, t, g, c, 0], out[a, t, g, c, 1] = y0, y1
