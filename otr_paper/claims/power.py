"""What a verdict is worth: at which stated number it flips, in which share of its inputs' ranges it
stands, and how the row would read had the text stated another number.

A verdict that no number could change says nothing. ``flips`` looks for the change on both sides of
the stated number, over factors of ``LEAST`` to ``MOST``, and narrows it down by bisection;
``standing`` judges the claim again at points of the ranges of its dated prices, and without each of
its published sources. Both call the claim's own function, and know nothing of its formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from otr_core.errors import InputError, OtrError
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import Published
from otr_paper.claims.verdict import Evaluation

LEAST, MOST = 1e-3, 1e3
"""Factors of the stated number between which a verdict has to flip."""
STEPS = 48
"""Factors tried on each side before the nearest change is narrowed down."""
POINTS = 64
"""Points of the prices' ranges at which a claim is judged again."""
RANGES: Mapping[str, tuple[str, ...]] = {
    "gas.eth_usd": ("range.eth_usd",),
    "gpu.h100_median": ("gpu.h100_long_tail", "gpu.h100_specialty", "gpu.h100_spendark", "gpu.h100_hyperscaler"),
    **{
        f"price.llama31_{model}.{side}": tuple(f"price.{row}.{side}" for row in rows)
        for model, rows in {
            "70b_fireworks": ("llama31_70b_fireworks", "llama31_70b_deepinfra_2025", "llama33_70b_openrouter"),
            "70b_deepinfra_2025": ("llama31_70b_fireworks", "llama31_70b_deepinfra_2025", "llama33_70b_openrouter"),
            "8b_deepinfra_2025": ("llama31_8b_lowest", "llama31_8b_deepinfra_2025", "llama31_8b_bedrock"),
        }.items()
        for side in ("in", "out")
    },
}
"""Row of a dated price -> the published rows that span what others print for the same."""

Judge = Callable[[Grounds], Evaluation]


@dataclass(frozen=True)
class Flip:
    """Where a verdict changes: the factor of the stated number, and what it becomes beyond."""

    factor: float
    verdict: str


@dataclass(frozen=True)
class Standing:
    """In which share of the inputs' ranges a verdict stands; None where no input has a range.

    Attributes:
        prices: share of ``POINTS`` points of the ranges of its prices. sources: share of its
            published sources that may be left out, one at a time.
        ranged: the rows whose prices vary.
    """

    prices: float | None
    sources: float | None
    ranged: tuple[str, ...]


def judged_at(judge: Judge, grounds: Grounds, rows: tuple[str, ...], factor: float) -> Evaluation | None:
    """The claim, had the text stated ``factor`` times as much; None where that is no possible number."""
    try:
        return judge(grounds.variant(dict.fromkeys(rows, factor)))
    except (OtrError, ValueError, ArithmeticError):
        return None


def flips(judge: Judge, grounds: Grounds, rows: tuple[str, ...]) -> tuple[Flip | None, Flip | None]:
    """The nearest change of verdict below and above the stated number.

    Args:
        rows: of the stated number; a band has one, a pair of numbers two.
    """

    def verdict(factor: float) -> str | None:
        found = judged_at(judge, grounds, rows, factor)
        return found.verdict if found else None

    stated = verdict(1.0)

    def nearest(end: float) -> Flip | None:
        inner = 1.0
        # The first steps are fine: a rule that asks for equality changes within a millionth.
        for step in (1e-6, *(((n + 1) / STEPS) ** 2 for n in range(STEPS))):
            outer = end**step
            found = verdict(outer)
            if found is None:
                return None
            if found != stated:
                return _narrowed(inner, outer)
            inner = outer
        return None

    def _narrowed(inner: float, outer: float) -> Flip:
        while abs(outer / inner - 1) > 1e-9:
            middle = math.sqrt(inner * outer)
            inner, outer = (middle, outer) if verdict(middle) == stated else (inner, middle)
        return Flip(outer, str(verdict(outer)))

    return nearest(LEAST), nearest(MOST)


def standing(judge: Judge, grounds: Grounds) -> Standing:
    """In which share of its inputs' ranges the verdict on a claim stands."""
    found = judge(grounds)
    used = {source for reading in found.all_readings() for source in reading.sources}
    ranged = tuple(row for row in RANGES if row in used)
    prices = None
    if ranged:
        points = (judge(grounds.variant(factors)) for factors in price_points(grounds.published, ranged))
        prices = sum(point.verdict == found.verdict for point in points) / POINTS
    published = grounds.published
    others = sorted(source for source in used if source in published and published[source].level not in _OWN)
    left = [one for one in map(found.without, others) if one is not None]
    sources = sum(one.verdict == found.verdict for one in left) / len(left) if left else None
    return Standing(prices, sources, ranged)


_OWN = ("claim", "reading")
"""Levels of rows that state the claim itself: these are no sources of evidence."""


def price_points(published: Published, rows: tuple[str, ...]) -> list[dict[str, float]]:
    """``POINTS`` points of the ranges of these prices, as factors: spread evenly over the logarithms,
    each axis by the golden section of its own (a Kronecker sequence), the same each time."""
    factors: list[dict[str, float]] = [{} for _ in range(POINTS)]
    root = _kronecker_root(len(rows))
    for axis, row in enumerate(rows, start=1):
        spans = [published[one].bounds(published[row].unit) for one in RANGES[row]]
        value = published[row].value
        low, high = min(low for low, _ in spans) / value, max(high for _, high in spans) / value
        for number, point in enumerate(factors, start=1):
            point[row] = low * (high / low) ** math.modf(0.5 + number * root**-axis)[0]
    return factors


def _kronecker_root(axes: int) -> float:
    """The positive root of ``x ** (axes + 1) = x + 1``; its powers spread points over ``axes`` axes."""
    root = 1.5
    for _ in range(60):
        root = (1 + root) ** (1 / (axes + 1))
    return root


def other_number(published: Published, rows: tuple[str, ...], unit: str, text: str) -> float:
    """The factor by which a stated number would have to be changed to read ``text``.

    Args:
        text: a number in ``unit``; for a band its lower end.

    Raises:
        InputError: no finite number above 0.
    """
    low, _ = published[rows[0]].bounds(unit)
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"--stated: found {text!r}, expected a number such as {low:g}") from error
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"--stated: found {text!r}, expected a finite number above 0")
    return value / low
