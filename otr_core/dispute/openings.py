"""What a player knows of its own run of an answer, and how it opens what the judge asks for.

The protocols are the seam between the honest strategies, which need no model, and whoever runs one
(``otr_node.run``). Every *opening* below is a pair (data, path): the content of a leaf, and its
audit path from the leaf upwards. Where a tree's leaves are roots of other trees, the paths follow
one another in one list, the innermost first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from otr_core import merkle
from otr_core.dispute.judge import Opening
from otr_core.lane.dims import Dims, Matrix, Table
from otr_core.lane.element import Accumulator, Place, TraceClaim
from otr_core.lane.program import Operator
from otr_core.poea.trace import SALT_BYTES, Trace

DataAndPath = tuple[bytes, list[bytes]]
"""A leaf's content and its audit path."""


class CommittedModel(Protocol):
    """A model as the judge knows it, and openings of its weights and tables."""

    @property
    def dims(self) -> Dims:
        """Dimensions that the program follows from."""

    @property
    def weights_root(self) -> bytes:
        """Root of the tree of all weights, as registered."""

    @property
    def tables_root(self) -> bytes:
        """Root of the tree of all tables, as registered."""

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """The token ids that end an answer, as registered."""

    def weight(self, matrix: Matrix, layer: int, row: int, chunk: int) -> DataAndPath:
        """Opening of a chunk of a row: ``dims.tile`` weights, int32 big-endian."""

    def table(self, table: Table, entry: int) -> DataAndPath:
        """Opening of the tile that holds an entry: ``dims.tile`` or fewer, int32 big-endian."""


class OwnExecution(Protocol):
    """A player's own values of one disputed program, and the trees over them."""

    @property
    def dims(self) -> Dims:
        """Dimensions of the model that was run."""

    @property
    def model(self) -> CommittedModel:
        """The model that was run; for a cheat it need not be the registered one."""

    @property
    def program(self) -> tuple[Operator, ...]:
        """The operators, in the order in which they are computed."""

    @property
    def operators(self) -> merkle.Tree:
        """Tree over the operators; a leaf's content is the root over the operator's tiles."""

    def tiles(self, operator: int) -> merkle.Tree:
        """Tree over the tiles of an operator's result."""

    def tile_data(self, operator: int, tile: int) -> bytes:
        """Content of a tile's leaf: ``dims.tile`` values or fewer, int64 big-endian."""

    def accumulators(self, operator: int, element: int) -> Sequence[Accumulator]:
        """The accumulator after each step of an element."""


class OwnRun(Protocol):
    """A player's own run of an answer whose tokens are given. All numbers count from 0."""

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes from which the trace's salts derive."""

    @property
    def wrong_token(self) -> int:
        """Number of the first of these tokens that this run would not have chosen, counted from the
        first of the prompt; 0 if there is none."""

    def with_seed(self, seed: bytes) -> OwnRun:
        """The same run under the salts of another seed."""

    @property
    def claim(self) -> TraceClaim:
        """What the root of this run's trace consists of."""

    @property
    def trace(self) -> Trace:
        """The trace that this run commits to."""

    @property
    def states(self) -> merkle.Tree:
        """Tree over the trace's leaves, position by position."""

    @property
    def tokens(self) -> merkle.Tree:
        """Tree over the salted tokens, those of the prompt first."""

    @property
    def prompt(self) -> merkle.Tree:
        """Tree over the prompt's salted tokens, whose root is ordered."""

    def execution(self, target: int, position: int, layer: int) -> OwnExecution:
        """The program that made a layer's state (target ``LAYER``) or chose a token (``TOKEN``)."""

    def piece(self, position: int, layer: int, piece: int) -> DataAndPath:
        """Opening of a piece, salt ‖ int32 little-endian values, up to the root of ``states``."""

    def pieces(self, position: int, layer: int) -> merkle.Tree:
        """Tree over the salted pieces of a state."""

    def token(self, at: int) -> DataAndPath:
        """Opening of token leaf number ``at`` (prompt first), up to the tokens' root."""


class Openings:
    """A reader for ``lane.step`` that answers from a player's own values and records openings.

    Which values a step needs is known to the step alone: the player does the step on this reader,
    and has then made exactly the openings that the judge will ask for, in the same order.

    Args:
        execution: the player's own values. place: the disputed step.
        piece: opens a piece of a trace leaf (position, layer, piece). token: opens a token leaf. As
            in ``OwnRun``.

    Attributes:
        made: the openings so far.
    """

    def __init__(
        self,
        execution: OwnExecution,
        place: Place,
        *,
        piece: Callable[[int, int, int], DataAndPath],
        token: Callable[[int], DataAndPath],
    ) -> None:
        self._run, self._place, self._piece, self._token = execution, place, piece, token
        self.made: list[Opening] = []

    def _add(self, data: bytes, proof: Sequence[bytes]) -> bytes:
        self.made.append(Opening(data, tuple(proof)))
        return data

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        """The values of a tile of an earlier operator."""
        path = self._run.tiles(operator).path(tile) + self._run.operators.path(operator)
        data = self._add(self._run.tile_data(operator, tile), path)
        return struct.unpack(f">{len(data) // 8}q", data)

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        """The values of a piece of a state."""
        data = self._add(*self._piece(position, layer, piece))[SALT_BYTES:]
        return struct.unpack(f"<{len(data) // 4}i", data)

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        """The weights of one chunk of a row, in the disputed layer."""
        return _integers(self._add(*self._run.model.weight(matrix, self._place.layer, row, chunk)))

    def table(self, table: Table, entry: int) -> int:
        """One entry of a table."""
        return _integers(self._add(*self._run.model.table(table, entry)))[entry % self._run.dims.tile]

    def rotation(self, position: int) -> Sequence[int]:
        """The cosines and sines of a position."""
        entry = self._run.dims.turn(self._place.layer, position)
        return _integers(self._add(*self._run.model.table(Table.ROTARY, entry)))

    def token(self, at: int) -> int:
        """The id of token number ``at``."""
        return int.from_bytes(self._add(*self._token(at))[SALT_BYTES : SALT_BYTES + 4], "little")

    def accumulator(self, step: int) -> Accumulator:
        """The disputed element's accumulator after ``step``; the game has it, and nothing is
        opened."""
        return self._run.accumulators(self._place.operator, self._place.element)[step]


def _integers(data: bytes) -> Sequence[int]:
    return struct.unpack(f">{len(data) // 4}i", data)
