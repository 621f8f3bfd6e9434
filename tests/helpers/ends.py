"""What a game has in the clear of the step that its judge is asked about."""

from __future__ import annotations

from otr_core.lane.element import Accumulator
from otr_node.execution import Execution


def ends_of(done: Execution, operator: int, element: int, step: int) -> tuple[Accumulator, Accumulator]:
    """The accumulators before and after a step, each with its index."""
    if operator == len(done.program) or done.program[operator].steps == 1:
        return (0, 0), (0, 0)
    entries = [(0, 0), *done.accumulators(operator, element), (0, 0)]
    return entries[step], entries[step + 1]
