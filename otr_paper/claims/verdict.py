"""What judging one claim yields: readings, the verdict that follows from them, and the number it
hangs on.

How a verdict is chosen, the same way for every claim:

* **reproduced**: the plain reading, with the paper's own inputs or published measurements,
  satisfies the rule.
* **conditional**: the plain reading fails or is undefined, but an assumption the paper does not
  state makes the claim hold without changing any number it does state. The assumption is named and
  its limit computed.
* **contradicted**: every reading that satisfies the rule has to replace a number the paper states.
* **not testable here**: it needs something no code here can supply (human raters, a missing
  definition).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partialmethod

from otr_core.errors import ClaimsError

REPRODUCED = "reproduced"
CONDITIONAL = "conditional"
CONTRADICTED = "contradicted"
NOT_TESTABLE = "not testable here"
VERDICTS = (REPRODUCED, CONDITIONAL, CONTRADICTED, NOT_TESTABLE)
KINDS = ("measured", "recomputed", "simulated", "cited")


@dataclass(frozen=True)
class Reading:
    """One way to read a claim, and whether it holds that way.

    Attributes:
        name: short, unique within the claim; the first reading is the plain one.
        assumption: in words, what this reading takes for granted.
        value: the number the reading yields, in ``unit``.
        kind: one of ``KINDS``.
        holds: whether the stated number holds under it.
        replaces: the number stated by the paper that this reading gives up, empty if none; decides
            between *conditional* and *contradicted*.
        sources: ids of the published rows it uses, or the formula's source.
    """

    name: str
    assumption: str
    value: float
    unit: str
    kind: str
    holds: bool
    sources: tuple[str, ...] = ()
    replaces: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ClaimsError(f"reading {self.name!r}: kind found {self.kind!r}, expected one of {KINDS}")
        if not math.isfinite(self.value):
            raise ClaimsError(f"reading {self.name!r}: value found {self.value}, expected a finite number")


@dataclass(frozen=True)
class Rule:
    """When a value counts as the stated one: makes the readings of a claim, each judged by the same
    rule.

    The methods are named after how the value was got, and take what a ``Reading`` takes: name,
    assumption, value, ids of the sources, and ``replaces``.

    Attributes:
        unit: of the values. holds: whether the stated number holds at a value.
    """

    unit: str
    holds: Callable[[float], bool]

    def _reading(
        self, kind: str, name: str, assumption: str, value: float, *sources: str, replaces: str = ""
    ) -> Reading:
        return Reading(name, assumption, value, self.unit, kind, bool(self.holds(value)), sources, replaces)

    cited = partialmethod(_reading, "cited")
    recomputed = partialmethod(_reading, "recomputed")
    simulated = partialmethod(_reading, "simulated")
    measured = partialmethod(_reading, "measured")


def at_least(stated: float) -> Callable[[float], bool]:
    """``value >= stated``, for a value that may have been computed so as to just reach it."""
    return lambda value: value >= stated * (1 - 1e-12)


def at_most(stated: float) -> Callable[[float], bool]:
    """``value <= stated``, for a value that may have been computed so as to just reach it."""
    return lambda value: value <= stated * (1 + 1e-12)


@dataclass(frozen=True)
class Evaluation:
    """The outcome for one claim, in numbers. Its words stand in the claim's row of the ledger.

    Attributes:
        computed: headline numbers; each name ends in its unit.
        readings: the plain reading first, then every rescuing one.
        limit: for *conditional*, what the claim hangs on: the name of a quantity, and the value at
            which the claim stops holding. The row says under this name what the assumption is.
        testable: whether the code can supply what the claim needs; if not, the readings are only
            nearby facts.
    """

    computed: Mapping[str, float]
    readings: tuple[Reading, ...]
    limit: tuple[str, float] | None = None
    testable: bool = True

    def __post_init__(self) -> None:
        if not (self.computed and self.readings):
            raise ClaimsError(f"evaluation: found {self.computed} and {self.readings}, expected numbers and readings")
        names = [reading.name for reading in self.readings]
        if len(set(names)) != len(names):
            raise ClaimsError(f"evaluation: two readings share a name among {names}")
        bad = [name for name, value in self.computed.items() if not math.isfinite(value)]
        if bad:
            raise ClaimsError(f"evaluation: computed {bad} found not finite, expected finite numbers")
        if self.verdict == CONDITIONAL and self.limit is None:
            raise ClaimsError(f"evaluation: found {CONDITIONAL} on no limit, expected its name and value")

    @property
    def verdict(self) -> str:
        """The verdict that follows from the readings, by the rules at the top of this module."""
        if not self.testable:
            return NOT_TESTABLE
        if self.readings[0].holds:
            return REPRODUCED
        if any(reading.holds and not reading.replaces for reading in self.readings):
            return CONDITIONAL
        return CONTRADICTED


def solved(closed_form: float, residual: Callable[[float], float], low: float, high: float) -> float:
    """``closed_form``, after finding the same root of ``residual`` by bisection on [low, high].

    The two are each other's check: a limit stated by this package never rests on one formula alone.

    Raises:
        ClaimsError: no sign change in the interval, or the two differ by more than 1e-9 relative.
    """
    left, right = residual(low), residual(high)
    if left * right > 0:
        raise ClaimsError(f"no root between {low} and {high}: residuals {left} and {right}")
    for _ in range(300):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        value = residual(middle)
        if left * value <= 0:
            high = middle
        else:
            low, left = middle, value
    root = 0.5 * (low + high)
    if not math.isclose(root, closed_form, rel_tol=1e-9, abs_tol=1e-300):
        raise ClaimsError(f"root found {root!r}, closed form {closed_form!r}: they must agree")
    return closed_form
