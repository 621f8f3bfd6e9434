"""One dispute as a table of moves over a frozen state: who may do what when, and why.

The operator has signed a receipt whose roots commit to what every layer left behind at every
position of an answer, and to its tokens. A challenger says that something under a root is wrong.
Nobody runs the answer again to decide this; the two narrow it down. In turns the operator *shows* the nodes below
the disputed node of a Merkle tree, and the challenger *chooses* the first of them that differs from
its own run. At a leaf the operator opens what the leaf commits to and commits to the next, finer
tree. In the end one arithmetic step is left. The operator proves it with the few values that it
reads, and ``judge`` decides.

An operator that is right can always show nodes that hash to the disputed one, and its step passes.
Under a wrong node it has to show at least one wrong node again, whichever way it turns. The
challenger points at the first: all that comes before agrees with its own run. So the last step
reads right values and gives a wrong one, and fails. The clocks of ``court`` see to it that a side
without an answer loses.

    level       what is disputed                    operator's move     challenger's answer
    TRACE       a node of the tree of states        bisect              choose
                its leaf: a layer at a position     expand_layer        choose, or choose_kept
                the choice of one token             expand_token        choose, or choose_kept
    OPERATORS   a node of the program's tree        bisect              choose
                its leaf: one operator              expand_operator     choose (not from one tile)
    TILES       a node of the operator's tiles      bisect              choose
                its leaf: one tile                  publish             (turns to ELEMENT)
    ELEMENT     one value of a published tile       (none)              element, or accuse_salt
    STEPS       how that value was accumulated      expand_steps        choose
                a node of the tree of steps         bisect              choose
    LEAF        one arithmetic step                 prove               (the step decides)

A move is a function here. It returns a new ``Game``, or raises ``MoveError`` and changes nothing;
``reason`` names the rule that was broken. Every move is first checked against its row of the table
(``over``, ``turn``, ``level``), then against what was committed. ``court`` adds clocks, money and
the other games; ``court.vy`` is the same table on chain, with the same reasons.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Concatenate, NamedTuple, ParamSpec

from otr_core import merkle
from otr_core.dispute import judge
from otr_core.dispute.judge import Opening
from otr_core.dispute.state import MOST_ARITY_BITS, NOTHING, TREES, Game, Level, RegisteredModel, Turn, Verdict
from otr_core.errors import MoveError, ProofError
from otr_core.lane import program as pr
from otr_core.lane.element import LAYER, TOKEN, TraceClaim
from otr_core.poea.order import Order
from otr_core.poea.receipt import Receipt
from otr_core.poea.trace import GIVEN, SALT_BYTES, salts
from otr_core.poea.trace import seed_hash as hash_of_seed


def require(good: bool, reason: str, found: object, expected: object) -> None:
    """Refuse a move or a call that breaks a rule, as ``assert … , reason`` does in the contracts.

    Raises:
        MoveError: not ``good``; ``reason`` names the rule.
    """
    if not good:
        raise MoveError(reason, found, expected)


def require_leaf(root: bytes, leaf: bytes, index: int, size: int, path: Sequence[bytes], what: str) -> None:
    """Refuse a leaf that ``path`` does not show to be number ``index`` of ``size`` under ``root``.

    Raises:
        MoveError: reason ``path``; ``what`` says in words what was expected.
    """
    try:
        merkle.verify_inclusion(root, leaf, index, size, path)
    except ProofError as error:
        raise MoveError("path", error, what) from error


Args = ParamSpec("Args")
"""What a move brings, besides the game."""
Function = Callable[Concatenate[Game, Args], Game]


class MoveRule(NamedTuple):
    """A move in the table: whose it is, and the function that makes it."""

    turn: Turn
    make: Callable[..., Game]


MOVES: dict[str, MoveRule] = {}
"""All moves by name."""


def move_of(turn: Turn, *levels: Level) -> Callable[[Function[Args]], Function[Args]]:
    """Enter a function into ``MOVES`` as a move of ``turn`` at ``levels``, refused at other times.

    Raises (the function):
        MoveError: ``over``, ``turn`` or ``level``, in this order, before anything that the move
            brings is looked at.
    """

    def enter(make: Function[Args]) -> Function[Args]:
        @functools.wraps(make)
        def checked(game: Game, *args: Args.args, **named: Args.kwargs) -> Game:
            require(game.verdict == Verdict.NONE, "over", game.verdict.name, "a game that goes on")
            require(game.turn == turn, "turn", game.turn.name, turn.name)
            allowed = " or ".join(level.name for level in levels)
            require(game.level in levels, "level", game.level.name, allowed)
            return make(game, *args, **named)

        MOVES[make.__name__] = MoveRule(turn, checked)
        return checked  # type: ignore[return-value]  # same arguments: ``wraps`` loses the name of the first

    return enter


def open_game(order: Order, receipt: Receipt, model: RegisteredModel, arity_bits: int, token: int) -> Game:
    """A dispute about the states under a receipt's root, or about the choice of a token.

    It begins at the root of the tree of states, or with the token; the operator moves first.

    Args:
        token: number of the disputed token, counted from the first of the prompt. That one is
            never chosen, so that 0 is free to mean the states.

    Raises:
        MoveError: ``arity``: not 2 to 64 nodes a round. ``token``: the answer has no such token.
    """
    require(1 <= arity_bits <= MOST_ARITY_BITS, "arity", arity_bits, f"1 to {MOST_ARITY_BITS} bits")
    require(0 <= token <= receipt.positions, "token", token, f"0 to {receipt.positions}")
    roots, how = (receipt.states_root, receipt.tokens_root, receipt.seed_hash), order.decoding
    claim = TraceClaim(*roots, receipt.positions, receipt.order_id, how.seed, how.temperature_milli)
    if token:
        return Game(claim, model, arity_bits, TOKEN, token)
    return _at_root(Game(claim, model, arity_bits, LAYER, 0), claim.states_root, receipt.positions * model.dims.layers)


@move_of(Turn.OPERATOR, *TREES)
def bisect(game: Game, children: Sequence[bytes]) -> Game:
    """Show the nodes d levels below the disputed one (or the leaves, if they are nearer).

    Raises:
        MoveError: ``level``: the node is a leaf, or no tree was committed to. ``children``: they
            are not below it.
    """
    require(game.height > 0 and game.node != NOTHING, "level", "a leaf", "a node above the leaves")
    return _shown(game, children)


@move_of(Turn.CHALLENGER, *TREES)
def choose(game: Game, child: int, node: bytes, path: Sequence[bytes]) -> Game:
    """Point at number ``child`` of the nodes just shown, the first that differs from one's own run.

    The state does not hold what was shown, only its root. The path proves that ``node`` was shown.

    Raises:
        MoveError: ``child``: there is no such node. ``path``: it was not shown.
    """
    below, first, count = merkle.span(game.size, game.height, game.index, game.arity_bits)
    require(0 <= child < count, "child", child, f"below {count}")
    require_leaf(game.node, node, child, count, path, "to a node that was shown")
    index = first + child
    game = replace(game, turn=Turn.OPERATOR, node=node, height=below, index=index)
    if below:
        return game
    # A leaf: its number says what is singled out on this level.
    if game.level == Level.TRACE:
        return replace(game, leaf=index)
    if game.level == Level.OPERATORS:
        return replace(game, operator=index)
    if game.level == Level.TILES:
        return replace(game, piece=index)
    return replace(game, level=Level.LEAF, step=index)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_kept(game: Game) -> Game:
    """Agree with the results of all operators, but not with what the trace holds of them.

    Of a layer the trace holds pieces, and the dispute goes on among these. Of a token it holds the
    id, a single step.

    Raises:
        MoveError: ``level``: the challenger has already pointed at operators that it disagrees
            with.
    """
    right_after = game.height == merkle.height(game.size)
    require(right_after, "level", "below the program's root", "right after its expansion")
    game = replace(game, turn=Turn.OPERATOR, operator=len(game.program), index=0)
    if game.target == TOKEN:
        return replace(game, level=Level.LEAF)
    return _at_root(replace(game, level=Level.TILES), game.kept, game.model.dims.pieces)


@move_of(Turn.OPERATOR, Level.TRACE)
def expand_layer(game: Game, content: bytes, operators_root: bytes, children: Sequence[bytes]) -> Game:
    """Open the disputed trace leaf, and commit to the results of the layer's operators.

    The leaf's content binds the pieces that the operator must come up with if the challenger says
    ``choose_kept``.

    Raises:
        MoveError: ``level``: not at a trace leaf. ``content``: not what the leaf commits to.
            ``children``: see ``bisect``.
    """
    require(game.height == 0 and game.target == LAYER, "level", "not at a trace leaf", "a trace leaf")
    _is_leaf(game, content)
    return _program_shown(replace(game, kept=content), operators_root, children)


@move_of(Turn.OPERATOR, Level.TRACE)
def expand_token(
    game: Game, data: bytes, path: Sequence[bytes], operators_root: bytes, children: Sequence[bytes]
) -> Game:
    """Open the disputed token, and commit to the results of the operators that chose it.

    A token of the prompt was given and not chosen: the challenger loses.

    Args:
        data: the token leaf: salt (32 bytes), token id and number in the answer (4 bytes each,
            little-endian).
        path: its audit path to the tokens' root.

    Raises:
        MoveError: ``level``: the dispute is about a layer. ``content``: wrong length. ``path``: not
            that token's leaf. ``children``: see ``bisect``.
    """
    require(game.target == TOKEN, "level", "not at a token", "a token")
    require(len(data) == SALT_BYTES + 8, "content", f"{len(data)} bytes", SALT_BYTES + 8)
    claim, leaf = game.claim, merkle.leaf_hash(data)
    require_leaf(claim.tokens_root, leaf, game.leaf, claim.positions + 1, path, "to the tokens' root")
    token, step = struct.unpack("<II", data[SALT_BYTES:])
    if step == GIVEN:
        return replace(game, verdict=Verdict.CHALLENGER_LOSES)
    return _program_shown(replace(game, value=token, token_step=step), operators_root, children)


@move_of(Turn.OPERATOR, Level.OPERATORS)
def expand_operator(game: Game, content: bytes, children: Sequence[bytes]) -> Game:
    """Open the disputed operator's leaf, and show the nodes over the tiles of its result.

    A single tile leaves nothing to choose: no nodes are shown, and the operator goes on.

    Raises:
        MoveError: ``level``: not at one operator. ``content``: not what its leaf commits to.
            ``children``: see ``bisect``.
    """
    require(game.height == 0, "level", "above the operators", "one operator")
    _is_leaf(game, content)
    tiles = game.model.dims.tiles(game.program[game.operator].length)
    game = _at_root(replace(game, level=Level.TILES, piece=0), content, tiles)
    if tiles > 1:
        return _shown(game, children)
    require(not children, "children", len(children), 0)
    return game


@move_of(Turn.OPERATOR, Level.TILES)
def publish(game: Game, data: bytes) -> Game:
    """Publish the values of the disputed tile (of what the trace holds: the piece, with its salt).

    Raises:
        MoveError: ``level``: not at one tile. ``tile length``, ``tile``: not the data that the leaf
            commits to.
    """
    require(game.height == 0, "level", "above the tiles", "one tile")
    _tile(game, data)
    return replace(game, level=Level.ELEMENT, turn=Turn.CHALLENGER)


@move_of(Turn.CHALLENGER, Level.ELEMENT)
def element(game: Game, number: int, data: bytes) -> Game:
    """Name a wrong value of the published tile: number ``number`` of ``data``, the tile again.

    A value that takes several steps to accumulate is disputed on; any other is one step.

    Raises:
        MoveError: ``tile length``, ``tile``: not the published data. ``element``: the tile has no
            such value.
    """
    values = _tile(game, data)
    require(0 <= number < len(values), "element", number, f"below {len(values)}")
    game = replace(game, turn=Turn.OPERATOR, value=values[number], step=0)
    if game.at_kept:
        return replace(game, level=Level.LEAF, element=number)
    game = replace(game, element=game.piece * game.model.dims.tile + number)
    steps = game.program[game.operator].steps
    if steps == 1:
        return replace(game, level=Level.LEAF)
    # The accumulator after each step, and the finished value: one leaf more than there are steps.
    return _at_root(replace(game, level=Level.STEPS), NOTHING, steps + 1)


@move_of(Turn.CHALLENGER, Level.ELEMENT)
def accuse_salt(game: Game, data: bytes, seed: bytes) -> Game:
    """Show that the published piece's salt is not the one of the trace's seed: the operator loses.

    Whoever has the seed, as the client does, must be able to rebuild every leaf. With salts of its
    own choice an operator could commit to right values under leaves that nobody else can compare.

    Raises:
        MoveError: ``tile length``, ``tile``: not the published data. ``level``: it is no piece of a
            layer's state. ``seed``: not the one that the trace root commits to. ``salt``: the salt
            is right.
    """
    _tile(game, data)
    require(game.target == LAYER and game.at_kept, "level", "a tile of an operator", "a piece of the trace")
    committed = len(seed) == 32 and hash_of_seed(seed) == game.claim.seed_hash
    require(committed, "seed", "another seed", "the committed one")
    right = salts(seed, game.position, game.layer, game.piece + 1)[-1]
    require(data[:SALT_BYTES] != right, "salt", "the right salt", "a wrong one")
    return replace(game, verdict=Verdict.OPERATOR_LOSES)


@move_of(Turn.OPERATOR, Level.STEPS)
def expand_steps(game: Game, root: bytes, children: Sequence[bytes]) -> Game:
    """Commit to the accumulator of the disputed element after each of its steps.

    Raises:
        MoveError: ``level``: committed before (a second commitment would let the operator change
            its mind). ``children``: see ``bisect``.
    """
    require(game.node == NOTHING, "level", "steps already committed", "not yet")
    return _shown(replace(game, node=root, steps_root=root), children)


@move_of(Turn.OPERATOR, Level.LEAF)
def prove(game: Game, openings: Sequence[Opening]) -> Game:
    """Open the values that the disputed step reads; doing the step on them gives the verdict.

    Raises:
        MoveError: an opening is missing, superfluous or not under its root (reasons of ``judge``).
            Nothing is judged then, and the operator may try again while its clock runs.
    """
    model = game.model
    good = judge.verdict(
        model.dims,
        game.claim,
        game.place,
        openings,
        weights_root=model.weights_root,
        tables_root=model.tables_root,
        operators_root=game.operators_root,
        steps_root=game.steps_root,
    )
    return replace(game, verdict=Verdict.CHALLENGER_LOSES if good else Verdict.OPERATOR_LOSES)


def statement(game_id: int, trace_root: bytes, verdict: Verdict) -> bytes:
    """What an arbiter signs, or a proof shows, to end a game at any point (32 bytes)."""
    return sha256(b"otr/1/arbitration" + game_id.to_bytes(32, "big") + trace_root + bytes([verdict])).digest()


def _at_root(game: Game, node: bytes, size: int) -> Game:
    """The dispute at the root ``node`` of a tree of ``size`` leaves."""
    return replace(game, node=node, index=0, size=size, height=merkle.height(size))


def _is_leaf(game: Game, content: bytes) -> None:
    """Refuse a hash that is not what the disputed leaf commits to."""
    good = len(content) == 32 and merkle.leaf_hash(content) == game.node
    require(good, "content", content.hex(), "what the leaf commits to")


def _shown(game: Game, children: Sequence[bytes]) -> Game:
    """The challenger's turn, if ``children`` are all nodes that this round must show."""
    _, _, count = merkle.span(game.size, game.height, game.index, game.arity_bits)
    whole = len(children) == count and all(len(child) == 32 for child in children)
    require(whole, "children", len(children), count)
    found = merkle.root_of_hashes(children)
    require(found == game.node, "children", found.hex(), game.node.hex())
    return replace(game, turn=Turn.CHALLENGER)


