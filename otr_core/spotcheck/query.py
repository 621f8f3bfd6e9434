"""All units of one drawn query, and what happens to a unit that cannot be decided.

Where the residual stream saturates, a unit does not fit the circuit. Its openings are checked like
any other's, and show the saturation to everyone. The unit is then *inconclusive*: it counts neither
for nor against the operator, and the next number of the same stream (same round, same rows root) is
drawn in its place. A query may have ``REDRAWS`` such units in all. With one more it goes to a
dispute, which runs the place again and decides. So nobody is convicted by an inconclusive unit, and
an operator who saturates on purpose buys a dispute and no escape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otr_core.errors import InconclusiveError, ParameterError

REDRAWS = 1
"""Inconclusive units that a query may have. With more, a cheat that saturates would pass more
often; with none, a single saturated value of an honest run would send its query to a dispute."""


@dataclass(frozen=True)
class QueryOutcome:
    """How a query that convicted nobody ended.

    Attributes:
        drawn: how many units were drawn: numbers 0 to drawn − 1. inconclusive: numbers of those not
            decided.
        disputed: more units were inconclusive than is allowed; the query goes to a dispute.
    """

    drawn: int
    inconclusive: tuple[int, ...]
    disputed: bool


def examine(units: int, check: Callable[[int], None], redraws: int = REDRAWS) -> QueryOutcome:
    """Draw and check units until ``units`` of them are decided, or too many cannot be.

    Args:
        units: how many are to be decided. redraws: how many more may be inconclusive.
        check: draws and verifies the unit of a number: returns, or raises ``InconclusiveError`` or
            ``SpotCheckError``.

    Raises:
        SpotCheckError: a unit was refused; the operator is convicted.
        ParameterError: a negative number of units or of redraws.
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
