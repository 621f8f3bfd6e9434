"""The field of the proof: Goldilocks, p = 2^64 − 2^32 + 1, and its quadratic extension by √7.

Arrays of the base field are uint64, values below p. Arrays of the extension have a last axis of
length 2: a + b·√7 is (a, b). Challenges come from the extension, about 2^128 of them. ``Ext`` is one
such number for the verifier's scalar work.
"""

from __future__ import annotations

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
    def words(self) -> Words:
        """The same as an array (2,)."""
        return np.array([self.a, self.b], np.uint64)

    @classmethod
    def of(cls, words: Words) -> Ext:
        return cls(int(words[0]), int(words[1]))


ZERO, ONE = Ext(0), Ext(1)


# --- arrays of the base field


def add(x: Words, y: Words) -> Words:
    """x + y modulo p."""
    total = x + y
    # What wraps around 2^64 has lost 2^64 = 2^32 − 1 modulo p.
    total = np.where(total < x, total + _LOW, total)
    return np.where(total >= _P, total - _P, total)


def sub(x: Words, y: Words) -> Words:
    """x − y modulo p."""
    return np.where(x >= y, x - y, x + (_P - y))


def mul(x: Words, y: Value) -> Words:
    """x · y modulo p, by 32-bit halves: 2^64 ≡ 2^32 − 1 and 2^96 ≡ −1."""
    x0, x1, y0, y1 = x & _LOW, x >> _HALF, y & _LOW, y >> _HALF
    low, middle, other, high = x0 * y0, x0 * y1, x1 * y0, x1 * y1
    carry = (low >> _HALF) + (middle & _LOW) + (other & _LOW)
    low = (low & _LOW) | (carry << _HALF)
    high = high + (middle >> _HALF) + (other >> _HALF) + (carry >> _HALF)
    top, rest = high >> _HALF, (high & _LOW) * _LOW
    part = np.where(low < top, low - top - _LOW, low - top)
    total = part + rest
    total = np.where(total < rest, total + _LOW, total)
    result: Words = np.where(total >= _P, total - _P, total)
    return result


def total(x: Words, axis: int = -1) -> Words:
    """Sums along an axis modulo p; of fewer than 2^32 values."""
    low, high = (part.sum(axis, dtype=np.uint64, keepdims=True) for part in (x & _LOW, x >> _HALF))
    return add(mul(high % _P, np.uint64(2**32)), low % _P).squeeze(axis)


def residues(values: NDArray[Any]) -> Words:
    """Signed integers (int64) as elements of the field."""
    wide = np.asarray(values)
    if wide.dtype == np.uint64:
        return wide % _P
    wide = wide.astype(np.int64)
    return np.where(wide < 0, wide.astype(np.uint64) + _P, wide.astype(np.uint64))


# --- arrays of the extension


def xmul(x: Words, y: Words) -> Words:
    """Products of (…, 2) and (…, 2)."""
    # kept as arrays: single numbers would warn where arrays wrap around, as is meant
    a, b, c, d = x[..., :1], x[..., 1:], y[..., :1], y[..., 1:]
    first, second = mul(a, c), mul(b, d)
    crossed = sub(sub(mul(add(a, b), add(c, d)), first), second)
    return np.concatenate([add(first, mul(second, np.uint64(NON_RESIDUE))), crossed], -1)


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
    table, count = ONE.words[None], 1 << len(point) if count is None else count
    for left in range(len(point) - 1, -1, -1):
        up = xmul(table, point[left].words)
        # what lies beyond ``count`` in the end is dropped on the way
        table = np.stack([sub(table, up), up], 1).reshape(-1, 2)[: -(-count // (1 << left))]
    return table


def eq_at(x: list[Ext], y: list[Ext]) -> Ext:
    """Π of x·y + (1 − x)(1 − y): the extension of equality."""
    result = ONE
    for a, b in zip(x, y, strict=True):
        both = a * b
        result = result * (both + both - a - b + 1)
    return result


def combine(matrix: NDArray[Any], coefficients: Words) -> Words:
    """Σ_i coefficients[i] · matrix[i]: int32 or int16 (rows, columns) and (rows, 2) to (columns, 2).

    Exact in float64: weights and coefficients are cut into pieces of 16 bits, so that sums of at
    most 2^20 products stay below 2^51.
    """
    result = np.zeros((matrix.shape[1], 2), np.uint64)
    pieces = np.stack([(coefficients >> np.uint64(16 * i)) & np.uint64(0xFFFF) for i in range(4)], 1)
    flat = pieces.reshape(len(matrix), 8).astype(np.float64).T  # (8, rows)
    for first in range(0, len(matrix), 2**12):
        part, own = matrix[first : first + 2**12].astype(np.int64), flat[:, first : first + 2**12]
        low = ((part + 2**15) & 0xFFFF) - 2**15
        for weights, up in ((low, 0), ((part - low) >> 16, 16)):
            if up and not weights.any():
                continue
            sums = residues((own @ weights.astype(np.float64)).astype(np.int64)).reshape(4, 2, -1)
            for i in range(4):
                result = add(result, mul(sums[i].T, np.uint64(2 ** (16 * i + up) % P)))
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
    (…, 2^k) coefficients to (…, 2^k) values, by decimation in frequency and a bit reversal."""
    size = values.shape[-1]
    bits = size.bit_length() - 1
    roots = powers(root_of_unity(bits), max(size // 2, 1))
    x, half = values, size // 2
    while half:
        pairs = x.reshape(*values.shape[:-1], -1, 2, half)
        upper, lower = pairs[..., 0, :], pairs[..., 1, :]
        turned = mul(sub(upper, lower), roots[:: size // (2 * half)])
        x = np.stack([add(upper, lower), turned], -2)
        half //= 2
    order = np.arange(size)
    reversed_order = np.zeros(size, np.int64)
    for bit in range(bits):
        reversed_order |= ((order >> bit) & 1) << (bits - 1 - bit)
    result: Words = x.reshape(values.shape)[..., reversed_order]
    return result
