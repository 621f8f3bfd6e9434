"""Disputes in the lane ``h100-bf16`` that come down to one block: an operator that lies about a single
accumulator, and about nothing that follows from it."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from otr_core import merkle
from otr_core.dispute.moves_steps import accumulator_bytes, places
from otr_core.dispute.players import HonestOperator, Move, choice
from otr_core.dispute.records import Terms
from otr_core.dispute.state import Game, Level
from otr_core.errors import InputError
from otr_core.lane.element import LAYER, Accumulator, Element, Place, program
from otr_core.lane.step import PRIMITIVES
from otr_node.execution import Execution
from otr_node.run import Run, Tamper
from otr_paper.benches import disputes
from otr_paper.benches.workbench import Served
from otr_paper.studies.dispute_costs import TERMS


@dataclass(frozen=True)
class FalseBlock:
    """One block whose result is changed, and what follows from it.

    Attributes:
        place: of the block; its value is what the element is then. honest: what it is.
        accumulators: all of the element, right up to the block, and from it on what the changed one gives.
    """

    place: Place
    accumulators: tuple[Accumulator, ...]
    honest: int

    @property
    def tamper(self) -> Tamper:
        """The change of the element's value."""
        at = self.place
        return Tamper(at.position, at.layer, at.operator, at.element, at.value - self.honest)


def false_block(run: Run, target: int, position: int, layer: int, operator: int, element: int, step: int) -> FalseBlock:
    """The change of the lowest bit of block ``step`` that reaches what the trace holds: less than that
    changes nothing that anybody has signed.

    Raises:
        InputError: none of them does.
    """
    done = run.execution(target, position, layer)
    place = Place(target, position, layer, operator, element, step, 0, 0, done.token_step)
    at = Element(done.dims, run.claim, place, done.program[operator], done.held)
    primitive, honest = PRIMITIVES[at.operator.kind], int(done.vectors[operator][element])
    for bit in range(31):
        found: list[Accumulator] = []
        for number in range(at.operator.steps):
            after = primitive.step(at, number, found[-1] if found else primitive.start)
            found.append((after[0] ^ 1 << bit, after[1]) if number == step else after)
        if (made := primitive.finish(at, found[-1])) == honest:
            continue
        false = FalseBlock(replace(place, value=made), tuple(found), honest)
        if reaches_trace(done, false.tamper):
            return false
    raise InputError(f"block {step} of element {element}: found no bit that reaches the trace")


def reaches_trace(done: Execution, tamper: Tamper) -> bool:
    """Whether a change of a layer's value changes what the trace holds of the layer."""
    names = [each.name for each in done.program]
    kept = [names.index(done.dims.kept(row)[0]) for row in range(3)]
    false = replace(done, alter=tamper)
    return any((false.vectors[at] != done.vectors[at]).any() for at in kept)


@dataclass
class OperatorOfFalseBlock(HonestOperator):
    """Defends a false block: every accumulator that it shows follows from the one before, but for one."""

    false: FalseBlock

    def points(self, game: Game, value: int) -> bytes:
        """As of the honest operator, with the false accumulators."""
        if (game.operator, game.element) != (self.false.place.operator, self.false.place.element):
            return super().points(game, value)
        entries = ((0, 0), *self.false.accumulators, (value, 0))
        return b"".join(accumulator_bytes(game, entries[place]) for place in places(game))


def knowing(run: Run, position: int, layer: int) -> Run:
    """The same run, which keeps the states that a dispute about this layer at this position reads."""
    wanted = [(q, layer) for q in range(position + 1)] + [(position, layer - 1)]
    return replace(run, keep=tuple(wanted))


def dispute_block(served: Served, honest: Run, false: FalseBlock, terms: Terms = TERMS) -> dict[str, Any]:
    """Dispute the answer that has ``false`` in it, by transactions (``disputes.dispute``).

    Args:
        honest: of the served answer, from which also the fisherman knows what is right.
    """
    return disputes.dispute(
        served.order,
        honest,
        knowing(served.run(false.tamper), false.place.position, false.place.layer),
        terms=terms,
        operator=lambda run: OperatorOfFalseBlock(run, false),
        own=honest,
    )


@dataclass
class PointingChallenger:
    """Points at one step of an honest answer, from the root down; quotes what was published.

    Attributes:
        run: an honest one. at: the step.
    """

    run: Run
    at: Place

    def move(self, game: Game, shown: Move) -> Move:
        """As ``ChallengerPlayer.move``."""
        at, d = self.at, self.run.trees.dims
        if game.level == Level.ELEMENT:
            number = at.element % d.tile
            return "element", number, int(struct.unpack_from(">q", shown[1], 8 * number)[0])
        if game.level == Level.STEPS:
            ends = places(game)
            return "choose_step", next(i for i, end in enumerate(ends[1:]) if at.step < end)
        if game.level == Level.OPERATORS:
            return choice(shown[2], at.operator)
        wanted = at.position * d.layers + at.layer if game.level == Level.TRACE else at.element // d.tile
        below, first, _ = merkle.span(game.size, game.height, game.index, game.arity_bits)
        return choice(shown[-1], (wanted >> below) - first)


def honest_block(
    served: Served, honest: Run, position: int, layer: int, name: str, seed: int, terms: Terms = TERMS
) -> dict[str, Any]:
    """Dispute a block of the honest answer: a random one of the operator called ``name``."""
    operators = program(served.trees.dims, LAYER, position, 0)
    number = [each.name for each in operators].index(name)
    random, operator = Random(seed), operators[number]
    element, step = random.randrange(operator.length), random.randrange(operator.steps)
    at = Place(LAYER, position, layer, number, element, step, 0)
    return disputes.dispute(
        served.order,
        honest,
        honest,
        terms=terms,
        challenger=lambda run: PointingChallenger(run, at),
        own=honest,
    )
