"""Players that do not play honestly: griefers, withholders, operators whose levels do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from otr_core import merkle
from otr_core.dispute.players import HonestOperator, Move, choice
from otr_core.dispute.state import Game, Level
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
        if game.level == Level.ELEMENT:
            width = 4 if game.operator == len(game.program) else 8
            return "element", self.random.randrange(len(shown[1]) // width - (8 if width == 4 else 0)), shown[1]
        children = shown[-1]
        if game.level == Level.OPERATORS and game.height == merkle.height(game.size) and self.random.random() < 0.2:
            return ("choose_kept",)
        return choice(children, self.random.randrange(len(children)))


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
