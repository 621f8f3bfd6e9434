"""All units of one drawn query, and what happens to a unit that cannot be decided.

A unit of the residual stream that saturates does not fit the circuit. Its openings are checked like any other's, and
show the saturation to everyone; then it is *inconclusive*: it counts neither way, and the next number of the same
stream (same round, same rows root) is drawn in its place. A query may have ``REDRAWS`` such units in all; with one
more it goes to a dispute, which runs the place again and decides. Nobody is convicted by an inconclusive unit, and an
operator who saturates on purpose buys a dispute, not an escape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otr_core.errors import InconclusiveError, ParameterError

REDRAWS = 1
"""Inconclusive units a query may have. More would let a cheat that saturates pass more often; none would send a query
to dispute for one saturated value of an honest run."""


@dataclass(frozen=True)
class QueryOutcome:
    """How a query that convicted nobody ended.

    Attributes:
        drawn: how many units were drawn: numbers 0 to drawn − 1. inconclusive: numbers of those not decided.
        disputed: more than the allowed were inconclusive; the query goes to a dispute.
    """

    drawn: int
    inconclusive: tuple[int, ...]
    disputed: bool


def examine(units: int, check: Callable[[int], None], redraws: int = REDRAWS) -> QueryOutcome:
    """Draw and check units until ``units`` of them are decided, or too many cannot be.

    Args:
        check: draws and verifies the unit of a number: returns, or raises ``InconclusiveError`` or ``SpotCheckError``.

    Raises:
        SpotCheckError: a unit was refused; the operator is convicted.
    """
    if units < 0 or redraws < 0:
        raise ParameterError("units", (units, redraws), "both at least 0")
    number = 0
    inconclusive: list[int] = []
    while number - len(inconclusive) < units:
        try:
            check(number)
        except InconclusiveError:
            inconclusive.append(number)
        number += 1
        if len(inconclusive) > redraws:
            return QueryOutcome(number, tuple(inconclusive), True)
    return QueryOutcome(number, tuple(inconclusive), False)
