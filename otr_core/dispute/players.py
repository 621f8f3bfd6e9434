"""The honest strategies of a dispute, which are also its specification: what to do when.

A player sees what is public, the game and what its opponent showed last, and its own run of the
answer (``OwnRun``). The operator need not think: whatever is disputed, it shows what its own run
holds there. The challenger compares what was shown with its own run, and points at the first thing
that differs.

A challenger runs the tokens of the response, if they give the roots that the receipt holds; else
the order, with the tokens that it chooses itself. ``case`` says what it disputes, if anything:

1. Without the seed no leaf can be rebuilt: it is demanded.
2. States that differ. The first that does was made from right ones, and from a token that the
   operator must show: so it is either this token that is wrong, or the layer.
3. Tokens that differ, or the last one, where the answer should have ended otherwise. All states are
   right, so that the choice of any token can be judged.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from otr_core import merkle
from otr_core.dispute.judge import Opening
from otr_core.dispute.moves_steps import accumulator_bytes, places
from otr_core.dispute.moves_trace import STOPPED
from otr_core.dispute.openings import Openings, OwnExecution, OwnRun
from otr_core.dispute.state import NOTHING, SEED, STATES, TOKENS, AnswerClaim, Game, Level
from otr_core.lane.element import LAYER, TOKEN
from otr_core.lane.step import right
from otr_core.poea.trace import SALT_BYTES
from otr_core.poea.trace import seed_hash as hash_of_seed

Move = tuple[Any, ...]
"""Name of a move and its arguments, as in ``game``; () is silence."""


def case(run: OwnRun, claim: AnswerClaim, stop_ids: Sequence[int], leaves: Sequence[bytes] = ()) -> int | None:
    """What a challenger with the own ``run`` disputes of a claimed answer, in the form of
    ``game.open_game``'s token; None: nothing.

    Args:
        run: see above; its prompt is the one ordered. stop_ids: of the model.
        leaves: hashes of all leaves of the states, as the operator has handed them over. They need
            no trust: if they do not give the root that the receipt holds, they are left aside.
    """
    if hash_of_seed(run.seed) != claim.seed_hash:
        return SEED
    states, last = _Known.of(run.states, claim.positions * run.trace.shape.layers), claim.positions
    if not states.whole or states.tree.root != claim.states_root:
        if len(leaves) != states.tree.size or merkle.Tree(leaves).root != claim.states_root:
            return 0
        return STATES + next(at for at, leaf in enumerate(leaves) if not states.holds(leaf, 0, at))
    if last + 1 < run.tokens.size:  # the answer ends before this run does
        return last
    for at in range(claim.prompt_tokens, last + 1):
        stops = int.from_bytes(run.token(at)[0][SALT_BYTES : SALT_BYTES + 4], "little") in stop_ids
        if at == run.wrong_token or stops != (at == last and claim.finish == STOPPED):
            return at
    return None if run.tokens.root == claim.tokens_root else TOKENS


@dataclass
class HonestOperator:
    """Answers every question from its own run; with a false run it defends what is false.

    Attributes:
        run: the run whose trace root the receipt holds.
    """

    run: OwnRun

    def move(self, game: Game) -> Move:
        """The operator's move, in the row of the table that ``game`` stands at."""
        if game.level == Level.SEED:
            return "reveal_seed", self.run.seed
        if game.level in (Level.STEPS, Level.LEAF):
            return self._account(game)
        if game.height:
            return "bisect", self.children(game)
        # At a leaf: open what it commits to, down to the values themselves.
        if game.level == Level.TRACE:
            return self._opened(game)
        if game.level == Level.OPERATORS and self._execution(game).tiles(game.operator).size > 1:
            return "expand_operator", _top(game, self._execution(game).tiles(game.operator))
        return "publish", self.published(game)

    def _opened(self, game: Game) -> Move:
        """A trace leaf, or a token, and what made it."""
        if game.target == LAYER:
            layer = self.run.trace.leaves[game.leaf], self.results(game)
            # So does a state that the states' tree was walked down to.
            known = () if game.node != NOTHING else tuple(self.run.states.path(game.leaf))
            if game.layer:
                return "expand_layer", *layer, known
            return "expand_first", *layer, *self.run.token(game.position), known
        # A leaf that the tokens' tree was walked down to needs no path.
        data, path = self.run.token(game.leaf)
        path = path if game.size == 1 else []
        if game.leaf < game.claim.prompt_tokens:
            return "show_given", data, path, self.run.prompt.path(game.leaf)
        return "expand_token", data, path, self.results(game)[:-1]

    def _account(self, game: Game) -> Move:
        """How the value came about that the challenger has named, unless nothing like it was
        published."""
        before = b""
        if game.interval < 0:
            if not game.is_choice and self.value(game) != game.value:
                return "misquoted", self.published(game)
        else:
            before = self.points(_before(game), game.value)
        if game.level == Level.STEPS:
            return "expand_steps", before, self.points(game, game.value)
        return "prove", before, tuple(self.openings(game))

    def results(self, game: Game) -> tuple[bytes, ...]:
        """The leaf hashes of all operators of the disputed program, as this run has them."""
        tree = self._execution(game).operators
        return tuple(tree.node(0, number) for number in range(tree.size))

    def children(self, game: Game) -> tuple[bytes, ...]:
        """The nodes of the next round below the disputed one, as this run has them."""
        return self.tree(game).children(game.height, game.index, game.arity_bits)

    def published(self, game: Game) -> bytes:
        """The disputed tile, or piece with its salt, as this run has it."""
        if game.at_kept:
            return self.run.piece(game.position, game.layer, game.piece)[0]
        return self._execution(game).tile_data(game.operator, game.piece)

    def points(self, game: Game, value: int) -> bytes:
        """The list of accumulators for the disputed interval, as this run has them, up to the
        finished ``value``."""
        entries = ((0, 0), *self._execution(game).accumulators(game.operator, game.element), (value, 0))
        return b"".join(accumulator_bytes(game, entries[place]) for place in places(game))

    def openings(self, game: Game) -> Sequence[Opening]:
        """What the disputed step reads: the step is done on a reader that records openings."""
        reader = Openings(self._execution(game), game.place, piece=self.run.piece, token=self.run.token)
        right(game.model.dims, game.claim, game.place, reader)
        return reader.made

    def value(self, game: Game) -> int:
        """The disputed value, as this run has it."""
        data = self.published(game)
        if game.at_kept:
            return int(struct.unpack_from("<i", data, SALT_BYTES + 4 * game.element)[0])
        return int(struct.unpack_from(">q", data, 8 * (game.element % game.model.dims.tile))[0])

    def _execution(self, game: Game) -> OwnExecution:
        return self.run.execution(game.target, game.position, game.layer)

    def tree(self, game: Game) -> merkle.Tree:
        """The tree that the disputed node lies in, as this run has it."""
        if game.level == Level.TRACE:
            return self.run.states if game.target == LAYER else self.run.tokens
        if game.at_kept:
            return self.run.pieces(game.position, game.layer)
        return self._execution(game).tiles(game.operator)


