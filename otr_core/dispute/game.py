"""One dispute as a table of moves over a frozen state: who may make which move when, and what it changes.

The operator has committed to a trace; the challenger says that one step in it is wrong. By turns the operator shows
what lies under the disputed node and the challenger points at the first thing that differs from its own run, until one
arithmetic step is left, which the operator has to prove. Whoever is not in time loses as if wrong.

    level       node under dispute          operator's move     challenger's move
    CLAIM       the receipt's trace root    show_roots
    TRACE       trace tree                  bisect              choose
                a leaf of it                expand_layer        choose, choose_kept
                a token                     expand_token        choose, choose_kept
    OPERATORS   operators of the program    bisect              choose
                one of them                 expand_operator     choose
    TILES       its tiles                   bisect              choose
                one of them                 publish             element, accuse_salt
    STEPS       the element's steps         expand_steps        choose
                                            bisect              choose
    LEAF        one step                    prove               none: a verdict

Every function here returns a new ``Game`` or raises ``MoveError`` and changes nothing. ``court`` adds clocks, money and
the other games; ``court.vy`` is the same table on chain.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from hashlib import sha256

from otr_core import merkle
from otr_core.dispute import judge
from otr_core.dispute.judge import Opening
from otr_core.errors import MoveError, ProofError
from otr_core.lane import program as pr
from otr_core.lane.program import Dims, Operator
from otr_core.lane.step import LAYER, TOKEN, Place, TraceClaim, program
from otr_core.poea.receipt import Receipt
from otr_core.poea.trace import GIVEN, SALT_BYTES, salts
from otr_core.poea.trace import seed_hash as hash_of_seed

NOTHING = bytes(32)
MOST_ARITY_BITS = 6


class Level(IntEnum):
    """How far down the dispute is."""

    CLAIM = 0
    TRACE = 1
    OPERATORS = 2
    TILES = 3
    ELEMENT = 4  # a tile is published, and the challenger is to name an element
    STEPS = 5
    LEAF = 6


class Turn(IntEnum):
    """Whose move it is."""

    OPERATOR = 0
    CHALLENGER = 1


class Verdict(IntEnum):
    """Who is wrong."""

    NONE = 0
    OPERATOR_LOSES = 1
    CHALLENGER_LOSES = 2


@dataclass(frozen=True)
class RegisteredModel:
    """What the court knows of a registered model: dimensions and the roots of its weights and tables."""

    dims: Dims
    weights_root: bytes
    tables_root: bytes


@dataclass(frozen=True)
class Game:
    """Where one dispute stands.

    Attributes:
        trace_root: as in the receipt; claim: what it consists of, once the operator has shown it.
        arity_bits: d = log2 k; up to k nodes are shown a round.
        target: ``judge.LAYER`` or ``judge.TOKEN``. leaf: number of the disputed trace leaf or token.
        node, height, index, size: the disputed node in the tree of the level: its hash, levels above the leaves, number
            in its level, and leaves of the tree.
        operators_root, kept, steps_root: committed on the way; ``kept`` is the content of the disputed trace leaf.
        operator, piece, element, step, value, token_step: as in ``judge.Place``.
    """

    trace_root: bytes
    claim: TraceClaim
    model: RegisteredModel
    arity_bits: int
    target: int
    leaf: int
    level: Level
    turn: Turn
    node: bytes
    height: int
    index: int
    size: int
    operators_root: bytes = NOTHING
    kept: bytes = NOTHING
    steps_root: bytes = NOTHING
    operator: int = 0
    piece: int = 0
    element: int = 0
    step: int = 0
    value: int = 0
    token_step: int = 0
    verdict: Verdict = Verdict.NONE

    @property
    def position(self) -> int:
        return self.leaf // self.model.dims.layers if self.target == LAYER else self.leaf - 1

    @property
    def layer(self) -> int:
        return self.leaf % self.model.dims.layers if self.target == LAYER else self.model.dims.layers - 1

    @property
    def program(self) -> tuple[Operator, ...]:
        return program(self.model.dims, self.target, self.position, self.claim.temperature_milli)

    @property
    def place(self) -> Place:
        """The step under dispute, once it is down to one."""
        return Place(
            self.target, self.position, self.layer, self.operator, self.element, self.step, self.value, self.piece,
            self.token_step,
        )  # fmt: skip


def start(receipt: Receipt, model: RegisteredModel, arity_bits: int, token: int) -> Game:
    """A dispute about the trace of a receipt (``token`` 0), or about the choice of token number ``token``.

    Raises:
        MoveError: no such token, or an arity that is not 2 to 64.
    """
    if not 1 <= arity_bits <= MOST_ARITY_BITS:
        raise MoveError("arity", arity_bits, f"1 to {MOST_ARITY_BITS} bits")
    positions = receipt.trace.positions
    if not 0 <= token <= positions:
        raise MoveError("token", token, f"0 to {positions}")
    decoding = receipt.decoding
    claim = TraceClaim(NOTHING, NOTHING, NOTHING, positions, decoding.seed, decoding.temperature_milli)
    return Game(
        receipt.trace_root, claim, model, arity_bits, TOKEN if token else LAYER, token, Level.CLAIM, Turn.OPERATOR,
        NOTHING, 0, 0, 1,
    )  # fmt: skip


def show_roots(game: Game, states_root: bytes, tokens_root: bytes, seed_hash: bytes) -> Game:
    """The operator shows the three hashes under the receipt's trace root."""
    _expect(game, Turn.OPERATOR, Level.CLAIM)
    claim = replace(game.claim, states_root=states_root, tokens_root=tokens_root, seed_hash=seed_hash)
    if any(len(each) != 32 for each in (states_root, tokens_root, seed_hash)) or claim.trace_root != game.trace_root:
        raise MoveError("roots", claim.trace_root.hex(), game.trace_root.hex())
    game = replace(game, claim=claim, level=Level.TRACE)
    if game.target == TOKEN:
        return game
    size = claim.positions * game.model.dims.layers
    return replace(game, node=states_root, size=size, height=merkle.height(size))


