"""A block of a tensor core, and the fp32 steps beside it: the one definition, on words of bits and in
integers alone.

A tensor core adds the products of K pairs to an accumulator in one step. Products are exact; they and
the accumulator are cut toward zero on one grid, F bits below the largest exponent among them; their
sum, an integer, is rounded once. K, F and the rounding belong to the *instruction*, not to the chip
alone: ``INSTRUCTIONS`` names each with its own.

Where the numbers come from: K, F and roundings from 30,000 recorded dot products of an H100, which
this module reproduces (``otr_paper.benches.blocks``; north-numerical-computing/MATLAB-tensor-core,
arXiv 2512.07004). None of them has a subnormal, an infinity or a NaN, or an exponent far from 0. There
it follows published models of the hardware: the floor of the grid (the same authors' model), and NaN,
infinity and overflow (MMA-Sim, arXiv 2511.10909). For bf16 to fp32 all of it was then seen on an H100
(``otr_paper.producers.h100``), which taught one thing that no model says: a negative sum of which
nothing is left is +0. Of the other instructions that has been seen on no chip.

Words are non-negative integers that hold a format's bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import NamedTuple

from otr_core.errors import InputError

FLOOR = -133
"""Least exponent that the grid of a block is laid by, however small its terms."""


@dataclass(frozen=True)
class FloatFormat:
    """A binary floating-point format: one bit of sign, then exponent, then fraction.

    Attributes:
        exponent_bits, fraction_bits: their numbers.
        infinities: whether the highest exponent means infinity and NaN, as in IEEE 754; otherwise
            only the word with all bits set below the sign is a NaN, and there is no infinity.
    """

    exponent_bits: int
    fraction_bits: int
    infinities: bool = True

    @property
    def bias(self) -> int:
        """What the exponent is stored with."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def sign(self) -> int:
        """The word of the sign alone, which is −0."""
        return 1 << (self.exponent_bits + self.fraction_bits)

    @property
    def nan(self) -> int:
        """The one NaN that steps give: all bits set but the sign."""
        return self.sign - 1

    @property
    def infinity(self) -> int:
        """The word of positive infinity, for formats that have it."""
        return ((1 << self.exponent_bits) - 1) << self.fraction_bits


FP32 = FloatFormat(8, 23)
BF16 = FloatFormat(8, 7)
FP16 = FloatFormat(5, 10)
TF32 = FloatFormat(8, 10)
E4M3 = FloatFormat(4, 3, infinities=False)
E5M2 = FloatFormat(5, 2)


@dataclass(frozen=True)
class Instruction:
    """What one instruction computes.

    Attributes:
        operand: format of both factors. terms: K, the products of a step.
        fraction: F, the bits below the largest exponent at which terms are cut.
        result: format of accumulator and result. kept: fraction bits that the last rounding keeps.
        nearest: whether it rounds to nearest, ties to even; else toward zero.
    """

    operand: FloatFormat
    terms: int
    fraction: int
    result: FloatFormat
    kept: int
    nearest: bool = False


INSTRUCTIONS = {
    "bf16": Instruction(BF16, 16, 25, FP32, 23),
    "fp16": Instruction(FP16, 16, 25, FP32, 23),
    "fp16 to fp16": Instruction(FP16, 16, 25, FP16, 10, nearest=True),
    "tf32": Instruction(TF32, 8, 25, FP32, 23),
    "E4M3": Instruction(E4M3, 32, 13, FP32, 13),
    "E5M2": Instruction(E5M2, 32, 13, FP32, 13),
}
"""Instructions of an H100, by name; those of FP8 are wgmma, not mma.sync, which cuts elsewhere."""
BF16_BLOCK = INSTRUCTIONS["bf16"]


class Parts(NamedTuple):
    """A word taken apart: sign · significand · 2^(exponent − fraction bits of its format).

    Attributes:
        sign: 1 or −1. significand: not negative; of subnormal numbers below 2^(fraction bits).
        exponent: of the first bit of normal numbers; the least one for those below.
        finite: otherwise the word is an infinity, or, with a significand above 0, a NaN.
    """

    sign: int
    significand: int
    exponent: int
    finite: bool = True