@dataclass
class HonestChallenger:
    """Compares everything shown with its own run, and points at the first thing that differs.

    What is disputed is always a node or a value that differs from this run's, so that something
    below it must differ too, unless it was shown under a new root:

    * A program all of whose results are right: what the trace holds of them is not, or the token.
    * Right accumulators to the end: what was published is not what they finish at.

    Where nothing is amiss, a challenger without a case is silent: a move more would only cost gas.

    Attributes:
        run: an honest run of the order, or of the tokens that the receipt claims (``case``).
        leaves: as in ``case``.
    """

    run: OwnRun
    leaves: Sequence[bytes] = ()

    @cached_property
    def _as_operator(self) -> HonestOperator:
        return HonestOperator(self.run)

    def move(self, game: Game, shown: Move) -> Move:
        """The answer to the operator's last move ``shown``; it is the challenger's turn."""
        if game.level == Level.SEED:
            return self._with_seed(game, shown[1])
        if game.level == Level.ELEMENT:
            return self._element(game, shown[1])
        if game.level == Level.STEPS:
            own = self._as_operator.points(game, self._as_operator.value(game))
            width = len(own) // len(places(game))
            # Both sides agree on the first entry, or it stands for what is known.
            first = _first_other(shown[2][width:], own[width:], width)
            return () if first is None else ("choose_step", first)
        if game.level == Level.OPERATORS:
            return self._program(game, shown)
        known, children = _Known.of(self._as_operator.tree(game), game.size), shown[-1]
        below, first, _ = merkle.span(game.size, game.height, game.index, game.arity_bits)
        other = (number for number, node in enumerate(children) if not known.holds(node, below, first + number))
        number = next(other, None)
        return () if number is None else choice(children, number)

    def _with_seed(self, game: Game, seed: bytes) -> Move:
        """With the seed that was revealed, the leaves can be rebuilt and compared."""
        self.run = self.run.with_seed(seed)
        self.__dict__.pop("_as_operator", None)
        found = case(self.run, game.claim, game.model.stop_ids, self.leaves)
        return ("retract",) if found is None else ("dispute", found)

    def _program(self, game: Game, shown: Move) -> Move:
        """What is wrong of a program whose results were all shown."""
        if game.target == TOKEN:
            data, children = shown[1], shown[3]
            own_data = self.run.token(game.leaf)[0] if game.leaf < len(self.run.trace.tokens) else None
            if own_data is not None and data[:SALT_BYTES] != own_data[:SALT_BYTES]:
                return "accuse_salt", data, self.run.seed
        else:
            children = shown[2]
            if game.layer == 0 and shown[3] != self.run.token(game.position)[0]:
                return ("choose_token",)
            if game.position >= self.run.trace.shape.positions:
                return ("choose_token",)
        own = self._as_operator.results(game)
        first = next((number for number, node in enumerate(children) if node != own[number]), None)
        if game.target == TOKEN:
            # The court makes the leaf of the choice from the id.
            chosen = merkle.leaf_hash(merkle.leaf_hash(struct.pack(">q", game.value)))
            if first is None:
                return () if chosen == own[-1] else ("choose_last",)
            children = (*children, chosen)
        return ("choose_kept",) if first is None else choice(children, first)

    def _element(self, game: Game, data: bytes) -> Move:
        """Names the first value of a published tile that differs, or else a salt that does."""
        own, start = self._as_operator.published(game), SALT_BYTES if game.at_kept else 0
        number = _first_other(data[start:], own[start:], 4 if game.at_kept else 8)
        if number is not None:
            layout, at = ("<i", start + 4 * number) if game.at_kept else (">q", 8 * number)
            return "element", number, int(struct.unpack_from(layout, data, at)[0])
        return ("accuse_salt", data, self.run.seed) if data != own else ()


