"""Blocks of tensor cores (``otr_core.lane.blocks``) as loops over integers, compiled by numba.

No floating-point unit takes part but in finding how long a sum below 2^32 is, which float64 holds
exactly. The twins (``block_twins``) have the same names and arguments.
"""

# Kernels and twins take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np

from otr_core.lane.blocks import BF16_BLOCK, FLOOR, FP32
from otr_node.integers import block_twins
from otr_node.integers.compiled import compiled

_TERMS, _FRACTION, _FLOOR = BF16_BLOCK.terms, BF16_BLOCK.fraction, FLOOR
_ABSENT, _ENDLESS, _BEYOND = block_twins.ABSENT, block_twins.ENDLESS, block_twins.BEYOND
_SIGN, _INFINITY, _NAN = FP32.sign, FP32.infinity, FP32.nan


@compiled
def _apart(words, significands, exponents):
    for k in range(len(words)):
        word = np.int32(words[k])
        field, rest = (word >> 7) & 255, word & 127
        significand = rest + 128 * (field > 0)
        exponent = field - 127 if field > 0 else -126
        if significand == 0:
            exponent = _ABSENT
        if field == 255:
            exponent = _ENDLESS
        significands[k] = -significand if word & 0x8000 else significand
        exponents[k] = exponent


@compiled
def _special(a, b, c):
    up, down = False, False
    for k in range(_TERMS):
        x, y = np.int64(a[k]), np.int64(b[k])
        left, right = x & 0x7FFF, y & 0x7FFF
        if left > 0x7F80 or right > 0x7F80:
            return _NAN
        if left == 0x7F80 or right == 0x7F80:
            if left == 0 or right == 0:
                return _NAN
            if (x ^ y) & 0x8000:
                down = True
            else:
                up = True
    if c & _NAN > _INFINITY:
        return _NAN
    if c & _NAN == _INFINITY:
        if c & _SIGN:
            down = True
        else:
            up = True
    if up and down:
        return _NAN
    return _INFINITY | _SIGN if down else _INFINITY


@compiled
def _step(a, b, left, left_exponents, right, right_exponents, c):
    """One block: words and their parts, accumulator, result."""
    field, rest = (c >> 23) & 255, c & 0x7FFFFF
    added, exponent = rest | ((field > 0) << 23), field - 127 if field > 0 else -126
    if added == 0:
        exponent = _ABSENT
    if field == 255:
        exponent = _ENDLESS
    top = np.int32(max(exponent, _FLOOR))
    for k in range(_TERMS):
        top = max(top, np.int32(left_exponents[k] + right_exponents[k]))
    if top >= _BEYOND:
        return _special(a, b, c)
    total = np.int32(0)  # 16 products of 2^27 at most, each below by what its factors lack of 256
    for k in range(_TERMS):
        product = np.int32(left[k] * right[k])
        below = np.uint32(min(np.int32(top - left_exponents[k] - right_exponents[k]), np.int32(31)))
        cut = np.int32(np.uint32(abs(product) << 11) >> below)
        total = np.int32(total + (cut if product > 0 else np.int32(-cut)))
    added = (added << 2) >> min(top - exponent, 40)
    whole = np.int64(total) + (-added if c & _SIGN else added)
    if whole == 0:
        return 0
    magnitude = abs(whole)
    # float64's own exponent: the place of the first bit
    length = (np.float64(magnitude).view(np.int64) >> 52) - 1023
    place = length + top - _FRACTION
    leading = place if place > -126 else -126
    drop = leading - 23 - top + _FRACTION
    significand = magnitude >> drop if drop > 0 else magnitude << -drop
    word = min(significand + ((leading + 126) << 23), _INFINITY)
    return word | _SIGN if whole < 0 and word > 0 else word


@compiled
def project(x, w, out):
    """As the twin."""
    tokens, columns = x.shape
    left, left_exponents = np.empty((tokens, columns), np.int32), np.empty((tokens, columns), np.int32)
    right, right_exponents = np.empty(columns, np.int32), np.empty(columns, np.int32)
    for token in range(tokens):
        _apart(x[token], left[token], left_exponents[token])
    for row in range(len(w)):
        _apart(w[row], right, right_exponents)
        for token in range(tokens):
            total = np.int64(out[token, row])
            for first in range(0, columns, _TERMS):
                end = first + _TERMS
                total = np.int64(
                    _step(
                        x[token, first:end],
                        w[row, first:end],
                        left[token, first:end],
                        left_exponents[token, first:end],
                        right[first:end],
                        right_exponents[first:end],
                        total,
                    )
                )
            out[token, row] = np.uint32(total)
