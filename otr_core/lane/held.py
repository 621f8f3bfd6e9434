"""Steps computed from values at hand: a player's own execution, or the rows that were opened to a verifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass

import numpy as np

from otr_core.lane.program import PIECE_VALUES, Dims, Matrix, Table
from otr_core.lane.step import Accumulator, Element, Place, TraceClaim, program, value


@dataclass(frozen=True)
class HeldValues:
    """A reader over the values of one program.

    Attributes:
        vectors: int64 values by number of the operator. keys, values: (position, kv) of earlier positions.
        turn: (tile,) cosines, then sines, of the program's position. table: an entry of a table.
        matrix: a matrix of the program's layer, (rows, columns), integers in any dtype.
    """

    d: Dims
    vectors: MutableMapping[int, np.ndarray]
    keys: np.ndarray
    values: np.ndarray
    turn: np.ndarray
    table: Callable[[Table, int], int]
    matrix: Callable[[Matrix], np.ndarray]

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        return _ints(self.vectors[operator], tile * self.d.tile, self.d.tile)

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        row, first = self.d.piece_place(piece)
        return _ints((self.keys, self.values)[row - 1][position], first, PIECE_VALUES)

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        return _ints(self.matrix(matrix)[row], chunk * self.d.tile, self.d.tile)

    def rotation(self, position: int) -> Sequence[int]:
        return _ints(self.turn, 0, self.d.tile)

    def token(self, at: int) -> int:
        raise NotImplementedError("what enters a program is among its values; it is not looked up again")

    def accumulator(self, step: int) -> Accumulator:
        raise NotImplementedError("accumulators are computed from the values, not read")

    def compute(self, claim: TraceClaim, place: Place, operators: Iterable[int]) -> None:
        """Make the values of ``operators``, in that order, of the program at ``place`` (which of its operators,
        elements and steps does not matter)."""
        listed = program(self.d, place.target, place.position, claim.temperature_milli)
        for number in operators:
            places = (
                Place(place.target, place.position, place.layer, number, i, 0, 0, 0, place.token_step)
                for i in range(listed[number].length)
            )
            made = [value(Element(self.d, claim, at, listed[number], self)) for at in places]
            self.vectors[number] = np.array(made, dtype=np.int64)


def _ints(row: np.ndarray, first: int, count: int) -> list[int]:
    """Python's integers, which do not overflow."""
    return [int(x) for x in row[first : first + count]]
