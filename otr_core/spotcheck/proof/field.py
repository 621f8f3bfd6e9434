"""The field of the proof: Goldilocks, p = 2^64 − 2^32 + 1, and its quadratic extension by √7.

Arrays of the base field are uint64, values below p. Arrays of the extension have a last axis of
length 2: a + b·√7 is (a, b). Challenges come from the extension, about 2^128 of them. ``Ext`` is one
such number for the verifier's scalar work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

P = 2**64 - 2**32 + 1
NON_RESIDUE = 7  # X² − 7 is irreducible modulo p: 7 generates the multiplicative group
TWO_ADICITY = 32
Words = NDArray[np.uint64]
Value = Words | np.uint64

_P = np.uint64(P)
_LOW, _HALF = np.uint64(2**32 - 1), np.uint64(32)
_AT_ONCE = 2**13  # numbers that are computed at once, so that what is made on the way stays in a cache
_FEW_BITS = 4  # of a table that is made one number after the other
_AT_ONCE_IN_FLOATS = 2**15  # of a matrix: they stay in a cache, and no library starts threads for them


@dataclass(frozen=True, slots=True)
class Ext:
    """a + b·√7, both below p."""

    a: int
    b: int = 0

    def __add__(self, other: Ext | int) -> Ext:
        if isinstance(other, int):
            return Ext((self.a + other) % P, self.b)
        return Ext((self.a + other.a) % P, (self.b + other.b) % P)

    def __sub__(self, other: Ext | int) -> Ext:
        if isinstance(other, int):
            return Ext((self.a - other) % P, self.b)
        return Ext((self.a - other.a) % P, (self.b - other.b) % P)

    def __mul__(self, other: Ext | int) -> Ext:
        if isinstance(other, int):
            return Ext(self.a * other % P, self.b * other % P)
        return Ext((self.a * other.a + NON_RESIDUE * self.b * other.b) % P, (self.a * other.b + self.b * other.a) % P)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: int) -> Ext:
        return Ext((other - self.a) % P, -self.b % P)

    def __bool__(self) -> bool:
        return bool(self.a or self.b)

    @property
    def inverse(self) -> Ext:
        """1 / self, of a number that is not 0."""
        conjugate = Ext(self.a, -self.b % P)
        return conjugate * pow((self * conjugate).a, -1, P)

    @property
    def words(self) -> Words:
        """The same as an array (2,)."""
        return np.array([self.a, self.b], np.uint64)

    @classmethod
    def of(cls, words: Words) -> Ext:
        return cls(int(words[0]), int(words[1]))


ZERO, ONE = Ext(0), Ext(1)


# --- arrays of the base field


def _in_parts(operation: Callable[[Words, Value], Words]) -> Callable[[Words, Value], Words]:
    """An operation on pairs of numbers, done a part at a time where there are many."""

    @functools.wraps(operation)
    def whole(x: Words, y: Value) -> Words:
        pairs = np.broadcast(x, y)
        if pairs.size <= _AT_ONCE:
            return operation(x, y)
        out = np.empty(pairs.shape, np.uint64)
        _fill(operation, x, y, out)
        return out

    return whole


def _fill(operation: Callable[[Words, Value], Words], x: Words, y: Value, out: Words) -> None:
    """Write what the operation makes of x and y to ``out``, whose shape they are broadcast to."""

    def part(side: Any, of: int | slice) -> Any:
        return side if side.ndim < out.ndim else side[of] if len(side) == len(out) else side[:1]

    if out.size <= _AT_ONCE:
        out[...] = operation(x, y)
    elif len(out) == 1:
        _fill(operation, part(x, 0), part(y, 0), out[0])
    else:
        step = max(_AT_ONCE // out[0].size, 1)
        for own in (slice(first, first + step) for first in range(0, len(out), step)):
            _fill(operation, part(x, own), part(y, own), out[own])


@_in_parts
def add(x: Words, y: Value) -> Words:
    """x + y modulo p."""
    missing = _P - y
    return np.where(x >= missing, x - missing, x + y)


@_in_parts
def sub(x: Words, y: Value) -> Words:
    """x − y modulo p."""
    return np.where(x >= y, x - y, x + (_P - y))


@_in_parts
def mul(x: Words, y: Value) -> Words:
    """x · y modulo p, by 32-bit halves: 2^64 ≡ 2^32 − 1 and 2^96 ≡ −1."""
    x0, x1, y0, y1 = x & _LOW, x >> _HALF, y & _LOW, y >> _HALF
    crossed, middle, high = x0 * y1, x1 * y0, x1 * y1
    # (2^32 − 1)^2 + 2 · (2^32 − 1) = 2^64 − 1: no carry is lost.
    middle += x0 * y0 >> _HALF
    middle += crossed & _LOW
    high += crossed >> _HALF
    high += middle >> _HALF
    low, top = x * y, high >> _HALF
    high &= _LOW
    high *= _LOW
    result = low - top
    wrapped = low < top  # seldom: what has gone below 0 has gained 2^64 = 2^32 − 1
    if wrapped.any():
        result[wrapped] -= _LOW
    result += high
    result = np.where(result < high, result + _LOW, result)
    beyond = result >= _P  # seldom
    if beyond.any():
        result[beyond] -= _P
    return result


def total(x: Words, axis: int = -1) -> Words:
    """Sums along an axis modulo p; of fewer than 2^32 values."""
    high = (x >> _HALF).sum(axis, dtype=np.uint64, keepdims=True)
    low = x.sum(axis, dtype=np.uint64, keepdims=True) - (high << _HALF)
    return add(mul(high % _P, np.uint64(2**32)), low % _P).squeeze(axis)


def residues(values: NDArray[Any]) -> Words:
    """Signed integers (int64) as elements of the field."""
    wide = np.asarray(values)
    if wide.dtype == np.uint64:
        return wide % _P
    wide = wide.astype(np.int64)
    return np.where(wide < 0, wide.astype(np.uint64) + _P, wide.astype(np.uint64))


# --- arrays of the extension


@_in_parts
def xmul(x: Words, y: Value) -> Words:
    """Products of (…, 2) and (…, 2)."""
    # Both halves come first, each in a row, so that NumPy's loops are long: (2, 1, …) and (1, 2, …).
    left, right = (np.moveaxis(np.atleast_2d(side), -1, 0).copy() for side in (x, y))
    width = max(left.ndim, right.ndim)
    left, right = (side.reshape(2, *(1,) * (width - side.ndim), *side.shape[1:]) for side in (left, right))
    every = mul(left[:, None], right[None])
    scaled = mul(every[1, 1], np.uint64(NON_RESIDUE))
    whole = np.stack([add(every[0, 0], scaled), add(every[0, 1], every[1, 0])], -1)
    return whole.reshape(np.broadcast_shapes(x.shape, y.shape))


def xscale(x: Words, y: Words) -> Words:
    """Products of (…, 2) with base field values (…)."""
    return mul(x, y[..., None])


def xtotal(x: Words, axis: int = 0) -> Words:
    """Sums of (…, 2) along one of the other axes (not counted from the end)."""
    return total(x, axis)


def dot(x: Words, y: Words) -> Ext:
    """Σ x · y of two arrays of the extension of one shape."""
    return Ext.of(total(xmul(x, y).reshape(-1, 2), 0))


def dot_base(x: Words, values: Words) -> Ext:
    """Σ x · values; x of the extension (…, 2), values of the base field (…)."""
    return Ext.of(total(xscale(x, values).reshape(-1, 2), 0))


def outer(x: Words, y: Words) -> Words:
    """(m, 2) and (n, 2) to (m, n, 2)."""
    return xmul(x[:, None], y[None, :])


def eq_table(point: list[Ext], count: int | None = None) -> Words:
    """Σ-weights of a multilinear extension: entry i is Π over bits of i (lowest first) of point's
    coordinate, or one minus it; the first ``count`` entries (all by default)."""
    bits, count = len(point), 1 << len(point) if count is None else count
    if bits > _FEW_BITS:
        low = bits // 2
        return outer(eq_table(point[low:], -(-count >> low)), eq_table(point[:low])).reshape(-1, 2)[:count]
    table = [ONE]
    for own in reversed(point):
        table = [each for entry in table for up in [entry * own] for each in (entry - up, up)]
    return np.array([(entry.a, entry.b) for entry in table[:count]], np.uint64).reshape(-1, 2)


def eq_at(x: list[Ext], y: list[Ext]) -> Ext:
    """Π of x·y + (1 − x)(1 − y): the extension of equality."""
    result = ONE
    for a, b in zip(x, y, strict=True):
        both = a * b
        result = result * (both + both - a - b + 1)
    return result


def eq_below(point: list[Ext], count: int) -> Ext:
    """Sum of the first ``count`` entries of ``eq_table``, without making it."""
    if count >> len(point):
        return ONE
    result, above = ZERO, ONE
    for bit in range(len(point) - 1, -1, -1):
        own = point[bit] if count >> bit & 1 else 1 - point[bit]
        if count >> bit & 1:  # below count are the numbers with its higher bits and a 0 here
            result = result + above * (1 - own)
        above = above * own
    return result


def combine(matrix: NDArray[Any], coefficients: Words) -> Words:
    """Σ_i coefficients[i] · matrix[i]: int32, int16 or uint16 (rows, columns) and (rows, 2) to (columns, 2).

    Coefficients are cut into pieces of 16 bits. Products are summed in float64, so few rows at once
    that every sum stays below 2^53, and these sums as int64.
    """
    rows, columns = matrix.shape
    result = np.zeros((columns, 2), np.uint64)
    pieces = np.stack([(coefficients >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)], 1)
    flat = pieces.reshape(rows, 8).astype(np.float64).T  # (8, rows)
    largest = 2**16 * max(int(matrix.max(initial=0)), -int(matrix.min(initial=0)), 1)
    step, most = min(2**53 // largest, max(_AT_ONCE_IN_FLOATS // max(columns, 1), 1)), 2**62 // largest
    for begin in range(0, rows, most):
        sums = np.zeros((8, columns), np.int64)
        for first in range(begin, min(begin + most, rows), step):
            own = slice(first, min(first + step, begin + most))
            sums += (flat[:, own] @ matrix[own].astype(np.float64)).astype(np.int64)
        parts = residues(sums).reshape(4, 2, columns)
        for i in range(4):
            result = add(result, mul(parts[i].T, np.uint64(2 ** (16 * i))))
    return result


def ones(point: Words) -> Ext:
    """The extension, at a point, of 1 along an axis and 0 beyond its end."""
    return Ext.of(xtotal(point))


def later_sums(j: Words) -> Words:
    """Entry i: Σ of j from i on (n, 2)."""
    found, step = j.copy(), 1
    while step < len(j):
        found[:-step] = add(found[:-step], found[step:])
        step *= 2
    return found


def root_of_unity(bits: int) -> int:
    """A primitive 2^bits-th root of unity modulo p."""
    return pow(pow(NON_RESIDUE, (P - 1) >> TWO_ADICITY, P), 1 << (TWO_ADICITY - bits), P)


def powers(base: int, count: int) -> Words:
    """base^0 … base^(count − 1)."""
    result = np.ones(1, np.uint64)
    step = base % P
    while len(result) < count:
        result = np.concatenate([result, mul(result, np.uint64(step))])
        step = step * step % P
    return result[:count]


def transform(values: Words) -> Words:
    """Values of a polynomial at all 2^k-th roots of unity, in the order of their exponents:
    (…, 2^k) coefficients to (…, 2^k) values.

    By decimation in frequency, after Stockham: each step takes whole halves, and what it makes lies
    in the order of the next one.
    """
    size = values.shape[-1]
    half, x = size // 2, values
    roots = powers(root_of_unity(size.bit_length() - 1), max(half, 1))
    for step in (1 << bit for bit in range(size.bit_length() - 1)):
        upper, lower = x[..., :half], x[..., half:]
        turned = mul(sub(upper, lower), np.repeat(roots[::step], step))
        pairs = [side.reshape(*values.shape[:-1], -1, step) for side in (add(upper, lower), turned)]
        x = np.stack(pairs, -2).reshape(values.shape)
    return x
