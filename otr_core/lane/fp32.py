"""A number of fp32 that computes in integers alone, so that what is written for arrays of float32
(``tensor_steps``) also runs on the definition's steps (``blocks``): no float of the machine takes part."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from otr_core.lane import blocks
from otr_core.lane.blocks import FP32


class Fp32:
    """A fp32 number by its word; its steps are those of ``blocks``, each rounded to nearest even."""

    __slots__ = ("word",)

    def __init__(self, word: int) -> None:
        self.word = word

    @classmethod
    def of(cls, value: Any) -> Fp32:
        """A number that fp32 holds, as a constant is written."""
        return value if isinstance(value, cls) else cls(struct.unpack(">I", struct.pack(">f", value))[0])

    def __add__(self, other: Any) -> Fp32:
        return Fp32(blocks.fp32_add(self.word, Fp32.of(other).word))

    def __mul__(self, other: Any) -> Fp32:
        return Fp32(blocks.fp32_multiply(self.word, Fp32.of(other).word))

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Fp32:
        return Fp32(self.word ^ FP32.sign)

    def __sub__(self, other: Any) -> Fp32:
        return self + -Fp32.of(other)

    def __truediv__(self, other: Any) -> Fp32:
        return Fp32(blocks.fp32_divide(self.word, Fp32.of(other).word))

    def __rtruediv__(self, other: Any) -> Fp32:
        return Fp32.of(other) / self

    def sqrt(self) -> Fp32:
        """The root; ``numpy.sqrt`` calls it by this name."""
        return Fp32(blocks.fp32_root(self.word))

    def __int__(self) -> int:
        """Toward zero, of finite numbers; of others 0, which only stands where a NaN follows."""
        x = blocks.parts(FP32, self.word)
        drop = FP32.fraction_bits - x.exponent
        magnitude = x.significand >> drop if drop > 0 else x.significand << -drop
        return x.sign * magnitude if x.finite else 0

    def __lt__(self, other: Any) -> bool:
        mine, its = self.word, Fp32.of(other).word
        return not (is_nan(mine) or is_nan(its)) and ordered(mine) < ordered(its)

    def __gt__(self, other: Any) -> bool:
        return Fp32.of(other) < self

    def __ge__(self, other: Any) -> bool:
        mine, its = self.word, Fp32.of(other).word
        return not (is_nan(mine) or is_nan(its)) and ordered(mine) >= ordered(its)


def is_nan(word: int) -> bool:
    """Whether a fp32 word is a NaN."""
    return word & FP32.nan > FP32.infinity


def ordered(word: int) -> int:
    """An integer that orders fp32 words as the largest of a row is looked for: zeros are equal, every
    NaN is above infinity, and NaNs are equal."""
    magnitude = word & FP32.nan
    if magnitude > FP32.infinity:
        return FP32.infinity + 1
    return -magnitude if word & FP32.sign else magnitude


def as_objects(words: Iterable[int]) -> np.ndarray:
    """Words as an array of numbers, (n,)."""
    numbers = [Fp32(word) for word in words]
    made = np.empty(len(numbers), object)
    made[:] = numbers
    return made
