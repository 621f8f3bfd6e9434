"""Is one step right? The judge of the exact lane: opened values in, a verdict out, in integers alone.

``right`` is the definition; ``judge.vy`` is the same, and both are tested against each other on every primitive. It
asks a reader for the values it needs, in a fixed order. ``Verifier`` answers from openings and checks each against the
claim's roots; a player's reader answers from its own trees and records the openings on the way
(``execution.Openings``), so that nobody has to know twice which values a step needs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from otr_core import merkle
from otr_core.errors import MoveError, ProofError
from otr_core.lane import program as pr
from otr_core.lane.program import Dims, Matrix, Table
from otr_core.lane.step import Place, TraceClaim, program, right
from otr_core.poea.trace import SALT_BYTES


@dataclass(frozen=True)
class Opening:
    """A leaf's data and its path to a root (through two trees for tiles and rows: their paths in one list)."""

    data: bytes
    proof: tuple[bytes, ...]


class OpeningsReader:
    """Answers from openings, in order; each must lead to a root of the claim.

    Args:
        weights_root, tables_root: of the model (``commitment``). operators_root, steps_root: committed in the game.

    Raises (every method):
        MoveError: too few openings, of the wrong length, or not under the root.
    """

    def __init__(
        self,
        d: Dims,
        claim: TraceClaim,
        place: Place,
        openings: Sequence[Opening],
        *,
        weights_root: bytes,
        tables_root: bytes,
        operators_root: bytes,
        steps_root: bytes,
    ) -> None:
        self._d, self._claim, self._place, self._openings = d, claim, place, list(openings)
        self._weights_root, self._tables_root = weights_root, tables_root
        self._operators_root, self._steps_root = operators_root, steps_root
        self._program = program(d, place.target, place.position, claim.temperature_milli)
        self._used = 0

    def done(self) -> None:
        """Refuse openings that nobody asked for."""
        if self._used != len(self._openings):
            raise MoveError("openings", len(self._openings), self._used)

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        length = self._program[operator].length
        count = min(self._d.tile, length - tile * self._d.tile)
        places = ((tile, self._d.tiles(length)), (operator, len(self._program)))
        data = self._open(8 * max(count, 0), places, self._operators_root)
        return struct.unpack(f">{count}q", data)

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        row, first = self._d.piece_place(piece)
        count = min(pr.PIECE_VALUES, self._d.row_values(row) - first)
        leaf = position * self._d.layers + layer
        places = ((piece, self._d.pieces), (leaf, self._claim.positions * self._d.layers))
        data = self._open(SALT_BYTES + 4 * count, places, self._claim.states_root)
        return struct.unpack(f"<{count}i", data[SALT_BYTES:])

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        index = self._d.weight_leaf(matrix, self._place.layer, row, chunk)
        data = self._open(4 * self._d.tile, ((index, self._d.weight_leaves),), self._weights_root)
        return struct.unpack(f">{self._d.tile}i", data)

    def table(self, table: Table, entry: int) -> int:
        return self._table_tile(table, entry)[entry % self._d.tile]

    def rotation(self, position: int) -> Sequence[int]:
        return self._table_tile(Table.ROTARY, position * self._d.tile)

    def token(self, at: int) -> int:
        data = self._open(SALT_BYTES + 8, ((at, self._claim.positions + 1),), self._claim.tokens_root)
        return int(struct.unpack("<I", data[SALT_BYTES : SALT_BYTES + 4])[0])

    def accumulator(self, step: int) -> tuple[int, int]:
        steps = self._program[self._place.operator].steps
        data = self._open(16, ((step, steps + 1),), self._steps_root)
        first, second = struct.unpack(">qq", data)
        return int(first), int(second)

    def _table_tile(self, table: Table, entry: int) -> Sequence[int]:
        d, size = self._d, self._d.table_sizes()[table]
        count = min(d.tile, size - entry // d.tile * d.tile)
        data = self._open(4 * count, ((d.table_leaf(table, entry), d.table_leaves),), self._tables_root)
        return struct.unpack(f">{count}i", data)

    def _open(self, length: int, places: Sequence[tuple[int, int]], root: bytes) -> bytes:
        if self._used == len(self._openings):
            raise MoveError("openings", len(self._openings), "more")
        opening = self._openings[self._used]
        self._used += 1
        if len(opening.data) != length:
            raise MoveError("opening length", len(opening.data), length)
        node, at = opening.data, 0
        for index, size in places:
            end = at + merkle.path_length(index, size)
            node, at = merkle.root_of_inclusion(merkle.leaf_hash(node), index, size, opening.proof[at:end]), end
        if at != len(opening.proof) or node != root:
            raise MoveError("opening root", node.hex(), root.hex())
        return opening.data


def verdict(d: Dims, claim: TraceClaim, place: Place, openings: Sequence[Opening], **roots: bytes) -> bool:
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
