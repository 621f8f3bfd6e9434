"""Integer tables of the portable lane, made with integers alone: equal on every machine.

No floating-point function is called: powers are products of fixed-point integers of 128 fraction
bits, started from integer square roots and short series. Entries are rounded to nearest from there.
"""

from __future__ import annotations

import decimal
import functools
from math import isqrt

from otr_core.lane.architecture import Architecture
from otr_core.lane.formats import EXP, ROTARY, SCORE, SIGMOID, SIGMOID_INDEX, SIGMOID_LIMIT
from otr_core.lane.rotary import Scaling

_BITS = 128
_ONE = 1 << _BITS


def exp2_table(index_bits: int, value_bits: int) -> list[int]:
    """Entry f: 2^(−f / 2^index_bits) · 2^value_bits, for f from 0 to 2^index_bits − 1."""
    ratio = _ONE >> 1
    for _ in range(index_bits):  # (1/2)^(1/2^index_bits) by square roots
        ratio = isqrt(ratio << _BITS)
    return [_round(value, _BITS - value_bits) for value in _powers(ratio, 1 << index_bits)]


def sigmoid_table(index_bits: int, value_bits: int, limit: int) -> list[int]:
    """Entry i: sigmoid(i / 2^index_bits − limit) · 2^value_bits, up to sigmoid(limit)."""
    half = limit << index_bits
    ratio = _exp_neg(_ONE >> index_bits)
    up = [((_ONE << value_bits) + ((_ONE + e) >> 1)) // (_ONE + e) for e in _powers(ratio, half + 1)]
    return [(1 << value_bits) - value for value in reversed(up[1:])] + up


@functools.cache
def exp2_entries() -> list[int]:
    """The lane's table of 2^−x, down to where it is 0; each octave is half the one before."""
    octave = exp2_table(SCORE, EXP)
    return [value >> halvings for halvings in range(EXP + 1) for value in octave] + [0]


@functools.cache
def sigmoid_entries() -> list[int]:
    """The lane's table of the sigmoid."""
    return sigmoid_table(SIGMOID_INDEX, SIGMOID, SIGMOID_LIMIT)


def turns(a: Architecture, positions: int) -> tuple[tuple[list[list[int]], list[list[int]]], ...]:
    """The rotary tables of a model's first positions, each as ``rotary_table``; a second one where
    some layers have other rotations."""
    first = rotary_table(a.rope_theta, a.head_dim, positions, ROTARY, a.rope_scaling, a.rotary)
    if not a.second_turns:
        return (first,)
    turned = a.rotary if a.second_theta else 0
    return first, rotary_table(a.second_theta or a.rope_theta, a.head_dim, positions, ROTARY, None, turned)


@functools.lru_cache(maxsize=8)
def rotary_table(
    theta: float,
    head_dim: int,
    positions: int,
    value_bits: int,
    scaling: Scaling | None = None,
    turned: int | None = None,
) -> tuple[list[list[int]], list[list[int]]]:
    """[position][j]: cosines and sines of position · frequency_j · 2^value_bits, j < head_dim / 2.

    The frequency is theta^(−2j / turned), stretched as ``scaling`` says, and 0 from the pair on that
    is not turned any more.

    Args:
        turned: values of a head that are turned; all by default.
    """
    pairs = (head_dim if turned is None else turned) // 2
    rotations = [_cos_sin(_frequency(theta, j, pairs, scaling) if j < pairs else 0) for j in range(head_dim // 2)]
    drop = _BITS - value_bits
    cosines, sines = [], []
    current = [(_ONE, 0)] * len(rotations)
    for _ in range(positions):
        cosines.append([_round(c, drop) for c, _ in current])
        sines.append([_round(s, drop) for _, s in current])
        current = [
            ((c * dc - s * ds) >> _BITS, (s * dc + c * ds) >> _BITS)
            for (c, s), (dc, ds) in zip(current, rotations, strict=True)
        ]
    return cosines, sines


def _frequency(theta: float, pair: int, pairs: int, scaling: Scaling | None) -> int:
    """The frequency in fixed point; decimal's ln and exp are correctly rounded on every machine."""
    with decimal.localcontext(decimal.Context(prec=50)):
        exponent = decimal.Decimal(theta).ln() * (2 * pair) / (2 * pairs)
        plain = (-exponent).exp()
        return int((plain if scaling is None else scaling.stretched(plain, pair, pairs, theta)) * _ONE)


def _cos_sin(angle: int) -> tuple[int, int]:
    """Cosine and sine of an angle in [0, 1] in fixed point, by their series."""
    cosine, sine, term, n = 0, 0, _ONE, 0
    while term:
        if n % 2 == 0:
            cosine += term if n % 4 == 0 else -term
        else:
            sine += term if n % 4 == 1 else -term
        n += 1
        term = (term * angle >> _BITS) // n
    return cosine, sine


def _exp_neg(x: int) -> int:
    """e^−x of a small x in fixed point, by its series."""
    total, term, n = 0, _ONE, 0
    while term:
        total += term if n % 2 == 0 else -term
        n += 1
        term = (term * x >> _BITS) // n
    return total


def _powers(ratio: int, count: int) -> list[int]:
    result, value = [], _ONE
    for _ in range(count):
        result.append(value)
        value = value * ratio >> _BITS
    return result


def _round(value: int, drop: int) -> int:
    return (value + (1 << (drop - 1))) >> drop
