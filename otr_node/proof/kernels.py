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

from otr_core.spotcheck.proof.field import P
from otr_node.integers.compiled import compiled
from otr_node.proof.arithmetic import ONE_WORD, ZERO_WORD, minus, plus, residue, sum_all, times, xtimes

_P, _LOW, _HALF = np.uint64(P), np.uint64(2**32 - 1), np.uint64(32)
_SHIFT, _SMALL = np.uint64(2**25), np.uint64(2**26)  # of cells that are summed before they are reduced
_AT_ONCE = 64  # so many of them
_WIDE = 512  # sums held at once: they stay in the nearest cache

# --- code words


@compiled
def butterflies(upper, lower, roots):
    """One round: upper and lower become their sum, and their difference times the round's roots."""
    for i in range(len(upper)):
        a, b = upper[i], lower[i]
        upper[i] = plus(a, b)
        lower[i] = times(minus(a, b), roots[i])


@compiled
def butterflies_of_one(upper, lower, root):
    """``butterflies`` with one root."""
    for i in range(len(upper)):
        a, b = upper[i], lower[i]
        upper[i] = plus(a, b)
        lower[i] = times(minus(a, b), root)


@compiled
def last_rounds(x, roots, order, out):
    """The rounds with halves of 32 values and fewer, and the reversal of bits: at least 4096 values.

    64 parts of 64 values each lie side by side while they are worked on, so that a round takes 64 values with one
    root. The parts are chosen so that what belongs together in ``out`` comes out together.
    """
    size, groups = len(x), len(x) // 4096
    up = size // 64  # an index of 64 reversed as one of ``size`` is that many times too large
    tile = np.empty((64, 64), np.uint64)
    for group in range(groups):
        for column in range(64):
            first = (order[column] // up * groups + group) * 64
            part = x[first : first + 64]
            for i in range(64):
                tile[i, column] = part[i]
        half = 32
        while half:
            for base in range(0, 64, 2 * half):
                for i in range(base, base + half):
                    butterflies_of_one(tile[i], tile[i + half], roots[half + i - base])
            half //= 2
        for i in range(64):
            first = order[i] // up * up + order[group] // 4096 * 64
            out[first : first + 64] = tile[i]


@compiled
def first_rounds(cells, roots, least, x):
    """The rounds with halves of more than ``least`` values, of a row and zeros behind it: to x."""
    size, half = len(x), len(x) // 2
    near = min(size, 4096)  # so much stays in the nearest cache through the last rounds
    # the first round meets zeros in its upper half, but for what is longer than the lower one
    upper, lower, own = x[:half], x[half:], roots[half:]
    for i in range(half):
        upper[i] = cells[i]
        lower[i] = times(cells[i], own[i])
    for i in range(len(cells) - half):
        upper[i] = plus(cells[i], cells[half + i])
        lower[i] = times(minus(cells[i], cells[half + i]), own[i])
    half //= 2
    while 2 * half > near:
        for base in range(0, size, 2 * half):
            butterflies(x[base : base + half], x[base + half : base + 2 * half], roots[half : 2 * half])
        half //= 2
    for part in range(0, size, near):
        step = min(half, near // 2)
        while step > least:
            for base in range(part, part + near, 2 * step):
                butterflies(x[base : base + step], x[base + step : base + 2 * step], roots[step : 2 * step])
            step //= 2


@compiled
def encode_rows(rows, roots, order, out):
    """Code words of rows: uint64 (count, terms) to (count, size), the transform of the row and zeros behind it;
    of at least size / 2 terms.

    Args:
        roots: of the round with halves of 2^k values from 2^k on, up to size. order: bit
            reversal of places.
    """
    size = out.shape[1]
    x = np.empty(size, np.uint64)
    least = 32 if size >= 4096 else 0  # what is left to ``last_rounds``
    for row in range(len(rows)):
        first_rounds(rows[row], roots, least, x)
        if least:
            last_rounds(x, roots, order, out[row])
        else:
            for i in range(size):
                out[row, i] = x[order[i]]


@compiled
def encode_at(rows, roots, firsts, weights, out):
    """Some places of the code words of rows: uint64 (count, terms) to (places, count).

    The rounds with large halves leave parts that have nothing more to do with each other; of a part, each place is a
    sum. Args:
        roots: as ``encode_rows`` takes them. firsts: int64, where the part of each place begins. weights: of the
            values of that part, (places, values).
    """
    size, values = len(roots), weights.shape[1]
    x, t = np.empty(size, np.uint64), np.empty(values, np.uint64)
    for row in range(len(rows)):
        first_rounds(rows[row], roots, values // 2, x)
        for place in range(len(firsts)):
            part, own = x[firsts[place] : firsts[place] + values], weights[place]
            for i in range(values):
                t[i] = times(part[i], own[i])
            out[place, row] = sum_all(t)


@compiled
def columns_of(words, first, out):
    """Columns ``first`` and the next ones of words (rows, size), each in one piece: out (count, rows)."""
    for left in range(0, out.shape[0], 8):  # so many lie in one line of the cache
        right = min(left + 8, out.shape[0])
        for i in range(words.shape[0]):
            for j in range(left, right):
                out[j, i] = words[i, first + j]


# --- cells


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
            row = numbers[a, t]
            for block in range(out.shape[2]):
                part, own = row[block * along : (block + 1) * along], out[a, t // down, block, t % down]
                for j in range(len(part)):
                    own[j] = residue(((np.int64(part[j]) + offsets[a]) >> np.int64(up)) & mask)


@compiled
def count_values(cells, out):
    """out[v] += how often v is among the cells; values that no entry has are passed over."""
    for i in range(len(cells)):
        if cells[i] < np.uint64(len(out)):
            out[np.int64(cells[i])] += ONE_WORD


@compiled
def count_ranges(blocks, widths, out):
    """out[2^w + v] += how often v is a cell of width w, below 2^w: blocks (count, cells), widths int64 (count, cells
    or 1)."""
    for b in range(blocks.shape[0]):
        row = blocks[b]
        for i in range(len(row)):
            first = np.int64(1) << (widths[b, i] if widths.shape[1] > 1 else widths[b, 0])
            if row[i] < np.uint64(first):
                out[first + np.int64(row[i])] += ONE_WORD


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
def bind_pairs(f, x0, x1, out):
    """Bind the lowest bit: (…, length, 2) to (…, ⌈length / 2⌉, 2), the axes before as one."""
    length = f.shape[1]
    for o in range(f.shape[0]):
        for i in range(0, length, 2):
            a0, a1 = f[o, i, 0], f[o, i, 1]
            b0, b1 = ZERO_WORD, ZERO_WORD
            if i + 1 < length:
                b0, b1 = f[o, i + 1, 0], f[o, i + 1, 1]
            y0, y1 = xtimes(x0, x1, minus(b0, a0), minus(b1, a1))
            out[o, i // 2, 0], out[o, i // 2, 1] = plus(a0, y0), plus(a1, y1)


@compiled
def halves(low, high):
    """low + 2^32 · high modulo p."""
    low -= _P if low >= _P else ZERO_WORD
    high -= _P if high >= _P else ZERO_WORD
    return plus(low, times(high, _LOW + ONE_WORD))


@compiled
def combine_rows(cells, weights, out):
    """out[j] += Σ weights[i] · cells[i, j]: (rows, cells) of the base field, weights (rows, 2).

    Where all cells of a part are those of integers from −2^25 to below 2^25, they are shifted by 2^25: 64 products of
    such a one and half a weight sum to less than 2^64, (2^26 − 1)(2^32 − 1) · 64. There nothing is reduced before the
    end.
    """
    count, length = cells.shape
    room = min(length, _WIDE)
    a0, a1 = np.empty(room, np.uint64), np.empty(room, np.uint64)
    b0, b1 = np.empty(room, np.uint64), np.empty(room, np.uint64)
    for top in range(0, count, _AT_ONCE):
        end = min(top + _AT_ONCE, count)
        sum0, sum1 = sum_all(weights[top:end, 0].copy()), sum_all(weights[top:end, 1].copy())
        sum0, sum1 = times(sum0, _SHIFT), times(sum1, _SHIFT)
        for left in range(0, length, room):
            right = min(left + room, length)
            bits = ZERO_WORD
            for i in range(top, end):
                row = cells[i, left:right]
                for j in range(right - left):
                    bits |= plus(row[j], _SHIFT)
            if bits >= _SMALL:
                for i in range(top, end):
                    row, w0, w1 = cells[i, left:right], weights[i, 0], weights[i, 1]
                    for j in range(right - left):
                        out[left + j, 0] = plus(out[left + j, 0], times(row[j], w0))
                        out[left + j, 1] = plus(out[left + j, 1], times(row[j], w1))
                continue
            a0[:], a1[:], b0[:], b1[:] = ZERO_WORD, ZERO_WORD, ZERO_WORD, ZERO_WORD
            for i in range(top, end):
                row = cells[i, left:right]
                w0, w1 = weights[i, 0] & _LOW, weights[i, 0] >> _HALF
                v0, v1 = weights[i, 1] & _LOW, weights[i, 1] >> _HALF
                for j in range(right - left):
                    x = plus(row[j], _SHIFT) & _LOW
                    a0[j] += x * w0
                    a1[j] += x * w1
                    b0[j] += x * v0
                    b1[j] += x * v1
            for j in range(right - left):
                out[left + j, 0] = plus(out[left + j, 0], minus(halves(a0[j], a1[j]), sum0))
                out[left + j, 1] = plus(out[left + j, 1], minus(halves(b0[j], b1[j]), sum1))


@compiled
def combine_integers(values, weights, out):
    """``combine_rows`` of signed integers."""
    count, length = values.shape
    cells = np.empty((_AT_ONCE, length), np.uint64)
    for top in range(0, count, _AT_ONCE):
        end = min(top + _AT_ONCE, count)
        none = ZERO_WORD
        for i in range(top, end):
            none |= weights[i, 0] | weights[i, 1]
        if none == ZERO_WORD:
            continue
        for i in range(top, end):
            row, own = values[i], cells[i - top]
            for j in range(length):
                own[j] = residue(np.int64(row[j]))
        combine_rows(cells[: end - top], weights[top:end], out)


@compiled
def combine_blocks(blocks, weights, out):
    """out[w] += Σ weights[a, t] · blocks[a, w, t]: (rows, wide, down, along), weights (rows, down, 2),
    out (wide, along, 2)."""
    for a in range(blocks.shape[0]):
        none = ZERO_WORD
        for t in range(blocks.shape[2]):
            none |= weights[a, t, 0] | weights[a, t, 1]
        if none == ZERO_WORD:
            continue
        for w in range(blocks.shape[1]):
            combine_rows(blocks[a, w], weights[a], out[w])


@compiled
def fold_values(cells, low, out):
    """out[i] = Σ low[j] · cells[i, j]: cells of the base field, at most 64 a row; reduced as in
    ``combine_rows``."""
    count, length = cells.shape
    w0, w1 = np.empty(length, np.uint64), np.empty(length, np.uint64)
    v0, v1 = np.empty(length, np.uint64), np.empty(length, np.uint64)
    for j in range(length):
        w0[j], w1[j] = low[j, 0] & _LOW, low[j, 0] >> _HALF
        v0[j], v1[j] = low[j, 1] & _LOW, low[j, 1] >> _HALF
    sum0, sum1 = times(sum_all(low[:, 0].copy()), _SHIFT), times(sum_all(low[:, 1].copy()), _SHIFT)
    for i in range(count):
        row = cells[i]
        a0, a1, b0, b1, bits = ZERO_WORD, ZERO_WORD, ZERO_WORD, ZERO_WORD, ZERO_WORD
        for j in range(length):
            whole = plus(row[j], _SHIFT)
            x = whole & _LOW
            bits |= whole
            a0 += x * w0[j]
            a1 += x * w1[j]
            b0 += x * v0[j]
            b1 += x * v1[j]
        if bits < _SMALL:
            out[i, 0], out[i, 1] = minus(halves(a0, a1), sum0), minus(halves(b0, b1), sum1)
            continue
        a0, b0 = ZERO_WORD, ZERO_WORD
        for j in range(length):
            a0 = plus(a0, times(row[j], low[j, 0]))
            b0 = plus(b0, times(row[j], low[j, 1]))
        out[i, 0], out[i, 1] = a0, b0
