"""The operations of ``block_kernels`` in NumPy alone: the same names, arguments and bits, slower."""

# Kernels and twins take arrays as numba sees them; types of arguments stand in the descriptions.
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from otr_core.lane.blocks import BF16_BLOCK, FLOOR, FP32

TERMS = BF16_BLOCK.terms
ABSENT, ENDLESS = -1000, 2000
"""Exponents of zeros, which no grid is laid by, and of infinities and NaNs, which no number comes
near: the sum of both is still beyond numbers."""
BEYOND = 500
"""A grid laid by an exponent from here on has an infinity or a NaN on it."""
_ROWS = 512  # at once; bounds memory


def project(x, w, out):
    """Rows of a projection as blocks of 16 in the order of columns (``lane.blocks.dot_product``).

    Args:
        x: bf16 words, uint16 (tokens, columns), of whole blocks. w: (rows, columns).
        out: fp32 words, uint32 (tokens, rows): the accumulators to start from, and the results.
    """
    left = _apart(x.astype(np.int64), 7)
    for first in range(0, len(w), _ROWS):
        own = w[first : first + _ROWS].astype(np.int64)
        right, totals = _apart(own, 7), out[:, first : first + _ROWS].astype(np.int64)
        for at in range(0, x.shape[1], TERMS):
            cut = slice(at, at + TERMS)
            products = left[0][:, None, cut] * right[0][None, :, cut]
            exponents = left[1][:, None, cut] + right[1][None, :, cut]
            totals = _step(products, exponents, x[:, None, cut].astype(np.int64), own[None, :, cut], totals)
        out[:, first : first + _ROWS] = totals


def _apart(words: NDArray[np.int64], fraction: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Signed significands and exponents of words with 8 bits of exponent."""
    magnitude = words & ((1 << (fraction + 8)) - 1)
    field, rest = magnitude >> fraction, magnitude & ((1 << fraction) - 1)
    significand = np.where(field > 0, rest | (1 << fraction), rest)
    exponent = np.where(field == 255, ENDLESS, np.where(magnitude == 0, ABSENT, np.maximum(field, 1) - 127))
    return np.where(words != magnitude, -significand, significand), exponent


def _step(products, exponents, a, b, c):
    """One block of each (token, row): the definition, on whole arrays."""
    significand, exponent = _apart(c, FP32.fraction_bits)
    top = np.maximum(np.maximum(exponents.max(axis=2), exponent), FLOOR)
    terms = np.abs(products) << (BF16_BLOCK.fraction - 14)
    cut = terms >> np.clip(top[..., None] - exponents, 0, 40)
    added = np.abs(significand) << 2 >> np.clip(top - exponent, 0, 40)
    total = (np.sign(products) * cut).sum(axis=2) + np.sign(significand) * added
    return np.where(top >= BEYOND, _special(a, b, c), _rounded(total, top))


def _rounded(total, top):
    """Fp32 words of total · 2^(top − 25), rounded toward zero."""
    magnitude = np.abs(total)
    length = np.frexp(magnitude.astype(np.float64))[1].astype(np.int64)  # exact: below 2^32
    leading = np.maximum(length - 1 + top - BF16_BLOCK.fraction, -126)
    drop = leading - 23 - top + BF16_BLOCK.fraction
    significand = np.where(drop > 0, magnitude >> np.maximum(drop, 0), magnitude << np.maximum(-drop, 0))
    word = np.minimum(significand + ((leading + 126) << 23), FP32.infinity)
    return np.where((total == 0) | (word == 0), 0, np.where(total < 0, word | FP32.sign, word))


def _special(a, b, c):
    """The results where a term is infinite or a NaN."""
    x, y, z = a & 0x7FFF, b & 0x7FFF, c & FP32.nan
    endless = (x >= 0x7F80) | (y >= 0x7F80)
    nan = ((x > 0x7F80) | (y > 0x7F80) | (endless & ((x == 0) | (y == 0)))).any(axis=2) | (z > FP32.infinity)
    negative, low = ((a ^ b) & 0x8000) > 0, (c & FP32.sign) > 0
    down = (endless & negative).any(axis=2) | ((z == FP32.infinity) & low)
    up = (endless & ~negative).any(axis=2) | ((z == FP32.infinity) & ~low)
    return np.where(nan | (up & down), FP32.nan, np.where(down, FP32.infinity | FP32.sign, FP32.infinity))
