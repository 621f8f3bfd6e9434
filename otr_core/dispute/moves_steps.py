"""Moves about one value: how it was accumulated, one step of that, and a value that was misquoted.

Levels STEPS and LEAF of the table in ``game``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from otr_core.dispute import judge
from otr_core.dispute.judge import Opening
from otr_core.dispute.moves_operators import tile_read
from otr_core.dispute.rules import move_of, require
from otr_core.dispute.state import MOST_INTERVALS, Game, Level, Turn, Verdict
from otr_core.lane.element import TOKEN, Accumulator


@move_of(Turn.OPERATOR, Level.STEPS, Level.LEAF)
def misquoted(game: Game, data: bytes) -> Game:
    """Show that the published tile has another value than the one quoted: the challenger loses.

    Raises:
        MoveError: ``level``: accumulators were shown since. ``tile length``, ``tile``: not the
            published data. ``quoted``: the value is as quoted.
    """
    require(game.interval < 0, "level", "accumulators were shown", "right after the value was named")
    values = tile_read(game, data)
    number = game.element if game.at_kept else game.element - game.piece * game.model.dims.tile
    require(values[number] != game.value, "quoted", "as quoted", "another value")
    return replace(game, verdict=Verdict.CHALLENGER_LOSES)


@move_of(Turn.OPERATOR, Level.STEPS)
def expand_steps(game: Game, before: bytes, points: bytes) -> Game:
    """Show the accumulators at both ends of the disputed interval and at some places inside it.

    Args:
        before: the list shown last, which holds both ends; nothing at first, when they are what
            every accumulation starts from, written as zeros, and the published value.
        points: the accumulator after each of the places that ``places`` names: 8 bytes; of a
            token's operators 16, with the index that a choice carries along.

    Raises:
        MoveError: ``points``: not the list shown last, or a list of another length or with other
            ends.
    """
    width, intervals = _width(game), len(places(game)) - 1
    first, last = _ends(game, before)
    whole = len(points) == width * (intervals + 1) and points[:width] == first and points[-width:] == last
    require(whole, "points", f"{len(points)} bytes", f"{intervals + 1} entries between the disputed ends")
    return replace(game, node=_list_hash(points), turn=Turn.CHALLENGER)


@move_of(Turn.CHALLENGER, Level.STEPS)
def choose_step(game: Game, number: int) -> Game:
    """Point at the first interval of the list just shown that ends in a wrong accumulator.

    Raises:
        MoveError: ``child``: there is no such interval.
    """
    ends = places(game)
    require(0 <= number < len(ends) - 1, "child", number, f"below {len(ends) - 1}")
    first, size = ends[number], ends[number + 1] - ends[number]
    game = replace(game, turn=Turn.OPERATOR, interval=number, index=first, size=size)
    return replace(game, level=Level.LEAF, step=first) if size == 1 else game


@move_of(Turn.OPERATOR, Level.LEAF)
def prove(game: Game, points: bytes, openings: Sequence[Opening]) -> Game:
    """Open the values that the disputed step reads; doing the step on them gives the verdict.

    Args:
        points: the accumulators shown last, among them those before and after the step; nothing
            where there is one step.

    Raises:
        MoveError: ``points``: not what was shown. An opening is missing, superfluous or not under
            its root (reasons of ``judge``). Nothing is judged then, and the operator may try again
            while its clock runs.
    """
    model, first, last = game.model, b"", b""
    if game.interval < 0:
        require(not points, "points", f"{len(points)} bytes", "none were shown")
    else:
        first, last = _ends(game, points)
    good = judge.verdict(
        model.dims,
        game.claim,
        game.place,
        openings,
        weights_root=model.weights_root,
        tables_root=model.tables_root,
        operators_root=game.operators_root,
        ends=(_accumulator(first), _accumulator(last)),
    )
    return replace(game, verdict=Verdict.CHALLENGER_LOSES if good else Verdict.OPERATOR_LOSES)


def places(game: Game) -> tuple[int, ...]:
    """After how many steps the accumulators of a list are, for the disputed interval of ``game``:
    both ends, and between them at equal distances, ``MOST_INTERVALS`` intervals at most."""
    stride = -(-game.size // MOST_INTERVALS)
    return (*range(game.index, game.index + game.size, stride), game.index + game.size)


def accumulator_bytes(game: Game, entry: Accumulator) -> bytes:
    """An accumulator as lists of the disputed operator have it."""
    return struct.pack(">qq", *entry)[: _width(game)]


def _width(game: Game) -> int:
    """Bytes of an accumulator in a list: in a layer no operator carries an index along."""
    return 16 if game.target == TOKEN else 8


def _ends(game: Game, before: bytes) -> tuple[bytes, bytes]:
    """The accumulators at both ends of the disputed interval, out of the list shown last."""
    width = _width(game)
    if game.interval < 0:
        require(not before, "points", f"{len(before)} bytes", "none were shown")
        return bytes(width), accumulator_bytes(game, (game.value, 0))
    require(_list_hash(before) == game.node, "points", "another list", "the one shown last")
    at = width * game.interval
    return before[at : at + width], before[at + width : at + 2 * width]


def _accumulator(entry: bytes) -> Accumulator:
    first, second = struct.unpack(">qq", entry.ljust(16, b"\0"))
    return first, second


def _list_hash(points: bytes) -> bytes:
    """Hash of a list of accumulators; its prefix tells it from a tile."""
    return sha256(b"\x02" + points).digest()
