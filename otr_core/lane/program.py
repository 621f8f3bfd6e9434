"""The portable lane as a program of small operators, each judged one element and one accumulation step at a time.

A layer at one position, and the choice of one token, are each a fixed list of operators over vectors of integers. A
vector is cut into *tiles* of ``head_dim`` values. An element of an operator is either computed at once from a few
opened values (``steps`` = 1), or by ``steps`` accumulations over tiles followed by a finish. ``sources`` says which
values a step needs; the player opens exactly those, and the judge (``judge`` here, ``judge.vy`` on chain) accepts no
others. Constants are those of ``otr_node.rounding``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from otr_core.lane.architecture import Architecture
from otr_core.lane.formats import NORMED, RESIDUAL

PIECE_VALUES = 256
"""Values in a piece of a trace leaf: 1 KiB of int32."""


class Kind(IntEnum):
    """The primitive that an operator's step applies."""

    COPY = 0  # a value from elsewhere: the layer's input, or what the trace holds of a result
    PEAK = 1  # accumulate the largest magnitude
    SQUARES = 2  # accumulate squares of scaled values
    FACTOR = 3  # the norm's factor: square root and division
    NORM = 4  # scale, multiply, shift
    DOT = 5  # accumulate products with a row of a matrix, shift, perhaps add and saturate
    ROTATE = 6  # two products with sine and cosine, shift
    SCORE = 7  # product of a query with one key
    TOP = 8  # accumulate the largest value
    EXP = 9  # 2^-x by table
    SUM = 10  # accumulate a sum
    SHARE = 11  # one division
    WEIGHT = 12  # product, floor
    MIX = 13  # accumulate weight × value over the tokens, shift
    GATE = 14  # sigmoid by table, two products, two shifts, saturation
    ARGMAX = 15  # accumulate the first largest value and its index
    TEMPER = 16  # 2^-(x / temperature) by table
    DRAW = 17  # accumulate a sum until it passes the drawn target


class Matrix(IntEnum):
    """Matrices as they lie in the dispute's weight tree, in this order; the last four once per layer."""

    EMBED = 0
    HEAD = 1
    QKV = 2
    OUT = 3
    GATE_UP = 4
    DOWN = 5


class Table(IntEnum):
    """Tables as they lie in the table tree, in this order."""

    EXP2 = 0
    SIGMOID = 1
    ROTARY = 2
    SATURATION = 3


@dataclass(frozen=True)
class Operator:
    """One operator of a program: ``length`` values, each made in ``steps`` steps."""

    name: str
    kind: Kind
    length: int
    steps: int = 1


