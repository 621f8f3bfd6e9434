"""Is one step right? The court's judge: opened values in, a verdict out.

``lane.step`` says what is right; it asks a reader for the values it needs, in a fixed order. Here
the reader answers from openings and checks each against a root of the claim. A player's reader
(``openings.Openings``) answers from its own trees and records the openings on the way, so that
nobody has to know twice which values a step needs. ``judge.vy`` is this module and ``lane.step``
once more, for a chain; both are tested against each other on every primitive.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from otr_core import merkle
from otr_core.errors import MoveError, ProofError
from otr_core.lane.dims import PIECE_VALUES, Dims, Matrix, Table
from otr_core.lane.element import Accumulator, Place, TraceClaim, program
from otr_core.lane.step import right
from otr_core.poea.trace import SALT_BYTES


@dataclass(frozen=True)
class Opening:
    """A leaf's data and its path to a root; through two trees, both paths one after the other."""

    data: bytes
    proof: tuple[bytes, ...]


@dataclass
class OpeningsReader:
    """Answers from openings, in order; each must lead to a root of the claim.

    Attributes:
        weights_root, tables_root: of the model (``commitment``). operators_root: committed in the
            game.
        ends: the accumulators before and after the step, which the game has in the clear.
        used: openings asked for so far.

    Raises (every method):
        MoveError: too few openings, or one of the wrong length or not under its root.
        ProofError: a path of another length than its tree has, or a place outside the tree.
    """

    d: Dims
    claim: TraceClaim
    place: Place
    openings: Sequence[Opening]
    weights_root: bytes
    tables_root: bytes
    operators_root: bytes
    ends: tuple[Accumulator, Accumulator] = ((0, 0), (0, 0))
    used: int = 0

    def __post_init__(self) -> None:
        self._program = program(self.d, self.place.target, self.place.position, self.claim.temperature_milli)

    def done(self) -> None:
        """Refuse openings that nobody asked for."""
        if self.used != len(self.openings):
            raise MoveError("openings", len(self.openings), self.used)

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        length = self._program[operator].length
        count = min(self.d.tile, length - tile * self.d.tile)
        places = ((tile, self.d.tiles(length)), (operator, len(self._program)))
        data = self._open(8 * max(count, 0), places, self.operators_root)
        return struct.unpack(f">{count}q", data)

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        row, first = self.d.piece_place(piece)
        count = min(PIECE_VALUES, self.d.row_values(row) - first)
        leaf = position * self.d.layers + layer
        places = ((piece, self.d.pieces), (leaf, self.claim.positions * self.d.layers))
        data = self._open(SALT_BYTES + 4 * count, places, self.claim.states_root)
        return struct.unpack(f"<{count}i", data[SALT_BYTES:])

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        index = self.d.weight_leaf(matrix, self.place.layer, row, chunk)
        count = min(self.d.tile, self.d.matrix_shape(matrix)[1] - chunk * self.d.tile)
        data = self._open(4 * count, ((index, self.d.weight_leaves),), self.weights_root)
        return struct.unpack(f">{count}i", data)

    def table(self, table: Table, entry: int) -> int:
        return self._table_tile(table, entry)[entry % self.d.tile]

    def rotation(self, position: int) -> Sequence[int]:
        return self._table_tile(Table.ROTARY, self.d.turn(self.place.layer, position))

    def token(self, at: int) -> int:
        data = self._open(SALT_BYTES + 8, ((at, self.claim.positions + 1),), self.claim.tokens_root)
        return int(struct.unpack("<I", data[SALT_BYTES : SALT_BYTES + 4])[0])

    def accumulator(self, step: int) -> Accumulator:
        return self.ends[step - self.place.step + 1]

    def _table_tile(self, table: Table, entry: int) -> Sequence[int]:
        d, size = self.d, self.d.table_sizes()[table]
        count = min(d.tile, size - entry // d.tile * d.tile)
        data = self._open(4 * count, ((d.table_leaf(table, entry), d.table_leaves),), self.tables_root)
        return struct.unpack(f">{count}i", data)

    def _open(self, length: int, places: Sequence[tuple[int, int]], root: bytes) -> bytes:
        if self.used == len(self.openings):
            raise MoveError("openings", len(self.openings), "more")
        opening = self.openings[self.used]
        self.used += 1
        if len(opening.data) != length:
            raise MoveError("opening length", len(opening.data), length)
        node, at = opening.data, 0
        for index, size in places:
            end = at + merkle.path_length(index, size)
            if end > len(opening.proof):
                raise MoveError("path", len(opening.proof), f"{end} or more")
            node, at = merkle.root_of_inclusion(merkle.leaf_hash(node), index, size, opening.proof[at:end]), end
        if at != len(opening.proof) or node != root:
            raise MoveError("opening root", node.hex(), root.hex())
        return opening.data


def verdict(d: Dims, claim: TraceClaim, place: Place, openings: Sequence[Opening], **roots: Any) -> bool:
    """``right`` on openings.

    Raises:
        MoveError: an opening is missing, superfluous or not under its root; nothing is judged then.
    """
    reader = OpeningsReader(d, claim, place, openings, **roots)
    try:
        result = right(d, claim, place, reader)
    except ProofError as error:
        raise MoveError("opening root", error, "a valid path") from error
    reader.done()
    return result
