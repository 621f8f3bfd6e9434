"""The field's arithmetic as the prover's loops use it, written into them by numba.

Elements are uint64 below p = 2^64 − 2^32 + 1. ``otr_core.spotcheck.proof.field`` defines what is
computed. A change here takes effect once the caches of the loops that use it are gone: numba looks
at a loop's own file alone. A proof by other arithmetic is refused by every verifier.
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
ZERO_WORD, ONE_WORD = np.uint64(0), np.uint64(1)

inlined = numba.njit(inline="always")
"""Written into the loops that call it: only so do compilers make vectors of them."""


@inlined
def plus(x, y):
    total = x + y
    total += _LOW if total < x else ZERO_WORD
    return total - (_P if total >= _P else ZERO_WORD)


@inlined
def minus(x, y):
    return x - y + (_P if x < y else ZERO_WORD)


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
    part -= _LOW if low < top else ZERO_WORD
    total = part + rest
    total += _LOW if total < rest else ZERO_WORD
    return total - (_P if total >= _P else ZERO_WORD)


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


# --- whole arrays, words apart


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
    low, high = ZERO_WORD, ZERO_WORD
    for i in range(len(a)):
        low += a[i] & _LOW
        high += a[i] >> _HALF
    return plus(low % _P, times(high % _P, _LOW + ONE_WORD))