@dataclass(frozen=True)
class _Known:
    """What an own run knows of a tree of another run, which may have gone on for longer or less.

    Attributes:
        tree: of the other's size. leaves: how many of its leaves are known, the first ones.
    """

    tree: merkle.Tree
    leaves: int

    @classmethod
    def of(cls, own: merkle.Tree, size: int) -> _Known:
        """The first leaves of the own tree, as many as the other has."""
        known = min(own.size, size)
        if own.size == size:
            return cls(own, known)
        leaves = [own.node(0, number) for number in range(known)]
        return cls(merkle.Tree([*leaves, *[NOTHING] * (size - known)]), known)

    @property
    def whole(self) -> bool:
        return self.leaves == self.tree.size

    def holds(self, node: bytes, level: int, index: int) -> bool:
        """Whether ``node`` is known to be right."""
        end = min((index + 1) << level, self.tree.size)
        return end <= self.leaves and self.tree.node(level, index) == node


def choice(children: Sequence[bytes], child: int) -> Move:
    """The move that points at shown node number ``child``."""
    return "choose", child, children[child], tuple(merkle.inclusion_proof_of_hashes(children, child))


def _first_other(shown: bytes, own: bytes, width: int) -> int | None:
    """Number of the first entry of ``width`` bytes that differs."""
    entries = range(0, len(shown), width)
    return next((i for i, at in enumerate(entries) if shown[at : at + width] != own[at : at + width]), None)


def _before(game: Game) -> Game:
    """The game as it stood when the list was shown in which the disputed interval was named."""
    at = replace(game, index=0, size=game.program[game.operator].steps + 1)
    while True:
        ends = places(at)
        number = next(i for i, end in enumerate(ends[1:]) if game.index < end)
        below = replace(at, index=ends[number], size=ends[number + 1] - ends[number])
        if (below.index, below.size) == (game.index, game.size):
            return at
        at = below


def _top(game: Game, tree: merkle.Tree) -> tuple[bytes, ...]:
    """The nodes of the first round below a tree's root."""
    return tree.children(merkle.height(tree.size), 0, game.arity_bits)
