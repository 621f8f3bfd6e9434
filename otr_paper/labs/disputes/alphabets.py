"""What a free operator of the exhaustive search commits to: small alphabets, level by level.

A leaf is right (R), false (F) or a hash that nobody can open (X). On one level at a time every tree
over its alphabet is committed to; on the others the first leaf that is not right, and whether all
after it are right or none can be opened. The judge never reads what comes after the first
difference (the search records what it reads), so that more would make the same games again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from otr_core.dispute.openings import OwnExecution, OwnRun
from otr_core.dispute.state import Game, Level
from otr_core.lane.element import LAYER
from otr_core.poea.trace import GIVEN, SALT_BYTES
from otr_paper.labs.disputes.free import FreeState, FreeTrace, Leaves, other_value, unopenable

MOST = 10
"""Leaves of the largest tree of which all patterns are committed to: 2^10."""
Changes = Mapping[int, Leaves | bytes | None]


@dataclass(frozen=True)
class Alphabet:
    """Choices of a free operator.

    Attributes:
        full: level on which every tree is committed to (OPERATORS, TILES or STEPS); None: none.
        narrow: levels on which one false leaf after the other is tried, and nothing beside it.
        fixed: levels on which all is right if it can be (under a false trace leaf, or a false
            value).
    """

    full: Level | None = None
    narrow: tuple[Level, ...] = ()
    fixed: tuple[Level, ...] = ()

    def results(self, game: Game, honest: OwnExecution) -> Iterator[Changes]:
        """As ``Choices.results``."""
        count = len(honest.program)
        if self.full == Level.OPERATORS:
            yield from self._every(count, lambda number: next(self._operator(honest, number)))
            return
        yield {}
        if Level.OPERATORS in self.fixed:
            return
        for number in range(count):
            for change in self._operator(honest, number):
                yield {number: change}
                if Level.OPERATORS not in self.narrow:
                    yield {number: change} | dict.fromkeys(range(number + 1, count))

    def accumulators(self, game: Game, entries: Sequence[bytes]) -> Iterator[Mapping[int, bytes]]:
        """As ``Choices.accumulators``."""
        inside = range(1, len(entries) - 1)
        false = {number: other_value(entries[number], 0, layout=">q") for number in inside}
        if self.full == Level.STEPS and len(inside) <= MOST:
            for pattern in product((False, True), repeat=len(inside)):
                yield {number: false[number] for number in inside if pattern[number - 1]}
            return
        yield {}
        if Level.STEPS in self.fixed:
            return
        for number in inside:
            yield {number: false[number]}
            if len(entries[number]) == 16:
                yield {number: other_value(entries[number], 1, layout=">q")}  # the index beside it
            if Level.STEPS not in self.narrow:
                yield {each: false[each] for each in inside if each >= number}
                yield {number: entries[number][:-1]}
        yield {0: other_value(entries[0], 0, layout=">q")}

    def _every(self, count: int, false: object) -> Iterator[dict[int, bytes | None]]:
        """Every tree over right and false leaves."""
        made = [false(number) for number in range(count)]  # type: ignore[operator]
        if count > MOST:
            yield from ({number: leaf} for number, leaf in enumerate(made))
            return
        for pattern in product((False, True), repeat=count):
            yield {number: made[number] for number in range(count) if pattern[number]}

    def _operator(self, honest: OwnExecution, number: int) -> Iterator[Leaves | bytes | None]:
        """What the leaf of an operator may commit to instead."""
        tiles = honest.dims.tiles(honest.program[number].length)

        def false(tile: int, value: int = 0) -> bytes:
            return other_value(honest.tile_data(number, tile), value, layout=">q")

        if self.full == Level.TILES:
            yield from (leaves for leaves in self._every(tiles, false) if leaves)
            return
        yield {0: false(0)}
        if Level.TILES in self.fixed:
            return
        last = tiles - 1
        values = len(honest.tile_data(number, last)) // 8
        yield {last: false(last, values - 1)}
        if Level.TILES in self.narrow:
            return
        yield {tile: false(tile) for tile in range(tiles)}
        yield {last: None}
        yield {last: honest.tile_data(number, last)[:-8]}
        yield unopenable("content", number)
        yield None


def traces(honest: OwnRun, leaves: Sequence[int], contents: Iterable[str] = "FSGX") -> Iterator[FreeTrace]:
    """Traces with one leaf that is not right: a false value (F), a wrong salt (S), a content without
    pieces (G), or a hash without a content (X)."""
    for leaf in leaves:
        for letter in contents:
            yield FreeTrace(honest, {leaf: leaf_change(honest, leaf, letter)})


def every_trace(honest: OwnRun, letters: str = "RFX") -> Iterator[FreeTrace]:
    """All traces over right (R) and other leaves, but the right one."""
    for pattern in product(letters, repeat=len(honest.trace.leaves)):
        changes = {leaf: leaf_change(honest, leaf, letter) for leaf, letter in enumerate(pattern) if letter != "R"}
        if changes:
            yield FreeTrace(honest, changes)


def every_state(honest: OwnRun, leaf: int, letters: str = "RFSX") -> Iterator[FreeTrace]:
    """Traces in which one leaf holds any pieces: right ones, a false value, a wrong salt, a hash that
    nobody can open."""
    for pattern in product(letters, repeat=honest.trace.shape.pieces):
        pieces = {
            number: piece_change(honest, leaf, number, each) for number, each in enumerate(pattern) if each != "R"
        }
        if pieces:
            yield FreeTrace(honest, {leaf: FreeState(pieces)})


def token_traces(honest: OwnRun, leaves: Iterable[int], letters: str = "ISNVEGLX") -> Iterator[FreeTrace]:
    """Traces with one token leaf that is not right, by letter (``token_change``)."""
    for at in leaves:
        for letter in letters:
            change = token_change(honest, at, letter)
            if change != honest.token(at)[0]:
                yield FreeTrace(honest, {}, {at: change})


def token_change(honest: OwnRun, at: int, letter: str) -> bytes | None:
    """What a token leaf holds instead: another id (I), salt (S) or number (N), an id beyond the
    vocabulary (V), a stop id (E), the mark of a given token (G), a byte more (L); X: a hash that
    nobody can open."""
    data = honest.token(at)[0]
    salt, (token, step) = data[:SALT_BYTES], struct.unpack("<II", data[SALT_BYTES:])
    model = honest.execution(LAYER, 0, 0).model
    vocab = model.dims.vocab
    others = {
        "I": (token + 1 if token + 1 < vocab else 0, step),
        "N": (token, step + 1 & 2**32 - 1),
        "V": (vocab, step),
        "E": (model.stop_ids[0], step),
        "G": (token, GIVEN),
    }
    if letter in others:
        return salt + struct.pack("<II", *others[letter])
    if letter == "S":
        return bytes([data[0] ^ 1]) + data[1:]
    return data + b"\0" if letter == "L" else None


def leaf_change(honest: OwnRun, leaf: int, letter: str) -> FreeState | bytes | None:
    """What a trace leaf holds instead, by letter."""
    if letter == "X":
        return None
    return unopenable("state", leaf) if letter == "G" else FreeState({0: piece_change(honest, leaf, 0, letter)})


def piece_change(honest: OwnRun, leaf: int, piece: int, letter: str) -> bytes | None:
    """What a piece holds instead, by letter."""
    if letter == "X":
        return None
    position, layer = divmod(leaf, honest.trace.shape.layers)
    data = honest.piece(position, layer, piece)[0]
    if letter == "S":
        return bytes([data[0] ^ 1]) + data[1:]
    last, (value,) = (len(data) - SALT_BYTES) // 4 - 1, struct.unpack_from("<i", data, len(data) - 4)
    return other_value(data, last, layout="<i", start=SALT_BYTES, delta=1 if value < 2**31 - 1 else -1)