def parts(form: FloatFormat, word: int) -> Parts:
    """Take a word apart.

    Raises:
        InputError: the format has no such word.
    """
    if not 0 <= word < 2 * form.sign:
        raise InputError(f"word: found {word}, expected 0 to {2 * form.sign - 1}")
    sign, magnitude = (-1 if word & form.sign else 1), word & form.nan
    field, fraction = magnitude >> form.fraction_bits, magnitude & ((1 << form.fraction_bits) - 1)
    if form.infinities and magnitude >= form.infinity:
        return Parts(sign, fraction, 0, finite=False)
    if not form.infinities and magnitude == form.nan:
        return Parts(sign, 1, 0, finite=False)
    hidden = (field > 0) << form.fraction_bits
    return Parts(sign, hidden | fraction, max(field, 1) - form.bias)


def round_to(form: FloatFormat, value: int, exponent: int, *, nearest: bool = True, kept: int | None = None) -> int:
    """The word of value · 2^exponent; 0 is +0, and what rounds to zero keeps its sign.

    Args:
        form: has infinities; one stands for all that is too large, whichever way is rounded.
        nearest: ties to even; otherwise toward zero. kept: fraction bits, all of the format by default.
    """
    if value == 0:
        return 0
    magnitude, kept = abs(value), form.fraction_bits if kept is None else kept
    leading = max(magnitude.bit_length() - 1 + exponent, 1 - form.bias)
    drop = leading - kept - exponent
    if drop <= 0:
        significand = magnitude << -drop
    else:
        significand, rest = magnitude >> drop, magnitude & ((1 << drop) - 1)
        significand += nearest and 2 * rest + (significand & 1) > 1 << drop
    # The first bit of a normal number counts one up in the exponent, and so does a carry.
    word = (significand << (form.fraction_bits - kept)) + ((leading + form.bias - 1) << form.fraction_bits)
    return min(word, form.infinity) | (form.sign if value < 0 else 0)


def block(instruction: Instruction, a: Sequence[int], b: Sequence[int], c: int) -> int:
    """One step of a tensor core: c + Σ a_k · b_k as its instruction computes it.

    A sum of 0 is +0, whatever the signs of its terms, and so is one that is rounded to 0 from below.

    Args:
        a, b: words of the operand's format, (terms,) each. c: the accumulator's.

    Returns:
        The word of the result, which is the accumulator of the next step.

    Raises:
        InputError: other lengths, or a word that its format has not.
    """
    if (len(a), len(b)) != (instruction.terms, instruction.terms):
        raise InputError(f"block: found {len(a)} and {len(b)} factors, expected {instruction.terms} each")
    pairs = [(parts(instruction.operand, x), parts(instruction.operand, y)) for x, y in zip(a, b, strict=True)]
    addend = parts(instruction.result, c)
    if (special := _special(instruction.result, pairs, addend)) is not None:
        return special
    total, exponent = _sum(instruction, pairs, addend)
    word = round_to(instruction.result, total, exponent, nearest=instruction.nearest, kept=instruction.kept)
    return word if word & instruction.result.nan else 0


def _sum(instruction: Instruction, pairs: Sequence[tuple[Parts, Parts]], addend: Parts) -> tuple[int, int]:
    """The sum of finite terms, each cut on the block's grid, and the exponent that it is held by."""
    terms = [
        (x.sign * y.sign, x.significand * y.significand, x.exponent + y.exponent, 2 * instruction.operand.fraction_bits)
        for x, y in pairs
    ]
    terms.append((*addend[:3], instruction.result.fraction_bits))
    terms = [term for term in terms if term[1]]
    top = max((exponent for _, _, exponent, _ in terms), default=FLOOR)
    top = max(top, FLOOR)
    total = sum(
        sign * (significand << instruction.fraction >> (point + top - exponent))
        for sign, significand, exponent, point in terms
    )
    return total, top - instruction.fraction


def vanishes(a: Sequence[int], b: Sequence[int], c: int) -> bool:
    """Whether a bf16 block has a sum below zero of which rounding leaves nothing: the one case in which an H100
    gave another word than published models of it say.

    Args:
        a, b, c: as of ``block``, all finite.
    """
    pairs = [(parts(BF16, x), parts(BF16, y)) for x, y in zip(a, b, strict=True)]
    return _sum(BF16_BLOCK, pairs, parts(FP32, c))[0] < 0 and block(BF16_BLOCK, a, b, c) == 0


