"""Sum-checks, and sums of fractions by a tree of them: what both sides say, and what is checked.

A *sum-check* reduces Σ over a box of a product of multilinear extensions to the product at one
random point. An axis need not be a power of two long: an extension is 0 beyond its end. Bits are
bound from the last axis' lowest on; in a tree from the highest on.

The *sum of fractions* p_i / q_i is the root of a binary tree (Papini and Haböck's LogUp over the
circuit of Goldwasser, Kalai and Rothblum): from the root down, a sum-check a level reduces claims
about one level's extensions to claims about the next one's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Protocol

from otr_core.errors import AnswerProofError
from otr_core.spotcheck.proof.field import ONE, Ext, P, Words
from otr_core.spotcheck.proof.transcript import Channel

_OTHER_SUM = "a round that sums to another value", "the claim"
_ZERO = "a denominator of zero", "another"


class Rounds(Protocol):
    """The prover's side of a sum-check."""

    def message(self) -> Words:
        """The round's polynomial at 0, 1, …, degree: (degree + 1, 2)."""

    def bind(self, challenge: Ext) -> None:
        """Go on with the bit bound to a challenge."""


class Levels(Protocol):
    """The prover's side of a sum of fractions."""

    def root(self) -> Words:
        """Numerator and denominator, (2, 2)."""

    def level(self, number: int, point: list[Ext], mix: Ext) -> Rounds:
        """The sum-check of the level that has ``number`` bits; its messages leave out the round's
        factor of eq."""

    def ends(self) -> Words:
        """p and q of the next level at both values of its highest bit, at the bound point: p0, p1,
        q0, q1."""


def bits_of(length: int) -> int:
    """Bits of an axis."""
    return (length - 1).bit_length()


def interpolate(values: list[Ext], x: Ext) -> Ext:
    """The polynomial through (0, values[0]), (1, values[1]), … at x, by Newton's forward differences."""
    steps = list(values)
    for order in range(1, len(steps)):
        for i in range(len(steps) - 1, order - 1, -1):
            steps[i] = steps[i] - steps[i - 1]
    result = steps[-1]
    for order in range(len(steps) - 1, 0, -1):
        result = steps[order - 1] + result * ((x - (order - 1)) * _inverse(order))
    return result


@cache
def _inverse(number: int) -> int:
    return pow(number, -1, P)


def sumcheck(
    channel: Channel, label: str, claim: Ext, shape: tuple[int, ...], degree: int, build: Callable[[], Rounds]
) -> tuple[list[list[Ext]], Ext]:
    """Reduce a sum over a box to a value at a point.

    Returns:
        the point, for each axis its bits from the lowest on; and what the product is there.

    Raises:
        AnswerProofError: a round's polynomial does not sum to the claim; the check is ``label``.
    """
    rounds = build() if channel.sends else None
    points: list[list[Ext]] = []
    for length in reversed(shape):
        point = []
        for _ in range(bits_of(length)):
            values = channel.exts(label, degree + 1, partial(_message, rounds))
            channel.same(label, values[0] + values[1], claim, _OTHER_SUM)
            bound = channel.challenge(label)
            claim = interpolate(values, bound)
            point.append(bound)
            if rounds is not None:
                rounds.bind(bound)
        points.insert(0, point)
    return points, claim


def _message(rounds: Rounds | None) -> Words:
    assert rounds is not None
    return rounds.message()


@dataclass(frozen=True)
class Fraction:
    """What remains of a sum of fractions: its root, and the leaves' extensions at a point.

    Attributes:
        value: numerator / denominator, where these are masked; None where they are not.
    """

    numerator: Ext
    denominator: Ext
    value: Ext | None
    point: list[Ext]
    leaf_numerator: Ext
    leaf_denominator: Ext


def sum_fractions(channel: Channel, label: str, bits: int, build: Callable[[], Levels]) -> Fraction:
    """Reduce the sum of 2^bits fractions to claims about numerators and denominators.

    Raises:
        AnswerProofError: a level does not follow from the next one, or the root's denominator is
            zero; the check is ``label``.
    """
    levels = build() if channel.sends else None
    p, q = root = channel.exts(label, 2, lambda: levels.root())  # type: ignore[union-attr]
    value = None
    if channel.book is not None:
        # What has an inverse is not zero.
        (inverse,) = channel.exts(label, 1, lambda: Ext.of(levels.root()[1]).inverse.words[None])  # type: ignore[union-attr]
        channel.same(label, q * inverse, ONE, _ZERO)
        value = p * inverse
    elif not q and not channel.sends:
        raise AnswerProofError(label, *_ZERO)
    point: list[Ext] = []
    for level in range(bits):
        mix = channel.challenge(label)
        rounds = None if levels is None else levels.level(level, point, mix)
        claim, factor, bound = p + mix * q, ONE, []
        for own in reversed(point):
            s = channel.exts(label, 3, partial(_message, rounds))
            channel.same(label, factor * (s[0] + own * (s[1] - s[0])), claim, _OTHER_SUM)
            x = channel.challenge(label)
            both = own * x
            factor = factor * (both + both - own - x + 1)
            claim = factor * interpolate(s, x)
            bound.append(x)
            if rounds is not None:
                rounds.bind(x)
        p0, p1, q0, q1 = channel.exts(label, 4, lambda: levels.ends())  # type: ignore[union-attr]
        found = factor * (p0 * q1 + p1 * q0 + mix * (q0 * q1))
        channel.same(label, found, claim, ("another sum of two fractions", "the level's claim"))
        high = channel.challenge(label)
        p, q, point = p0 + high * (p1 - p0), q0 + high * (q1 - q0), [*reversed(bound), high]
    return Fraction(root[0], root[1], value, point, p, q)
