"""One element of one operator: which it is, what its receipt commits to, where its values are read.

A step of the lane (``step``) sees the world through these: ``TraceClaim`` is what the disputed
receipt commits to, ``Place`` says which step is meant, a ``Reader`` gives the values, and
``Element`` holds them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from otr_core import merkle
from otr_core.lane import program as pr
from otr_core.lane.dims import PIECE_VALUES, Dims, Matrix, Norm, Table
from otr_core.lane.program import Operator
from otr_core.lane.tensor_program import TensorDims, tensor_layer, tensor_token

LAYER, TOKEN = 0, 1
"""What is disputed: a layer's state at a position, or the choice of a token."""
PADDING = -(2**52)
"""Score of a position that is not there: so far below the others that its weight is 0."""


Accumulator = tuple[int, int]
"""What an element holds between its steps: a running value, and an index, which only the choices of
a token use (elsewhere it is 0)."""


@dataclass(frozen=True)
class TraceClaim:
    """What the disputed receipt commits to, as far as a step depends on it.

    Attributes:
        states_root: over what every layer left behind at every position, position by position.
        tokens_root: over all tokens, those of the prompt first. seed_hash: of the secret seed from
            which the salts of both trees derive.
        positions: tokens that were fed; the last token of an answer is not.
        order_id: of the order that is answered (32 bytes). seed, temperature_milli: as ordered. The
            draws of tokens depend on all three.
    """

    states_root: bytes
    tokens_root: bytes
    seed_hash: bytes
    positions: int
    order_id: bytes
    seed: int
    temperature_milli: int

    @property
    def trace_root(self) -> bytes:
        """The receipt's trace root."""
        return merkle.root_of_hashes([self.states_root, self.tokens_root, self.seed_hash])


@dataclass(frozen=True)
class Place:
    """Which step is meant, and the value that its maker published. Numbers count from 0.

    Attributes:
        target: ``LAYER``, a layer's state at a position, or ``TOKEN``, the choice after it.
        position: the position that was fed. layer: the layer; for a token the last one.
        operator: number in the program. One past the end stands for what the trace holds of it.
        element: number of the value in the operator's result, or in ``piece`` of the trace leaf.
        step: number of the step; as many as there are steps stands for the finish.
        value: what was published for the element.
        piece: which piece of the trace leaf; 0 where the trace is not meant.
        token_step: of a token, its number in the answer; its random draw depends on it.
    """

    target: int
    position: int
    layer: int
    operator: int
    element: int
    step: int
    value: int
    piece: int = 0
    token_step: int = 0


class Reader(Protocol):
    """Where a step's values come from: each reader says who vouches for them.

    A vector is read by *tiles* of ``head_dim`` values, the state that a layer left in the trace by
    *pieces* of ``PIECE_VALUES``.
    """

    def tile(self, operator: int, tile: int) -> Sequence[int]:
        """One tile of an operator's values, of the same program; the last may be shorter."""

    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]:
        """One piece of what a layer left behind at a position: its output, key or value row."""

    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]:
        """One tile of a matrix row, of the place's layer where each layer has such a matrix."""

    def table(self, table: Table, entry: int) -> int:
        """One entry of a table."""

    def rotation(self, position: int) -> Sequence[int]:
        """The cosines, then the sines, by which heads are turned at a position: (tile,)."""

    def token(self, at: int) -> int:
        """The id of the token fed at a position."""

    def accumulator(self, step: int) -> Accumulator:
        """The accumulator that was committed to after a step of the place's element."""


@dataclass(frozen=True)
class Element:
    """One element of one operator, and where the values that make it are read.

    The operator's *sources* are the earlier operators that it reads, in the order of ``reads``.

    Attributes:
        d: dimensions of the model. claim: seed and temperature of the draws. place: which element.
        operator: the one that ``place`` names. read: gives all values.
    """

    d: Dims
    claim: TraceClaim
    place: Place
    operator: Operator
    read: Reader

    @property
    def number(self) -> int:
        """Which element of the operator."""
        return self.place.element

    def tile(self, source: int, tile: int) -> Sequence[int]:
        """A tile of source number ``source``."""
        return self.read.tile(self.operator.reads[source], tile)

    def value(self, source: int, element: int) -> int:
        """One value of source number ``source``; all of its tile is read."""
        return self.tile(source, element // self.d.tile)[element % self.d.tile]

    @property
    def norm(self) -> Norm:
        """The norm that the operator is part of."""
        return self.d.norm(self.operator.norm)

    def row_tile(self, source: int, step: int) -> Sequence[int]:
        """Tile number ``step`` of the row of a norm that the element stands for."""
        return self.tile(source, self.operator.first + self.number * self.operator.steps + step)

    def sees(self, position: int) -> bool:
        """Whether this position sees another: not one to come, with which vectors are filled up to
        whole tiles, and in a sliding layer not one before its window."""
        return self.d.first_seen(self.place.layer, self.place.position) <= position <= self.place.position

    def head_and_position(self) -> tuple[int, int]:
        """(head, position looked at) of an element of scores or of what is made of them."""
        return divmod(self.number, self.d.padded(self.place.position + 1))

    def group_row(self, row: int, head: int, position: int, own: int, only: int | None = None) -> Sequence[int]:
        """The key or value, (tile,), that ``head`` sees at a position, or of it ``only`` one number.

        This position's is a result of the same program. Earlier ones are read from the trace, which
        holds them for good; whoever doubts one disputes it at its own position.

        Args:
            row: of a trace leaf: 1 for keys, 2 for values.
            own: this position's first tile of keys or values in the operator's second source.
            only: the number that is wanted. Of a row that lies in two pieces one is then read.
        """
        # query heads that share a key and a value
        group = head // (self.d.heads // self.d.kv_heads)
        wanted = range(self.d.tile) if only is None else range(only, only + 1)
        if position == self.place.position:
            return self.tile(1, own + group)[wanted.start : wanted.stop]
        first, end = group * self.d.tile + wanted.start, group * self.d.tile + wanted.stop
        found: list[int] = []
        for begin in range(first - first % PIECE_VALUES, end, PIECE_VALUES):
            piece = self.read.piece(position, self.place.layer, self.d.piece_of(row, begin))
            found += piece[max(first - begin, 0) : end - begin]
        return found


def program(d: Dims, target: int, position: int, temperature_milli: int) -> tuple[Operator, ...]:
    """The program that a disputed target runs."""
    if isinstance(d, TensorDims):
        return tensor_layer(d, position) if target == LAYER else tensor_token(d, temperature_milli)
    return pr.layer_program(d, position) if target == LAYER else pr.token_program(d, temperature_milli)