def _program_shown(game: Game, operators_root: bytes, children: Sequence[bytes]) -> Game:
    """The dispute at the root of the program's results, with the nodes of the first round shown."""
    game = replace(game, level=Level.OPERATORS, operators_root=operators_root)
    return _shown(_at_root(game, operators_root, len(game.program)), children)


def _tile(game: Game, data: bytes) -> tuple[int, ...]:
    """The values of a published tile, after checking that it is the disputed one.

    A tile of an operator holds 64-bit big-endian values; a piece of the trace a salt and 32-bit
    little-endian ones. The last tile of a result, and the last piece of a row, may be shorter than
    the others.

    Raises:
        MoveError: ``tile length``, ``tile``: other data than the disputed leaf commits to.
    """
    d = game.model.dims
    if game.at_kept:
        row, first = d.piece_place(game.piece)
        count = min(pr.PIECE_VALUES, d.row_values(row) - first)
        layout, start = f"<{count}i", SALT_BYTES
    else:
        count = min(d.tile, game.program[game.operator].length - game.piece * d.tile)
        layout, start = f">{count}q", 0
    length = start + struct.calcsize(layout)
    require(len(data) == length, "tile length", len(data), length)
    require(merkle.leaf_hash(data) == game.node, "tile", "other data", "what the tile's leaf commits to")
    return struct.unpack(layout, data[start:])
