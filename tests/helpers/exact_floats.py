"""Second opinion on floating-point steps: fractions of integers, and the machine's own IEEE units."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from otr_core.lane.fp32 import Fp32, as_objects

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
_LIBM.fmaf.restype = ctypes.c_float
_LIBM.fmaf.argtypes = [ctypes.c_float] * 3


def fp32(word: int) -> np.float32:
    return np.array(word, np.uint32).view(np.float32)[()]


def word_of(value: np.float32) -> int:
    return int(np.array(value, np.float32).view(np.uint32))


def libm_fma(a: int, b: int, c: int) -> int:
    """The C library's fmaf; every NaN as all ones but the sign."""
    return canonical(word_of(np.float32(_LIBM.fmaf(*(float(fp32(word)) for word in (a, b, c))))))


def canonical(word: int) -> int:
    return 0x7FFFFFFF if word & 0x7FFFFFFF > 0x7F800000 else word


def exponent_of(word: int) -> int:
    """Of a finite bf16 word but zero; of subnormals the least."""
    return max(word >> 7 & 255, 1) - 127


def bf16_block(a: Sequence[int], b: Sequence[int], c: int) -> int:
    """The block's rule once more, on fractions, for finite words."""
    value = {word: Fraction(float(fp32(word << 16))) for word in (*a, *b)}
    terms = [(value[x] * value[y], exponent_of(x) + exponent_of(y)) for x, y in zip(a, b, strict=True)]
    terms.append((Fraction(float(fp32(c))), max(c >> 23 & 255, 1) - 127))
    top = max([exponent for term, exponent in terms if term] + [-133])
    grid = Fraction(2) ** (top - 25)
    total = sum((math.trunc(term / grid) * grid for term, _ in terms), Fraction(0))
    return toward_zero(total)


def toward_zero(value: Fraction) -> int:
    """The fp32 word of the largest magnitude that is not above that of ``value``; infinity from
    2^128 on."""
    if abs(value) >= Fraction(2) ** 128:
        return 0xFF800000 if value < 0 else 0x7F800000
    low, high = 0, 0x7F800000
    while high - low > 1:  # words of positive numbers are ordered as the numbers are
        middle = (low + high) // 2
        low, high = (middle, high) if Fraction(float(fp32(middle))) <= abs(value) else (low, middle)
    return low | (0x80000000 if value < 0 else 0)


def float_objects(values: np.ndarray) -> np.ndarray:
    """Float32 numbers as objects of ``Fp32``, of the same shape."""
    words = np.ascontiguousarray(values).view(np.uint32).reshape(-1)
    return as_objects(int(word) for word in words).reshape(values.shape)


def words_of(values: np.ndarray) -> list[int]:
    """The words of float32 numbers, or of such objects, in order; NaNs alike."""
    if values.dtype == object:
        return [canonical(Fp32.of(value).word) for value in values.reshape(-1)]
    return [canonical(int(word)) for word in np.ascontiguousarray(values).view(np.uint32).reshape(-1)]