def bisect(game: Game, children: Sequence[bytes]) -> Game:
    """The operator shows the nodes below the disputed one."""
    _expect(game, Turn.OPERATOR, Level.TRACE, Level.OPERATORS, Level.TILES, Level.STEPS)
    if game.height == 0 or game.node == NOTHING:
        raise MoveError("level", "a leaf", "a node above the leaves")
    _shown(game, children)
    return replace(game, turn=Turn.CHALLENGER)


def choose(game: Game, child: int, node: bytes, path: Sequence[bytes]) -> Game:
    """The challenger points at a shown node (number ``child`` of those shown), proving that it was shown."""
    _expect(game, Turn.CHALLENGER, Level.TRACE, Level.OPERATORS, Level.TILES, Level.STEPS)
    below, first, count = merkle.span(game.size, game.height, game.index, game.arity_bits)
    if not 0 <= child < count:
        raise MoveError("child", child, f"below {count}")
    try:
        merkle.verify_inclusion(game.node, node, child, count, path)
    except ProofError as error:
        raise MoveError("path", error, "to a node that was shown") from error
    index = first + child
    game = replace(game, turn=Turn.OPERATOR, node=node, height=below, index=index)
    if below:
        return game
    if game.level == Level.TRACE:
        return replace(game, leaf=index)
    if game.level == Level.OPERATORS:
        return replace(game, operator=index)
    if game.level == Level.TILES:
        return replace(game, piece=index)
    return replace(game, level=Level.LEAF, step=index)


def choose_kept(game: Game) -> Game:
    """The challenger agrees with every operator, but not with what the trace holds of their results."""
    _expect(game, Turn.CHALLENGER, Level.OPERATORS)
    if game.height != merkle.height(game.size):
        raise MoveError("level", "below the program's root", "right after its expansion")
    kept = replace(game, turn=Turn.OPERATOR, operator=len(game.program), index=0)
    if game.target == TOKEN:
        return replace(kept, level=Level.LEAF)
    pieces = game.model.dims.pieces
    return replace(kept, level=Level.TILES, node=game.kept, size=pieces, height=merkle.height(pieces))