@dataclass(frozen=True)
class Dims:
    """What the program depends on: the model's dimensions, and sizes and constants derived from them (counts).

    Attributes:
        tile: values in a tile, the model's ``head_dim``. epsilon: the norm's epsilon as a sum of squares.
        numerator, drop: the norm's constant √n · 2^(…) and its last shift (``portable.PortableSession._norm``).
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    tile: int
    vocab: int
    context: int
    epsilon: int
    numerator: int
    drop: int

    @classmethod
    def of(cls, a: Architecture) -> Dims:
        """Dimensions of a model whose widths are multiples of ``head_dim``."""
        n = a.hidden
        drop = 51 - (NORMED + 1 + (n.bit_length() + 1) // 2)
        return cls(
            a.hidden, a.intermediate, a.layers, a.heads, a.kv_heads, a.head_dim, a.vocab, a.context,
            round(a.rms_eps * n * 2.0 ** (2 * RESIDUAL)), math.isqrt(n << (2 * (NORMED + 1 + drop))), drop,
        )  # fmt: skip

    def tiles(self, length: int) -> int:
        return -(-length // self.tile)

    def padded(self, seen: int) -> int:
        """Attention vectors hold a whole number of tiles per head."""
        return self.tiles(seen) * self.tile

    @property
    def kv(self) -> int:
        return self.kv_heads * self.tile

    def row_values(self, row: int) -> int:
        """Values of row 0 (output), 1 (key), 2 (value) of a trace leaf."""
        return self.hidden if row == 0 else self.kv

    @property
    def pieces(self) -> int:
        """Pieces of a trace leaf."""
        return -(-self.hidden // PIECE_VALUES) + 2 * -(-self.kv // PIECE_VALUES)

    def piece_place(self, piece: int) -> tuple[int, int]:
        """(row, first value) of piece number ``piece``."""
        outputs, keys = -(-self.hidden // PIECE_VALUES), -(-self.kv // PIECE_VALUES)
        if piece < outputs:
            return 0, piece * PIECE_VALUES
        row, at = divmod(piece - outputs, keys)
        return 1 + row, at * PIECE_VALUES

    def piece_of(self, row: int, value: int) -> int:
        """Number of the piece that holds value ``value`` of row ``row``."""
        outputs, keys = -(-self.hidden // PIECE_VALUES), -(-self.kv // PIECE_VALUES)
        return (0, outputs, outputs + keys)[row] + value // PIECE_VALUES

    def matrix_shape(self, matrix: Matrix) -> tuple[int, int]:
        """(rows, columns)."""
        return {
            Matrix.EMBED: (self.vocab, self.hidden),
            Matrix.HEAD: (self.vocab, self.hidden),
            Matrix.QKV: ((self.heads + 2 * self.kv_heads) * self.tile, self.hidden),
            Matrix.OUT: (self.hidden, self.heads * self.tile),
            Matrix.GATE_UP: (2 * self.intermediate, self.hidden),
            Matrix.DOWN: (self.hidden, self.intermediate),
        }[matrix]

    def weight_leaf(self, matrix: Matrix, layer: int, row: int, chunk: int) -> int:
        """Index in the weight tree of ``chunk`` (tile of columns) of a row."""
        counts = {m: rows * (columns // self.tile) for m in Matrix for rows, columns in [self.matrix_shape(m)]}
        per_layer = sum(counts[m] for m in Matrix if m >= Matrix.QKV)
        before = sum(counts[m] for m in Matrix if m < min(matrix, Matrix.QKV))
        if matrix >= Matrix.QKV:
            before += layer * per_layer + sum(counts[m] for m in Matrix if Matrix.QKV <= m < matrix)
        return before + row * (self.matrix_shape(matrix)[1] // self.tile) + chunk

    @property
    def weight_leaves(self) -> int:
        last = self.matrix_shape(Matrix.DOWN)
        return self.weight_leaf(Matrix.DOWN, self.layers - 1, last[0] - 1, last[1] // self.tile - 1) + 1

    def table_sizes(self) -> dict[Table, int]:
        """Entries of each table; rotary holds per position the cosines, then the sines."""
        from otr_core.lane.formats import EXP, SCORE, SIGMOID_INDEX, SIGMOID_LIMIT

        return {
            Table.EXP2: ((EXP + 1) << SCORE) + 1,
            Table.SIGMOID: (2 * SIGMOID_LIMIT << SIGMOID_INDEX) + 1,
            Table.ROTARY: self.context * self.tile,
            Table.SATURATION: self.layers,
        }

    def table_leaf(self, table: Table, entry: int) -> int:
        """Index in the table tree of the tile that holds ``entry``."""
        return sum(self.tiles(n) for t, n in self.table_sizes().items() if t < table) + entry // self.tile

    @property
    def table_leaves(self) -> int:
        return sum(self.tiles(n) for n in self.table_sizes().values())


INPUT, QKV, QUERY, KEY, SCORES, TOPS, EXPS, TOTALS, SHARES, WEIGHTS, MIXED, RESIDUAL_SUM = (
    0, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
)  # fmt: skip
GATE_UP, PRODUCT, OUTPUT = 20, 21, 22
LOGITS = 5
"""Numbers of operators that others refer to; a norm is four operators, after INPUT and after RESIDUAL_SUM."""


def layer_program(d: Dims, position: int) -> tuple[Operator, ...]:
    """The operators of one layer at ``position``, in order of computation. What the trace leaf holds of them is
    operator number ``len(layer_program(…))``: a copy of OUTPUT, KEY and the value part of QKV."""
    seen = position + 1
    padded, columns = d.padded(seen), d.hidden // d.tile
    return (
        Operator("input", Kind.COPY, d.hidden),
        *_norm("attention", d),
        Operator("attention.qkv", Kind.DOT, d.heads * d.tile + 2 * d.kv, columns),
        Operator("attention.query", Kind.ROTATE, d.heads * d.tile),
        Operator("attention.key", Kind.ROTATE, d.kv),
        Operator("attention.scores", Kind.SCORE, d.heads * padded),
        Operator("attention.top", Kind.TOP, d.heads, padded // d.tile),
        Operator("attention.exp", Kind.EXP, d.heads * padded),
        Operator("attention.total", Kind.SUM, d.heads, padded // d.tile),
        Operator("attention.share", Kind.SHARE, d.heads),
        Operator("attention.weights", Kind.WEIGHT, d.heads * padded),
        Operator("attention.mixed", Kind.MIX, d.heads * d.tile, seen),
        Operator("attention.residual", Kind.DOT, d.hidden, d.heads),
        *_norm("mlp", d),
        Operator("mlp.gate_up", Kind.DOT, 2 * d.intermediate, columns),
        Operator("mlp.product", Kind.GATE, d.intermediate),
        Operator("output", Kind.DOT, d.hidden, d.intermediate // d.tile),
    )


def token_program(d: Dims, temperature_milli: int) -> tuple[Operator, ...]:
    """The operators that choose a token from the last layer's output; the last one's value is the token."""
    chunks = d.tiles(d.vocab)
    start = (
        Operator("input", Kind.COPY, d.hidden),
        *_norm("head", d),
        Operator("logits", Kind.DOT, d.vocab, d.hidden // d.tile),
    )
    if temperature_milli == 0:
        return (*start, Operator("choice", Kind.ARGMAX, 1, chunks))
    return (
        *start,
        Operator("choice.top", Kind.TOP, 1, chunks),
        Operator("choice.weights", Kind.TEMPER, d.vocab),
        Operator("choice.total", Kind.SUM, 1, chunks),
        Operator("choice", Kind.DRAW, 1, chunks),
    )


def _norm(name: str, d: Dims) -> tuple[Operator, ...]:
    chunks = d.hidden // d.tile
    return (
        Operator(f"{name}.peak", Kind.PEAK, 1, chunks),
        Operator(f"{name}.squares", Kind.SQUARES, 1, chunks),
        Operator(f"{name}.factor", Kind.FACTOR, 1),
        Operator(f"{name}.normed", Kind.NORM, d.hidden),
    )
