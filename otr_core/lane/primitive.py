"""What all kinds of steps have in common: an accumulator turned into the next one, and a finish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from otr_core.lane.element import Accumulator, Element


@dataclass(frozen=True)
class Primitive:
    """One kind of step.

    Attributes:
        step: (element, number of the step, accumulator before) → accumulator after.
        finish: (element, last accumulator) → the element's value; of most primitives, what was
            accumulated.
        start: the accumulator before the first step.
    """

    step: Callable[[Element, int, Accumulator], Accumulator]
    finish: Callable[[Element, Accumulator], int] = lambda at, last: last[0]
    start: Accumulator = (0, 0)


def at_once(compute: Callable[[Element], int]) -> Primitive:
    """A primitive whose only step gives the value."""
    return Primitive(lambda at, step, before: (compute(at), 0))
