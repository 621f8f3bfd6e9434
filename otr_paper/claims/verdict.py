"""What judging one claim yields: readings, the conditions that would rescue it, and the verdict that
follows from them.

Every reading is a value beside a number that is asked of it; nothing holds by being written down.
How a verdict is chosen, the same way for every claim:

* **reproduced**: the plain reading satisfies the rule. Rows that are no claims of a text settle as
  **arithmetic** (it only divides stated numbers), **definition** or **cited** (another text's number).
* **conditional**: the plain reading fails, and a condition that the texts do not state makes the
  claim hold, and some published or measured row meets that condition.
* **contradicted** (as stated): no condition is met, or each that is gives up a stated number. The
  conditions are listed all the same, each with the factor by which the nearest row misses it.
* **undefined**: the words have several meanings of equal right, or lack a parameter, and the claim
  holds in one and fails in another.
* **not testable here**: it needs something no code here can supply; it is still contradicted by a
  number that cannot be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partialmethod

from otr_core.errors import ClaimsError

REPRODUCED = "reproduced"
CONDITIONAL = "conditional"
CONTRADICTED = "contradicted"
UNDEFINED = "undefined"
NOT_TESTABLE = "not testable here"
ARITHMETIC = "arithmetic"
DEFINITION = "definition"
CITED = "cited"
VERDICTS = (REPRODUCED, CONDITIONAL, CONTRADICTED, UNDEFINED, NOT_TESTABLE, DEFINITION, ARITHMETIC, CITED)
SETTLED = (REPRODUCED, NOT_TESTABLE, DEFINITION, ARITHMETIC, CITED)
"""What a row may settle as when its plain reading holds."""
KINDS = ("measured", "recomputed", "simulated", "cited")
RELATIONS = ("<", "<=", ">", ">=", "=", "in")


@dataclass(frozen=True)
class Reading:
    """One way to read a claim: a value, and the number that is asked of it.

    Attributes:
        name: short, unique within the claim; the first reading is the plain one.
        assumption: in words, what this reading takes for granted.
        value: the number the reading yields, in the rule's unit.
        kind: one of ``KINDS``.
        rule: what is asked of the value.
        sources: ids of the published rows it uses.
        follows: whether it is made of stated numbers alone.
    """

    name: str
    assumption: str
    value: float
    kind: str
    rule: Rule
    sources: tuple[str, ...] = ()
    follows: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ClaimsError(f"reading {self.name!r}: kind found {self.kind!r}, expected one of {KINDS}")
        if not math.isfinite(self.value):
            raise ClaimsError(f"reading {self.name!r}: value found {self.value}, expected a finite number")

    @property
    def holds(self) -> bool:
        """Whether the value is as asked."""
        return self.rule.holds(self.value)

    @property
    def factor(self) -> float | None:
        """By what factor the value misses what is asked: at most 1 where it holds, None where no
        ratio says it."""
        return self.rule.factor(self.value)


@dataclass(frozen=True)
class Rule:
    """What is asked of a value; makes the readings of a claim, each judged the same way.

    The methods are named after how the value was got, and take name, assumption, value and the ids
    of the sources; ``follows`` is for values made of stated numbers alone.

    Attributes:
        unit: of the values. relation: one of ``RELATIONS``. asked: the number, for "in" the lower
            end.
        slack: how far a value may be from ``asked`` for "=". top: the upper end for "in".
    """

    unit: str
    relation: str
    asked: float
    slack: float = 0.0
    top: float = math.nan

    def __post_init__(self) -> None:
        if self.relation not in RELATIONS:
            raise ClaimsError(f"rule: relation found {self.relation!r}, expected one of {RELATIONS}")

    def holds(self, value: float) -> bool:
        """Whether ``value`` is as asked."""
        asked = self.asked
        return {
            "<": value < asked,
            "<=": value <= asked,
            ">": value > asked,
            ">=": value >= asked,
            "=": abs(value - asked) <= self.slack,
            "in": asked <= value <= self.top,
        }[self.relation]

    def factor(self, value: float) -> float | None:
        """By what factor ``value`` misses what is asked, at most 1 where it does not; None where either
        is not above 0."""
        asked = self.asked
        if self.relation == "in":
            asked = min(max(value, asked), self.top)
        if not (value > 0 and asked > 0):
            return None
        over = value / asked
        if self.relation in ("<", "<="):
            return over
        return 1 / over if self.relation in (">", ">=") else max(over, 1 / over)

    def _reading(
        self, kind: str, name: str, assumption: str, value: float, *sources: str, follows: bool = False
    ) -> Reading:
        return Reading(name, assumption, float(value), kind, self, sources, follows)

    cited = partialmethod(_reading, "cited")
    recomputed = partialmethod(_reading, "recomputed")
    simulated = partialmethod(_reading, "simulated")
    measured = partialmethod(_reading, "measured")
    follows = partialmethod(_reading, "recomputed", follows=True)


@dataclass(frozen=True)
class Condition:
    """What would have to be true for the claim to hold, and whether any row makes it so.

    Attributes:
        name: of the quantity it hangs on.
        text: in words, what would have to be true.
        rule: what that asks of the quantity.
        rows: published, measured or simulated values of the quantity; without any, nothing meets it.
        gives_up: the stated number that a claim resting on this condition no longer keeps.
    """

    name: str
    text: str
    rule: Rule
    rows: tuple[Reading, ...] = ()
    gives_up: str = ""

    def __post_init__(self) -> None:
        if any(row.rule != self.rule for row in self.rows):
            raise ClaimsError(f"condition {self.name!r}: found a row judged by another rule than its own")

    @property
    def met(self) -> bool:
        """Whether some row meets it."""
        return any(row.holds for row in self.rows)

    @property
    def rescues(self) -> bool:
        """Whether a claim may rest on it: some row meets it, and no stated number is given up."""
        return self.met and not self.gives_up

    @property
    def nearest(self) -> Reading | None:
        """The row that meets it, or comes nearest; None where there is none with a factor."""
        known = [row for row in self.rows if row.factor is not None]
        meeting = [row for row in known if row.holds]
        return min(meeting or known, key=lambda row: row.factor or 0.0, default=None)


@dataclass(frozen=True)
class Evaluation:
    """The outcome for one claim, in numbers. Its words stand in the claim's row of the ledger.

    Attributes:
        computed: headline numbers; each name ends in its unit.
        readings: the plain reading first, then every other.
        conditions: what would have to be true, the most telling first.
        settles: the verdict where the plain reading holds, one of ``SETTLED``.
        meanings: so many of the first readings are meanings of equal right; while some hold and some
            fail, the claim is undefined. 0 or 1: it has one.
    """

    computed: Mapping[str, float]
    readings: tuple[Reading, ...]
    conditions: tuple[Condition, ...] = ()
    settles: str = REPRODUCED
    meanings: int = 0

    def __post_init__(self) -> None:
        if not (self.computed and self.readings):
            raise ClaimsError(f"evaluation: found {self.computed} and {self.readings}, expected numbers and readings")
        names = [reading.name for reading in self.readings]
        if len(set(names)) != len(names):
            raise ClaimsError(f"evaluation: two readings share a name among {names}")
        bad = [name for name, value in self.computed.items() if not math.isfinite(value)]
        if bad:
            raise ClaimsError(f"evaluation: computed {bad} found not finite, expected finite numbers")
        if self.settles not in SETTLED:
            raise ClaimsError(f"evaluation: settles as {self.settles!r}, expected one of {SETTLED}")

    @property
    def verdict(self) -> str:
        """The verdict that follows from the readings, by the rules at the top of this module."""
        if self.meanings > 1:
            held = {reading.holds for reading in self.readings[: self.meanings]}
            if len(held) > 1:
                return UNDEFINED
        if self.readings[0].holds:
            return self.settles
        return CONDITIONAL if any(condition.rescues for condition in self.conditions) else CONTRADICTED

    @property
    def stated(self) -> Reading | None:
        """The first reading made of stated numbers alone: whether the claim follows from them."""
        return next((reading for reading in self.readings if reading.follows), None)

    @property
    def evidence(self) -> tuple[Reading, ...]:
        """Every reading that rests on more than stated numbers; where nothing can test the claim, the
        first one only says which numbers can be."""
        rest = self.readings[1:] if self.settles == NOT_TESTABLE else self.readings
        return tuple(reading for reading in rest if not reading.follows)

    def all_readings(self) -> Iterator[Reading]:
        """Readings, then the rows of the conditions."""
        yield from self.readings
        for condition in self.conditions:
            yield from condition.rows

    def without(self, source: str) -> Evaluation | None:
        """The same without what rests on one published row; None where the plain reading or a meaning
        does."""
        if any(source in reading.sources for reading in self.readings[: max(1, self.meanings)]):
            return None
        readings = tuple(reading for reading in self.readings if source not in reading.sources)
        conditions = tuple(
            replace(one, rows=tuple(row for row in one.rows if source not in row.sources)) for one in self.conditions
        )
        return replace(self, readings=readings, conditions=conditions)
