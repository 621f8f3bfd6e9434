"""What a player knows of its own run of an answer, and how it opens what the judge asks for.

The protocols are the seam between the honest strategies, which are light, and whoever runs a model (``otr_node.run``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from otr_core import merkle
from otr_core.dispute.judge import Opening
from otr_core.lane.program import Dims, Matrix, Operator, Table
from otr_core.lane.step import Place, TraceClaim
from otr_core.poea.trace import Trace


class CommittedModel(Protocol):
    """A model as a judge contract knows it, and the openings of its weights and tables."""

    @property
    def dims(self) -> Dims: ...
    @property
    def weights_root(self) -> bytes: ...
    @property
    def tables_root(self) -> bytes: ...
    def weight(self, matrix: Matrix, layer: int, row: int, chunk: int) -> tuple[bytes, list[bytes]]: ...
    def table(self, table: Table, entry: int) -> tuple[bytes, list[bytes]]: ...


class OwnExecution(Protocol):
    """A player's own values of one disputed program, and the trees over them."""

    @property
    def dims(self) -> Dims: ...
    @property
    def model(self) -> CommittedModel: ...
    @property
    def program(self) -> tuple[Operator, ...]: ...
    @property
    def operators(self) -> merkle.Tree: ...
    def tiles(self, operator: int) -> merkle.Tree: ...
    def tile_data(self, operator: int, tile: int) -> bytes: ...
    def steps(self, operator: int, element: int) -> tuple[merkle.Tree, list[bytes]]: ...


class OwnRun(Protocol):
    """A player's own run of an answer whose tokens are given."""

    @property
    def seed(self) -> bytes: ...
    @property
    def claim(self) -> TraceClaim: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def states(self) -> merkle.Tree: ...
    def execution(self, target: int, position: int, layer: int) -> OwnExecution: ...
    def piece(self, position: int, layer: int, piece: int) -> tuple[bytes, list[bytes]]: ...
    def pieces(self, position: int, layer: int) -> merkle.Tree: ...
    def token(self, at: int) -> tuple[bytes, list[bytes]]: ...


class Openings:
    """A reader that answers from a player's own execution and trace, and records the openings that show it.

    Args:
        pieces: gives (data with salt, path) of a piece of a trace leaf; token: (data, path) of a token leaf.
    """

    def __init__(
        self,
        execution: OwnExecution,
        place: Place,
        *,
        piece: Callable[[int, int, int], tuple[bytes, list[bytes]]],
        token: Callable[[int], tuple[bytes, list[bytes]]],
    ) -> None:
        self._run, self._place, self._piece, self._token = execution, place, piece, token
        self.made: list[Opening] = []

    def _add(self, data: bytes, proof: Sequence[bytes]) -> bytes:
        self.made.append(Opening(data, tuple(proof)))
        return data

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        path = self._run.tiles(operator).path(tile) + self._run.operators.path(operator)
        data = self._add(self._run.tile_data(operator, tile), path)
        return struct.unpack(f">{len(data) // 8}q", data)

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        data = self._add(*self._piece(position, layer, piece))[32:]
        return struct.unpack(f"<{len(data) // 4}i", data)

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        data = self._add(*self._run.model.weight(matrix, self._place.layer, row, chunk))
        return struct.unpack(f">{len(data) // 4}i", data)

    def table(self, table: Table, entry: int) -> int:
        data = self._add(*self._run.model.table(table, entry))
        return int(struct.unpack(f">{len(data) // 4}i", data)[entry % self._run.dims.tile])

    def rotation(self, position: int) -> Sequence[int]:
        data = self._add(*self._run.model.table(Table.ROTARY, position * self._run.dims.tile))
        return struct.unpack(f">{len(data) // 4}i", data)

    def token(self, at: int) -> int:
        return int(struct.unpack("<I", self._add(*self._token(at))[32:36])[0])

    def accumulator(self, step: int) -> tuple[int, int]:
        tree, leaves = self._run.steps(self._place.operator, self._place.element)
        first, second = struct.unpack(">qq", self._add(leaves[step], tree.path(step)))
        return int(first), int(second)
