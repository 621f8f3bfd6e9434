"""The honest strategies of a dispute: what an operator and a fisherman do when it is their move.

A player sees what is public (the game, and what its opponent posted) and its own run of the answer (``OwnRun``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from otr_core import merkle
from otr_core.dispute.game import Game, Level
from otr_core.dispute.judge import Opening
from otr_core.dispute.openings import Openings, OwnExecution, OwnRun
from otr_core.lane.step import LAYER, TOKEN, right

Move = tuple[Any, ...]
"""Name of a move and its arguments; () is silence."""


@dataclass
class HonestOperator:
    """Answers every question from its own run, honest or not."""

    run: OwnRun

    def _execution(self, game: Game) -> OwnExecution:
        return self.run.execution(game.target, game.position, game.layer)

    def _tree(self, game: Game) -> merkle.Tree:
        """The tree that the disputed node lies in."""
        if game.level == Level.TRACE:
            return self.run.states
        done = self._execution(game)
        if game.level == Level.OPERATORS:
            return done.operators
        if game.level == Level.TILES:
            if game.operator == len(game.program):
                return self.run.pieces(game.position, game.layer)
            return done.tiles(game.operator)
        return done.steps(game.operator, game.element)[0]

    def children(self, game: Game) -> tuple[bytes, ...]:
        return self._tree(game).children(game.height, game.index, game.arity_bits)

    def _top(self, game: Game, tree: merkle.Tree) -> tuple[bytes, ...]:
        return tree.children(merkle.height(tree.size), 0, game.arity_bits)

    def move(self, game: Game) -> Move:
        if game.level == Level.CLAIM:
            claim = self.run.claim
            return "show_roots", claim.states_root, claim.tokens_root, claim.seed_hash
        if game.level == Level.LEAF:
            return "prove", tuple(self.openings(game))
        if game.level == Level.TRACE and game.target == TOKEN:
            tree = self._execution(game).operators
            return "expand_token", *self.run.token(game.leaf), tree.root, self._top(game, tree)
        if game.level == Level.STEPS and game.node == bytes(32):
            tree = self._tree(game)
            return "expand_steps", tree.root, self._top(game, tree)
        if game.height:
            return "bisect", self.children(game)
        if game.level == Level.TRACE:
            tree = self._execution(game).operators
            return "expand_layer", self.run.trace.leaves[game.leaf], tree.root, self._top(game, tree)
        if game.level == Level.OPERATORS:
            tree = self._execution(game).tiles(game.operator)
            return "expand_operator", tree.root, () if tree.size == 1 else self._top(game, tree)
        return "publish", self.published(game)

    def published(self, game: Game) -> bytes:
        if game.operator == len(game.program):
            return self.run.piece(game.position, game.layer, game.piece)[0]
        return self._execution(game).tile_data(game.operator, game.piece)

    def openings(self, game: Game) -> Sequence[Opening]:
        reader = Openings(self._execution(game), game.place, piece=self.run.piece, token=self.run.token)
        right(game.model.dims, game.claim, game.place, reader)
        return reader.made


@dataclass
class HonestChallenger:
    """Compares everything shown with its own honest run, and points at the first thing that differs."""

    run: OwnRun

    @cached_property
    def _as_operator(self) -> HonestOperator:
        return HonestOperator(self.run)

    def differs(self, trace_root: bytes) -> bool:
        """Whether a claimed trace is another than this run's."""
        return self.run.trace.root != trace_root

    def move(self, game: Game, shown: Move) -> Move:
        """Its answer to the operator's last move ``shown``."""
        mine = self._as_operator
        if game.level == Level.ELEMENT:
            return self._element(game, shown[1], mine.published(game))
        children: Sequence[bytes] = shown[-1]
        own = mine.children(game)
        if game.level == Level.OPERATORS and game.height == merkle.height(game.size) and own == children:
            return ("choose_kept",)
        child = next((i for i, (a, b) in enumerate(zip(own, children, strict=True)) if a != b), 0)
        return choice(children, child)

    def _element(self, game: Game, data: bytes, own: bytes) -> Move:
        kept = game.operator == len(game.program)
        width, start = (4, 32) if kept else (8, 0)
        values = range(start, len(data), width)
        number = next((i for i, at in enumerate(values) if data[at : at + width] != own[at : at + width]), None)
        if number is None and kept and game.target == LAYER and data[:32] != own[:32]:
            return "accuse_salt", data, self.run.seed
        return "element", number or 0, data


def choice(children: Sequence[bytes], child: int) -> Move:
    """Pointing at shown node number ``child``."""
    path = merkle.inclusion_proof_of_hashes(children, child)
    return "choose", child, children[child], tuple(path)