def dot_product(a: Sequence[int], b: Sequence[int]) -> int:
    """Σ a_k · b_k of bf16 words as fp32 word: blocks of 16 in the order of k, one accumulator that
    starts at +0, zeros after the last pair.

    Raises:
        InputError: as ``block``.
    """
    total, terms = 0, BF16_BLOCK.terms
    for first in range(0, max(len(a), len(b)), terms):
        x, y = list(a[first : first + terms]), list(b[first : first + terms])
        if len(x) != len(y):
            raise InputError(f"dot product: found {len(a)} and {len(b)} factors, expected as many")
        rest = [0] * (terms - len(x))
        total = block(BF16_BLOCK, x + rest, y + rest, total)
    return total


def fp32_fma(a: int, b: int, c: int) -> int:
    """a · b + c of fp32 words, rounded once to nearest even (IEEE 754 fusedMultiplyAdd); every NaN is
    ``FP32.nan``."""
    x, y, z = parts(FP32, a), parts(FP32, b), parts(FP32, c)
    if (special := _special(FP32, [(x, y)], z)) is not None:
        return special
    sign, exponent = x.sign * y.sign, x.exponent + y.exponent - 2 * FP32.fraction_bits
    beside = z.exponent - FP32.fraction_bits
    low = min(exponent, beside)
    total = sign * (x.significand * y.significand << (exponent - low)) + z.sign * (z.significand << (beside - low))
    if total == 0:
        return FP32.sign if sign == z.sign == -1 else 0
    return round_to(FP32, total, low)


def fp32_add(a: int, b: int) -> int:
    """a + b of fp32 words, rounded to nearest even (IEEE 754)."""
    return fp32_fma(a, _ONE, b)


def fp32_multiply(a: int, b: int) -> int:
    """a · b of fp32 words, rounded to nearest even (IEEE 754)."""
    return fp32_fma(a, b, FP32.sign)


def fp32_divide(a: int, b: int) -> int:
    """a / b of fp32 words, rounded to nearest even (IEEE 754)."""
    x, y = parts(FP32, a), parts(FP32, b)
    sign = FP32.sign if x.sign != y.sign else 0
    if not (x.finite and y.finite):
        # a number by infinity is 0, infinity by a number is infinite; by each other, or with a NaN, a NaN
        nan = x.finite == y.finite or (not x.finite and x.significand) or (not y.finite and y.significand)
        return FP32.nan if nan else sign | (0 if x.finite else FP32.infinity)
    if y.significand == 0:
        return sign | FP32.infinity if x.significand else FP32.nan
    quotient, rest = divmod(x.significand << _MORE, y.significand)
    return sign | round_to(FP32, 2 * quotient + (rest > 0), x.exponent - y.exponent - _MORE - 1)


def fp32_root(a: int) -> int:
    """√a of a fp32 word, rounded to nearest even (IEEE 754); of −0 it is −0."""
    x = parts(FP32, a)
    if not x.finite:
        return FP32.infinity if x.sign > 0 and x.significand == 0 else FP32.nan
    if x.significand == 0 or x.sign < 0:
        return FP32.nan if x.significand else a
    exponent = x.exponent - FP32.fraction_bits - _MORE
    odd = exponent & 1
    square = x.significand << (_MORE + odd)
    root = isqrt(square)
    return round_to(FP32, 2 * root + (root * root != square), (exponent - odd) // 2 - 1)


def fp32_to_bf16(word: int) -> int:
    """The bf16 word of a fp32 word, rounded to nearest even; of a NaN ``BF16.nan``."""
    x = parts(FP32, word)
    if not x.finite:
        return BF16.nan if x.significand else word >> 16
    sign = BF16.sign if x.sign < 0 else 0
    return sign | round_to(BF16, x.significand, x.exponent - FP32.fraction_bits)


_ONE = FP32.bias << FP32.fraction_bits
_MORE = 64  # bits of a quotient or a square beyond those that count, so that one more says on which side it lies


def _special(form: FloatFormat, pairs: Iterable[tuple[Parts, Parts]], addend: Parts) -> int | None:
    """The result where a term is infinite or a NaN; None where all are finite."""
    signs: set[int] = set()
    for x, y in [*pairs, (addend, Parts(1, 1, 0))]:
        if x.finite and y.finite:
            continue
        # of a finite factor the significand is 0 for zero alone; of the others for infinity alone
        if any(part.finite == (part.significand == 0) for part in (x, y)):
            return form.nan
        signs.add(x.sign * y.sign)
    if not signs:
        return None
    if len(signs) > 1:
        return form.nan
    return form.infinity | (form.sign if -1 in signs else 0)
