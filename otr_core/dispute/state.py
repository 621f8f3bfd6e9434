"""Where a dispute stands: its level, whose turn it is, and everything that was shown so far.

``game`` makes the moves, each of which turns one ``Game`` into the next.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, Place, TraceClaim, program
from otr_core.lane.program import Operator

NOTHING = bytes(32)
"""A hash that is not known yet."""
MOST_ARITY_BITS = 6
"""At most 2^6 = 64 nodes are shown in a round: more would not fit a transaction of the contract."""
MOST_STOP_IDS = 16
"""Token ids that end an answer of one model, at most."""
MOST_INTERVALS = 256
"""At most so many intervals between shown accumulators."""
TOKENS, SEED = 2**32 - 1, 2**32 - 2
"""In the place of a token's number: the tree of all tokens is disputed, or the seed is demanded."""
STATES = 2**32
"""In the place of a token's number, with the number of a leaf added: that leaf of the states."""


class Level(IntEnum):
    """How far down the dispute is; the rows of the table in ``game``."""

    TRACE = 0
    OPERATORS = 1
    TILES = 2
    ELEMENT = 3
    STEPS = 4
    LEAF = 5
    SEED = 6


TREES = (Level.TRACE, Level.OPERATORS, Level.TILES)
"""Levels at which nodes of a tree are pointed at."""


class Turn(IntEnum):
    """Whose move it is."""

    OPERATOR = 0
    CHALLENGER = 1


class Verdict(IntEnum):
    """Who is wrong; ``NONE`` while the game goes on, ``WITHDRAWN`` where nobody was shown to be."""

    NONE = 0
    OPERATOR_LOSES = 1
    CHALLENGER_LOSES = 2
    WITHDRAWN = 3


@dataclass(frozen=True)
class RegisteredModel:
    """What the court knows of a model: dimensions, Merkle roots of all weights and tables, and the
    token ids that end an answer."""

    dims: Dims
    weights_root: bytes
    tables_root: bytes
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class AnswerClaim(TraceClaim):
    """What order and receipt say of an answer, as far as a dispute can come to it.

    Attributes:
        prompt_root, prompt_tokens: of the order: the tree of the prompt's leaves, and how many.
        finish: how the receipt says that the answer ended, as ``Receipt.finish_number``.
    """

    prompt_root: bytes
    prompt_tokens: int
    finish: int


@dataclass(frozen=True)
class Game:
    """Where one dispute stands. Hashes are 32 bytes; numbers count from 0.

    What the dispute is about, fixed when it is opened:

    Attributes:
        claim: what the receipt says of the answer, and what the order says of prompt and draws.
        model: the registered model that was ordered. Its dimensions fix the program.
        arity_bits: d = log2 k: a round goes d levels down a tree, and so shows at most k nodes.
        target: ``LAYER``, what a layer left behind at a position, or ``TOKEN``, a token.
        leaf: for a layer the trace leaf, position · layers + layer; for a token its number, counted
            from the first of the prompt; 0 until it is chosen.

    The row of the table, and the disputed node in the tree of that row:

        level, turn: the row, and who is to move.
        node: the node's hash; after ``publish`` that of the tile's leaf, after ``expand_steps`` that
            of the list. ``NOTHING`` for a token or a state that was pointed at from the start.
        height, index, size: the node's height above the leaves, its number within that height,
            leaves of the tree. At the level of an element: in how many steps each value is made,
            and values of the tile. At the level of steps the disputed interval: its first step is
            ``index``, and it has ``size`` of them, the finish counted as one.

    What the operator committed to on the way down; the judge opens values under it:

        operators_root: over the results of every operator of the disputed program.
        kept: content of the disputed trace leaf: the root over the pieces that the trace holds; for
            a token the hash of its leaf.

    What has been singled out so far, as in ``Place``:

        operator: number in the program; its length, one past the end, where the dispute is about
            ``kept``.
        piece: number of the tile in the operator's result, or of the piece in ``kept``.
        element: number of the value in the operator's result (of ``kept``: in its piece); of the
            first in the tile before one was named.
        step: number of the accumulation step. interval: number of the disputed interval in the list
            of accumulators shown last; −1 while none was shown.
        value: what the operator published for the element, as the challenger quotes it; for a token
            its id.
        verdict: who is wrong, once the game is over.
    """

    claim: AnswerClaim
    model: RegisteredModel
    arity_bits: int
    target: int
    leaf: int
    level: Level = Level.TRACE
    turn: Turn = Turn.OPERATOR
    node: bytes = NOTHING
    height: int = 0
    index: int = 0
    size: int = 1
    operators_root: bytes = NOTHING
    kept: bytes = NOTHING
    operator: int = 0
    piece: int = 0
    element: int = 0
    step: int = 0
    interval: int = -1
    value: int = 0
    verdict: Verdict = Verdict.NONE

    @property
    def position(self) -> int:
        """The position that was fed: of the layer, or the one after which the token was chosen."""
        return self.leaf // self.model.dims.layers if self.target == LAYER else self.leaf - 1

    @property
    def layer(self) -> int:
        """The disputed layer; a token is chosen from what the last layer gives."""
        layers = self.model.dims.layers
        return self.leaf % layers if self.target == LAYER else layers - 1

    @property
    def token_step(self) -> int:
        """Of a chosen token, its number in the answer, which its random draw depends on; else 0."""
        return 0 if self.target == LAYER else max(self.leaf - self.claim.prompt_tokens, 0)

    @property
    def program(self) -> tuple[Operator, ...]:
        """The operators that compute what is disputed."""
        return program(self.model.dims, self.target, self.position, self.claim.temperature_milli)

    @property
    def at_kept(self) -> bool:
        """Whether the dispute is about what the trace holds, and not about an operator's result."""
        return self.target == LAYER and self.operator == len(self.program)

    @property
    def is_choice(self) -> bool:
        """Whether the dispute is about the choice of a token, whose result is the token's id."""
        return self.target != LAYER and self.operator == len(self.program) - 1

    @property
    def place(self) -> Place:
        """The one step that is left to judge; the game has a field of the same name for each
        part."""
        return Place(**{field.name: getattr(self, field.name) for field in fields(Place)})