def expand_layer(game: Game, content: bytes, operators_root: bytes, children: Sequence[bytes]) -> Game:
    """The operator opens the disputed trace leaf and commits to the operators of its layer."""
    _expect(game, Turn.OPERATOR, Level.TRACE)
    if game.height or game.target != LAYER:
        raise MoveError("level", "not at a trace leaf", "a trace leaf")
    if len(content) != 32 or merkle.leaf_hash(content) != game.node:
        raise MoveError("content", content.hex(), "what the leaf commits to")
    return _program_shown(replace(game, kept=content), operators_root, children)


def expand_token(
    game: Game, data: bytes, path: Sequence[bytes], operators_root: bytes, children: Sequence[bytes]
) -> Game:
    """The operator opens the disputed token and commits to the operators that chose it. A token that was given in the
    prompt was not chosen: the challenger loses."""
    _expect(game, Turn.OPERATOR, Level.TRACE)
    if game.target != TOKEN:
        raise MoveError("level", "not at a token", "a token")
    if len(data) != SALT_BYTES + 8:
        raise MoveError("content", f"{len(data)} bytes", SALT_BYTES + 8)
    try:
        merkle.verify_inclusion(
            game.claim.tokens_root, merkle.leaf_hash(data), game.leaf, game.claim.positions + 1, path
        )
    except ProofError as error:
        raise MoveError("path", error, "to the tokens' root") from error
    token, step = struct.unpack("<II", data[SALT_BYTES:])
    if step == GIVEN:
        return replace(game, verdict=Verdict.CHALLENGER_LOSES)
    return _program_shown(replace(game, value=token, token_step=step), operators_root, children)


def expand_operator(game: Game, content: bytes, children: Sequence[bytes]) -> Game:
    """The operator shows the tiles of the disputed operator; of a single tile there is nothing to choose."""
    _expect(game, Turn.OPERATOR, Level.OPERATORS)
    if game.height:
        raise MoveError("level", "above the operators", "one operator")
    if len(content) != 32 or merkle.leaf_hash(content) != game.node:
        raise MoveError("content", content.hex(), "what the operator's leaf commits to")
    tiles = game.model.dims.tiles(game.program[game.operator].length)
    game = replace(game, level=Level.TILES, node=content, index=0, size=tiles, height=merkle.height(tiles), piece=0)
    if tiles == 1:
        if children:
            raise MoveError("children", len(children), 0)
        return game
    _shown(game, children)
    return replace(game, turn=Turn.CHALLENGER)


def publish(game: Game, data: bytes) -> Game:
    """The operator publishes the disputed tile (of what the trace holds: the piece, with its salt)."""
    _expect(game, Turn.OPERATOR, Level.TILES)
    if game.height:
        raise MoveError("level", "above the tiles", "one tile")
    _tile(game, data)
    return replace(game, level=Level.ELEMENT, turn=Turn.CHALLENGER)


def element(game: Game, number: int, data: bytes) -> Game:
    """The challenger names a value of the published tile (0-based within it)."""
    _expect(game, Turn.CHALLENGER, Level.ELEMENT)
    values = _tile(game, data)
    if not 0 <= number < len(values):
        raise MoveError("element", number, f"below {len(values)}")
    game = replace(game, turn=Turn.OPERATOR, value=values[number], step=0)
    if game.operator == len(game.program):
        return replace(game, level=Level.LEAF, element=number)
    game = replace(game, element=game.piece * game.model.dims.tile + number)
    steps = game.program[game.operator].steps
    if steps == 1:
        return replace(game, level=Level.LEAF)
    size = steps + 1
    return replace(game, level=Level.STEPS, node=NOTHING, index=0, size=size, height=merkle.height(size))


