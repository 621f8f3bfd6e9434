"""Steps computed from values at hand: a player's own, or the rows opened to a verifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from otr_core.lane.dims import PIECE_VALUES, Dims, Matrix, Table
from otr_core.lane.element import Accumulator, Element, Place, TraceClaim, program
from otr_core.lane.step import value
from otr_core.lane.tables import exp2_entries, sigmoid_entries


class Rows(Protocol):
    """A matrix of which a row can be had: an array, or one in another form."""

    def __getitem__(self, row: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class HeldValues:
    """A reader over the values of one program.

    Attributes:
        vectors: int64 values by number of the operator. keys, values: (position, kv) of earlier
            positions.
        turn: (tile,) cosines, then sines, of the program's position. saturation: of the layer's
            MLP, as a power of 2.
        matrix: gives a matrix of the program's layer, whose rows are integers in any dtype; None
            where no step of what is computed multiplies with one.
    """

    d: Dims
    vectors: MutableMapping[int, np.ndarray]
    keys: np.ndarray
    values: np.ndarray
    turn: np.ndarray
    saturation: int
    matrix: Callable[[Matrix], Rows] | None = None

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        return _ints(self.vectors[operator], tile * self.d.tile, self.d.tile)

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        row, first = self.d.piece_place(piece)
        return _ints((self.keys, self.values)[row - 1][position], first, PIECE_VALUES)

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        assert self.matrix is not None
        return _ints(self.matrix(matrix)[row], chunk * self.d.tile, self.d.tile)

    def table(self, table: Table, entry: int) -> int:
        if table == Table.SATURATION:
            return self.saturation
        return (exp2_entries() if table == Table.EXP2 else sigmoid_entries())[entry]

    def rotation(self, position: int) -> Sequence[int]:
        return _ints(self.turn, 0, self.d.tile)

    def token(self, at: int) -> int:
        raise LookupError("what enters a program is among its values; it is not looked up again")

    def accumulator(self, step: int) -> Accumulator:
        raise LookupError("accumulators are computed from the values, not read")

    def compute(self, claim: TraceClaim, place: Place, operators: Iterable[int]) -> None:
        """Make the values of ``operators``, in that order, of the program at ``place``.

        Which operator, element and step ``place`` names does not matter.
        """
        listed = program(self.d, place.target, place.position, claim.temperature_milli)
        for number in operators:
            made = []
            for element in range(listed[number].length):
                at = replace(place, operator=number, element=element)
                made.append(value(Element(self.d, claim, at, listed[number], self)))
            self.vectors[number] = np.array(made, dtype=np.int64)


def _ints(row: np.ndarray, first: int, count: int) -> list[int]:
    """Python's integers, which do not overflow."""
    return [int(x) for x in row[first : first + count]]
