"""Players that do not play honestly: griefers, withholders, operators whose levels do not fit."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from otr_core import merkle
from otr_core.dispute.moves_steps import places
from otr_core.dispute.players import HonestOperator, Move, choice
from otr_core.dispute.state import Game, Level
from otr_core.lane.element import TOKEN
from otr_node.execution import Execution
from otr_node.run import Run


@dataclass
class Griefer:
    """A challenger that disputes an honest answer along a random path, and is silent after
    ``silent_after`` moves."""

    random: Random
    silent_after: int = 10**9
    moves: int = 0

    def move(self, game: Game, shown: Move) -> Move:
        self.moves += 1
        if self.moves > self.silent_after:
            return ()
        draw = self.random.randrange
        if game.level == Level.SEED:
            return ("retract",) if draw(4) == 0 else ("dispute", draw(game.claim.positions + 1))
        if game.level == Level.ELEMENT:
            number = draw(game.size)
            start, layout = (32 + 4 * number, "<i") if game.at_kept else (8 * number, ">q")
            value = int(struct.unpack_from(layout, shown[1], start)[0])
            return "element", number, value + (draw(8) == 0)  # now and then what was never published
        if game.level == Level.STEPS:
            return "choose_step", draw(len(places(game)) - 1)
        children = shown[2] if shown[0] in ("expand_layer", "expand_first") else shown[-1]
        if game.level != Level.OPERATORS:
            return choice(children, draw(len(children)))
        if game.target == TOKEN:
            return ("choose_last",) if draw(3) == 0 else self._result(game, children)
        if draw(5) == 0:
            return ("choose_kept",)
        return ("choose_token",) if game.layer == 0 and draw(4) == 0 else self._result(game, children)

    def _result(self, game: Game, children: Sequence[bytes]) -> Move:
        """Points at one of the results of a program."""
        number = self.random.randrange(len(children))
        if game.target == TOKEN:
            children = (*children, merkle.leaf_hash(merkle.leaf_hash(struct.pack(">q", game.value))))
        return choice(children, number)


@dataclass
class Withholder(HonestOperator):
    """An operator that is silent from its ``silent_after``-th move on: it withholds data, or
    stalls."""

    silent_after: int = 0
    moves: int = 0

    def move(self, game: Game) -> Move:
        self.moves += 1
        return () if self.moves > self.silent_after else super().move(game)


@dataclass
class Inconsistent(HonestOperator):
    """An operator whose levels do not fit: its trace is false, and below the trace it shows an
    honest run."""

    honest: Run | None = None

    def _execution(self, game: Game) -> Execution:
        assert self.honest is not None
        return self.honest.execution(game.target, game.position, game.layer)
