"""Moves down to one value: nodes of any tree, an operator of the program, a tile, an element of it.

Levels OPERATORS, TILES and ELEMENT of the table in ``game``. ``bisect`` and ``choose`` are the same
in the trees of the trace.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from otr_core import merkle
from otr_core.dispute.rules import (
    at_leaf,
    at_root,
    move_of,
    require,
    require_content,
    require_leaf,
    require_seed,
    root_shown,
    round_bits,
)
from otr_core.dispute.state import NOTHING, TREES, Game, Level, Turn, Verdict
from otr_core.lane.dims import PIECE_VALUES
from otr_core.lane.element import LAYER, TOKEN
from otr_core.poea.trace import SALT_BYTES, salts, token_salt


@move_of(Turn.OPERATOR, Level.TRACE, Level.TILES)
def bisect(game: Game, children: Sequence[bytes]) -> Game:
    """Show the nodes d levels below the disputed one (or the leaves, if they are nearer).

    Raises:
        MoveError: ``level``: the node is a leaf. ``children``: they are not below it.
    """
    require(game.height > 0, "level", "a leaf", "a node above the leaves")
    found = root_shown(game, children)
    require(found == game.node, "children", found.hex(), game.node.hex())
    return replace(game, turn=Turn.CHALLENGER)


@move_of(Turn.CHALLENGER, *TREES)
def choose(game: Game, child: int, node: bytes, path: Sequence[bytes]) -> Game:
    """Point at number ``child`` of the nodes just shown, the first that differs from one's own run.

    The state does not hold what was shown, only its root. The path proves that ``node`` was shown.

    Raises:
        MoveError: ``child``: there is no such node. ``path``: it was not shown.
    """
    below, first, count = merkle.span(game.size, game.height, game.index, round_bits(game))
    # The last operator of a token is its choice, whose value is known (``choose_last``).
    below_last = count - 1 if game.level == Level.OPERATORS and game.target == TOKEN else count
    require(0 <= child < below_last, "child", child, f"below {below_last}")
    require_leaf(game.node, node, child, count, path, "to a node that was shown")
    index = first + child
    game = replace(game, turn=Turn.OPERATOR, node=node, height=below, index=index)
    if below:
        return game
    # A leaf: its number says what is singled out on this level.
    if game.level == Level.TRACE:
        return replace(game, leaf=index)
    if game.level == Level.TILES:
        return replace(game, piece=index)
    return replace(game, operator=index)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_last(game: Game) -> Game:
    """Agree with all results that a token was chosen from, but not with the choice.

    Its value is known, the id that the token's leaf holds: nothing has to be published.

    Raises:
        MoveError: ``level``: it is a layer.
    """
    require(game.target == TOKEN, "level", "a layer", "a token")
    last = len(game.program) - 1
    return _value_disputed(replace(game, operator=last), game.value, NOTHING, game.program[last].steps)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_kept(game: Game) -> Game:
    """Agree with the results of all operators, but not with what the trace holds of them.

    Raises:
        MoveError: ``level``: the challenger has already pointed at an operator, or it is a token,
            whose id is the result of its last operator.
    """
    require(game.target == LAYER, "level", "a token", "a layer")
    game = replace(game, turn=Turn.OPERATOR, operator=len(game.program), level=Level.TILES)
    return at_root(game, game.kept, game.model.dims.pieces)


@move_of(Turn.CHALLENGER, Level.OPERATORS)
def choose_token(game: Game) -> Game:
    """Say that it is the token fed here which is wrong: it is not the one that was chosen, or
    ordered, for this position.

    A first layer reads the token, of which a challenger may know no more than the tokens' root.
    All states before agree, so that the token's choice is judged from right ones.

    Raises:
        MoveError: ``level``: not in the first layer.
    """
    first = game.target == LAYER and game.layer == 0
    require(first, "level", "another layer", "the first layer, which reads the token")
    game = replace(game, level=Level.TRACE, turn=Turn.OPERATOR, operators_root=NOTHING, kept=NOTHING)
    return at_leaf(game, game.position)


@move_of(Turn.OPERATOR, Level.OPERATORS)
def expand_operator(game: Game, children: Sequence[bytes]) -> Game:
    """Show the nodes over the tiles of the disputed operator's result, which its leaf commits to.

    Raises:
        MoveError: ``level``: a single tile is published instead. ``children``: not as many as this
            round shows. ``content``: the leaf commits to another root.
    """
    tiles = game.model.dims.tiles(game.program[game.operator].length)
    require(tiles > 1, "level", "one tile", "several tiles")
    below = at_root(replace(game, level=Level.TILES), NOTHING, tiles)
    root = root_shown(below, children)
    require_content(game, root)
    return replace(below, node=root, turn=Turn.CHALLENGER)


@move_of(Turn.OPERATOR, Level.TILES, Level.OPERATORS)
def publish(game: Game, data: bytes) -> Game:
    """Publish the values of the disputed tile (of what the trace holds: the piece, with its salt).

    Raises:
        MoveError: ``level``: not at one tile. ``tile length``, ``tile``: not the data that the leaf
            commits to.
    """
    if game.level == Level.OPERATORS:
        tiles = game.model.dims.tiles(game.program[game.operator].length)
        require(tiles == 1, "level", f"{tiles} tiles", "one tile")
        tile = merkle.leaf_hash(data)
        # The operator's leaf holds the root over its tiles: of one tile, the hash of its leaf.
        game = replace(game, node=tile if merkle.leaf_hash(tile) == game.node else NOTHING, piece=0)
    require(game.height == 0, "level", "above the tiles", "one tile")
    count, first = len(tile_read(game, data)), 0 if game.at_kept else game.piece * game.model.dims.tile
    steps = 1 if game.at_kept else game.program[game.operator].steps
    return replace(game, level=Level.ELEMENT, turn=Turn.CHALLENGER, element=first, index=steps, size=count)


@move_of(Turn.CHALLENGER, Level.ELEMENT)
def element(game: Game, number: int, value: int) -> Game:
    """Name a wrong value of the published tile: value number ``number``, and what it is there.

    The tile is not sent again. Whoever quotes another value than was published loses
    (``misquoted``). A value that takes several steps to accumulate is disputed on; any other is one
    step.

    Raises:
        MoveError: ``element``: the tile has no such value. ``value``: no number of 64 bits.
    """
    require(0 <= number < game.size, "element", number, f"below {game.size}")
    require(-(2**63) <= value < 2**63, "value", value, "64 bits")
    return _value_disputed(replace(game, element=game.element + number), value, game.node, game.index)


@move_of(Turn.CHALLENGER, Level.ELEMENT, Level.OPERATORS)
def accuse_salt(game: Game, data: bytes, seed: bytes) -> Game:
    """Show that the salt of a piece, or of a chosen token, is not the one of the trace's seed: the
    operator loses.

    Whoever has the seed, as the client does, must be able to rebuild every leaf. With salts of its
    own choice an operator could commit to right values under leaves that nobody else can compare.

    Args:
        data: the published piece or the token leaf, again.

    Raises:
        MoveError: ``level``: it is no piece of a layer's state and no token. ``tile length``,
            ``tile``: other data. ``seed``: not the one that the receipt commits to. ``salt``: the
            salt is right.
    """
    if game.level == Level.OPERATORS:
        require(game.target == TOKEN, "level", "a layer", "a token, or a piece of the trace")
        require(merkle.leaf_hash(data) == game.kept, "tile", "other data", "the token's leaf")
        require_seed(game, seed)
        right = token_salt(seed, game.leaf)
    else:
        require(game.at_kept, "level", "a tile of an operator", "a piece of the trace")
        tile_read(game, data)
        require_seed(game, seed)
        right = salts(seed, game.position, game.layer, game.piece + 1)[-1]
    require(data[:SALT_BYTES] != right, "salt", "the right salt", "a wrong one")
    return replace(game, verdict=Verdict.OPERATOR_LOSES)


def _value_disputed(game: Game, value: int, node: bytes, steps: int) -> Game:
    """The dispute about the value of an element, which the operator is to account for next.

    Args:
        node: hash of the published tile's leaf; ``NOTHING`` where none was published. steps: in
            which the value was made.
    """
    level, size = (Level.LEAF, 1) if steps == 1 else (Level.STEPS, steps + 1)
    game = replace(game, level=level, turn=Turn.OPERATOR, value=value, node=node)
    return replace(game, height=0, index=0, size=size, step=0, interval=-1)


def _tile_values(game: Game) -> int:
    """Values of the disputed tile or piece: the last of a result or row may have fewer."""
    d = game.model.dims
    if game.at_kept:
        row, first = d.piece_place(game.piece)
        return min(PIECE_VALUES, d.row_values(row) - first)
    return min(d.tile, game.program[game.operator].length - game.piece * d.tile)


def tile_read(game: Game, data: bytes) -> tuple[int, ...]:
    """The values of a published tile, after checking that it is the disputed one.

    A tile of an operator holds 64-bit big-endian values; a piece of the trace a salt and 32-bit
    little-endian ones.

    Raises:
        MoveError: ``tile length``, ``tile``: other data than the disputed leaf commits to.
    """
    count = _tile_values(game)
    layout, start = (f"<{count}i", SALT_BYTES) if game.at_kept else (f">{count}q", 0)
    length = start + struct.calcsize(layout)
    require(len(data) == length, "tile length", len(data), length)
    require(merkle.leaf_hash(data) == game.node, "tile", "other data", "what the tile's leaf commits to")
    return struct.unpack(layout, data[start:])