def accuse_salt(game: Game, data: bytes, seed: bytes) -> Game:
    """The challenger reveals the trace's seed to show that the published piece has a salt that is not from it."""
    _expect(game, Turn.CHALLENGER, Level.ELEMENT)
    if game.target != LAYER or game.operator != len(game.program):
        raise MoveError("level", "a tile of an operator", "a piece of the trace")
    _tile(game, data)
    if len(seed) != 32 or hash_of_seed(seed) != game.claim.seed_hash:
        raise MoveError("seed", "another seed", "the committed one")
    if salts(seed, game.position, game.layer, game.piece + 1)[-1] == data[:SALT_BYTES]:
        raise MoveError("salt", "the right salt", "a wrong one")
    return replace(game, verdict=Verdict.OPERATOR_LOSES)


def expand_steps(game: Game, root: bytes, children: Sequence[bytes]) -> Game:
    """The operator commits to the accumulator after every step of the disputed element."""
    _expect(game, Turn.OPERATOR, Level.STEPS)
    if game.node != NOTHING:
        raise MoveError("level", "steps already committed", "not yet")
    game = replace(game, node=root, steps_root=root)
    _shown(game, children)
    return replace(game, turn=Turn.CHALLENGER)


def prove(game: Game, openings: Sequence[Opening]) -> Game:
    """The operator opens what the disputed step reads, and the step is judged."""
    _expect(game, Turn.OPERATOR, Level.LEAF)
    good = judge.verdict(
        game.model.dims, game.claim, game.place, openings, weights_root=game.model.weights_root,
        tables_root=game.model.tables_root, operators_root=game.operators_root, steps_root=game.steps_root,
    )  # fmt: skip
    return replace(game, verdict=Verdict.CHALLENGER_LOSES if good else Verdict.OPERATOR_LOSES)


def statement(game_id: int, trace_root: bytes, verdict: Verdict) -> bytes:
    """What an arbiter signs, or a proof shows, to end a game at any point: this game's verdict on this trace."""
    return sha256(b"otr/1/arbitration" + game_id.to_bytes(32, "big") + trace_root + bytes([verdict])).digest()


def _expect(game: Game, turn: Turn, *levels: Level) -> None:
    if game.verdict != Verdict.NONE:
        raise MoveError("over", game.verdict.name, "a game that goes on")
    if game.turn != turn:
        raise MoveError("turn", game.turn.name, turn.name)
    if game.level not in levels:
        raise MoveError("level", game.level.name, " or ".join(level.name for level in levels))


def _shown(game: Game, children: Sequence[bytes]) -> None:
    _, _, count = merkle.span(game.size, game.height, game.index, game.arity_bits)
    if len(children) != count or any(len(child) != 32 for child in children):
        raise MoveError("children", len(children), count)
    found = merkle.root_of_hashes(children)
    if found != game.node:
        raise MoveError("children", found.hex(), game.node.hex())


def _program_shown(game: Game, operators_root: bytes, children: Sequence[bytes]) -> Game:
    size = len(game.program)
    game = replace(
        game, level=Level.OPERATORS, node=operators_root, operators_root=operators_root, index=0, size=size,
        height=merkle.height(size),
    )  # fmt: skip
    _shown(game, children)
    return replace(game, turn=Turn.CHALLENGER)


def _tile(game: Game, data: bytes) -> tuple[int, ...]:
    """The values of a published tile, after checking that it is the disputed one."""
    d = game.model.dims
    kept = game.operator == len(game.program)
    if kept:
        row, first = d.piece_place(game.piece)
        count = min(pr.PIECE_VALUES, d.row_values(row) - first)
        length = SALT_BYTES + 4 * count
    else:
        count = min(d.tile, game.program[game.operator].length - game.piece * d.tile)
        length = 8 * count
    if len(data) != length:
        raise MoveError("tile length", len(data), length)
    if merkle.leaf_hash(data) != game.node:
        raise MoveError("tile", "other data", "what the tile's leaf commits to")
    return struct.unpack(f"<{count}i", data[SALT_BYTES:]) if kept else struct.unpack(f">{count}q", data)
