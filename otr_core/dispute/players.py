"""The honest strategies of a dispute, which are also its specification: what to do when.

A player sees what is public, the game and what its opponent showed last, and its own run of the
answer (``OwnRun``). The operator need not think: whatever is disputed, it shows what its own run
holds there. The challenger compares what was shown with its own run, and points at the first thing
that differs. Both runs are of the same tokens, so that the first difference is a fault of the
operator, or of nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from otr_core import merkle
from otr_core.dispute.judge import Opening
from otr_core.dispute.openings import Openings, OwnExecution, OwnRun
from otr_core.dispute.state import NOTHING, Game, Level
from otr_core.lane.element import LAYER, TOKEN
from otr_core.lane.step import right
from otr_core.poea.trace import SALT_BYTES

Move = tuple[Any, ...]
"""Name of a move and its arguments, as in ``game``; () is silence."""


@dataclass
class HonestOperator:
    """Answers every question from its own run; with a false run it defends what is false.

    Attributes:
        run: the run whose trace root the receipt holds.
    """

    run: OwnRun

    def move(self, game: Game) -> Move:
        """The operator's move, in the row of the table that ``game`` stands at."""
        if game.level == Level.LEAF:
            return "prove", tuple(self.openings(game))
        if game.level == Level.TRACE and game.target == TOKEN:
            tree = self._execution(game).operators
            return "expand_token", *self.run.token(game.leaf), tree.root, _top(game, tree)
        if game.level == Level.STEPS and game.node == NOTHING:
            tree = self._tree(game)
            return "expand_steps", tree.root, _top(game, tree)
        if game.height:
            return "bisect", self.children(game)
        # At a leaf: open what it commits to, down to the values themselves.
        if game.level == Level.TRACE:
            tree = self._execution(game).operators
            return "expand_layer", self.run.trace.leaves[game.leaf], tree.root, _top(game, tree)
        if game.level == Level.OPERATORS:
            tree = self._execution(game).tiles(game.operator)
            return "expand_operator", tree.root, () if tree.size == 1 else _top(game, tree)
        return "publish", self.published(game)

    def children(self, game: Game) -> tuple[bytes, ...]:
        """The nodes of the next round below the disputed one, as this run has them."""
        return self._tree(game).children(game.height, game.index, game.arity_bits)

    def published(self, game: Game) -> bytes:
        """The disputed tile, or piece with its salt, as this run has it."""
        if game.at_kept:
            return self.run.piece(game.position, game.layer, game.piece)[0]
        return self._execution(game).tile_data(game.operator, game.piece)

    def openings(self, game: Game) -> Sequence[Opening]:
        """What the disputed step reads: the step is done on a reader that records openings."""
        reader = Openings(self._execution(game), game.place, piece=self.run.piece, token=self.run.token)
        right(game.model.dims, game.claim, game.place, reader)
        return reader.made

    def _execution(self, game: Game) -> OwnExecution:
        return self.run.execution(game.target, game.position, game.layer)

    def _tree(self, game: Game) -> merkle.Tree:
        """The tree that the disputed node lies in, as this run has it."""
        if game.level == Level.TRACE:
            return self.run.states
        if game.level == Level.OPERATORS:
            return self._execution(game).operators
        if game.level == Level.STEPS:
            return self._execution(game).steps(game.operator, game.element)[0]
        if game.at_kept:
            return self.run.pieces(game.position, game.layer)
        return self._execution(game).tiles(game.operator)


@dataclass
class HonestChallenger:
    """Compares everything shown with its own run, and points at the first thing that differs.

    Attributes:
        run: an honest run of the tokens that the receipt claims.
    """

    run: OwnRun

    @cached_property
    def _as_operator(self) -> HonestOperator:
        return HonestOperator(self.run)

    def differs(self, trace_root: bytes) -> bool:
        """Whether a claimed trace is another than this run's, so that it pays to challenge."""
        return self.run.trace.root != trace_root

    def move(self, game: Game, shown: Move) -> Move:
        """The answer to the operator's last move ``shown``; it is the challenger's turn.

        Where nothing differs, right after the program was shown, what the trace holds must differ
        from the results. In any other row that happens only to a challenger without a case, which
        goes on with the first node or value.
        """
        if game.level == Level.ELEMENT:
            return self._element(game, shown[1], self._as_operator.published(game))
        children: Sequence[bytes] = shown[-1]
        own = self._as_operator.children(game)
        if game.level == Level.OPERATORS and game.height == merkle.height(game.size) and own == children:
            return ("choose_kept",)
        return choice(children, next((i for i, node in enumerate(children) if node != own[i]), 0))

    def _element(self, game: Game, data: bytes, own: bytes) -> Move:
        """Names the first value of a published tile that differs, or else a salt that does."""
        width, start = (4, SALT_BYTES) if game.at_kept else (8, 0)
        values = range(start, len(data), width)
        number = next((i for i, at in enumerate(values) if data[at : at + width] != own[at : at + width]), None)
        if number is None and game.at_kept and game.target == LAYER and data[:SALT_BYTES] != own[:SALT_BYTES]:
            return "accuse_salt", data, self.run.seed
        return "element", number or 0, data


def choice(children: Sequence[bytes], child: int) -> Move:
    """The move that points at shown node number ``child``."""
    return "choose", child, children[child], tuple(merkle.inclusion_proof_of_hashes(children, child))


def _top(game: Game, tree: merkle.Tree) -> tuple[bytes, ...]:
    """The nodes of the first round below a tree's root."""
    return tree.children(merkle.height(tree.size), 0, game.arity_bits)
