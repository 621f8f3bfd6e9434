"""The portable lane as a program of small operators, which can be judged step by step.

A layer at one position, and the choice of one token, are each a fixed list of operators over
vectors of integers. The lists are the enums below: a member's value is its operator's number, and
it says which primitive (``Kind``) is applied to which earlier operators' values. How a primitive
computes is defined in ``step``.

A vector is cut into *tiles* of ``head_dim`` values. An element of an operator is either computed at
once from a few opened values (``steps`` = 1), or by ``steps`` accumulations over tiles followed by
a finish. The player opens exactly the values that a step reads; the judge (``dispute.judge``, and
``judge.vy`` on chain) accepts no others.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from enum import IntEnum

from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture

PIECE_VALUES = 256
"""Values in a piece of a trace leaf: 1 KiB of int32."""


class Kind(IntEnum):
    """The primitive that an operator's step applies (one body each in ``step``)."""

    COPY = 0  # a value from elsewhere: the embedding, or what the trace holds of the layer below
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
    """Matrices in the order of the weight tree: two of the model, then four of each layer."""

    EMBED = 0
    HEAD = 1
    QKV = 2
    OUT = 3
    GATE_UP = 4
    DOWN = 5

    @property
    def shift(self) -> int:
        """Bits dropped from a sum of products: fraction bits of both factors less the result's.

        The embedding is looked up, never multiplied with.
        """
        return {
            Matrix.HEAD: bits.NORMED + bits.WEIGHT - bits.LOGIT,
            Matrix.QKV: bits.NORMED + bits.WEIGHT - bits.HEAD,
            Matrix.OUT: bits.HEAD + bits.WEIGHT - bits.RESIDUAL,
            Matrix.GATE_UP: bits.NORMED + bits.WEIGHT - bits.GATE,
            Matrix.DOWN: bits.MLP + bits.WEIGHT - bits.RESIDUAL,
        }[self]


class _Numbered(IntEnum):
    """An operator of a program, numbered by its place in the list.

    Attributes:
        label: its name in results and messages. kind: its primitive.
        reads: numbers of the earlier operators whose values it reads, in the order in which a step
            opens them.
        matrix: what a DOT multiplies with.
    """

    label: str
    kind: Kind
    reads: tuple[int, ...]
    matrix: Matrix | None

    def __new__(cls, label: str, kind: Kind, reads: tuple[str, ...] = (), matrix: Matrix | None = None) -> _Numbered:
        earlier = {member.label: member.value for member in cls.__members__.values()}
        member = int.__new__(cls, len(earlier))
        member._value_ = len(earlier)
        member.label, member.kind, member.matrix = label, kind, matrix
        member.reads = tuple(earlier[read] for read in reads)
        return member


class LayerOperator(_Numbered):
    """One layer at one position. Its trace leaf holds OUTPUT, KEY and the value part of QKV."""

    INPUT = "input", Kind.COPY
    ATTENTION_PEAK = "attention.peak", Kind.PEAK, ("input",)
    ATTENTION_SQUARES = "attention.squares", Kind.SQUARES, ("attention.peak", "input")
    ATTENTION_FACTOR = "attention.factor", Kind.FACTOR, ("attention.peak", "attention.squares")
    ATTENTION_NORMED = "attention.normed", Kind.NORM, ("attention.peak", "attention.factor", "input")
    QKV = "attention.qkv", Kind.DOT, ("attention.normed",), Matrix.QKV
    QUERY = "attention.query", Kind.ROTATE, ("attention.qkv",)
    KEY = "attention.key", Kind.ROTATE, ("attention.qkv",)
    SCORES = "attention.scores", Kind.SCORE, ("attention.query", "attention.key")
    TOPS = "attention.top", Kind.TOP, ("attention.scores",)
    EXPS = "attention.exp", Kind.EXP, ("attention.top", "attention.scores")
    TOTALS = "attention.total", Kind.SUM, ("attention.exp",)
    SHARES = "attention.share", Kind.SHARE, ("attention.total",)
    WEIGHTS = "attention.weights", Kind.WEIGHT, ("attention.share", "attention.exp")
    MIXED = "attention.mixed", Kind.MIX, ("attention.weights", "attention.qkv")
    RESIDUAL_SUM = "attention.residual", Kind.DOT, ("attention.mixed", "input"), Matrix.OUT
    MLP_PEAK = "mlp.peak", Kind.PEAK, ("attention.residual",)
    MLP_SQUARES = "mlp.squares", Kind.SQUARES, ("mlp.peak", "attention.residual")
    MLP_FACTOR = "mlp.factor", Kind.FACTOR, ("mlp.peak", "mlp.squares")
    MLP_NORMED = "mlp.normed", Kind.NORM, ("mlp.peak", "mlp.factor", "attention.residual")
    GATE_UP = "mlp.gate_up", Kind.DOT, ("mlp.normed",), Matrix.GATE_UP
    PRODUCT = "mlp.product", Kind.GATE, ("mlp.gate_up",)
    OUTPUT = "output", Kind.DOT, ("mlp.product", "attention.residual"), Matrix.DOWN


class GreedyOperator(_Numbered):
    """The choice of a token at temperature 0, from the last layer's output; CHOICE is its id."""

    INPUT = "input", Kind.COPY
    PEAK = "head.peak", Kind.PEAK, ("input",)
    SQUARES = "head.squares", Kind.SQUARES, ("head.peak", "input")
    FACTOR = "head.factor", Kind.FACTOR, ("head.peak", "head.squares")
    NORMED = "head.normed", Kind.NORM, ("head.peak", "head.factor", "input")
    LOGITS = "logits", Kind.DOT, ("head.normed",), Matrix.HEAD
    CHOICE = "choice", Kind.ARGMAX, ("logits",)


class SampledOperator(_Numbered):
    """The choice of a token by a draw, from the last layer's output; CHOICE is its id."""

    INPUT = "input", Kind.COPY
    PEAK = "head.peak", Kind.PEAK, ("input",)
    SQUARES = "head.squares", Kind.SQUARES, ("head.peak", "input")
    FACTOR = "head.factor", Kind.FACTOR, ("head.peak", "head.squares")
    NORMED = "head.normed", Kind.NORM, ("head.peak", "head.factor", "input")
    LOGITS = "logits", Kind.DOT, ("head.normed",), Matrix.HEAD
    TOP = "choice.top", Kind.TOP, ("logits",)
    WEIGHTS = "choice.weights", Kind.TEMPER, ("choice.top", "logits")
    TOTAL = "choice.total", Kind.SUM, ("choice.weights",)
    CHOICE = "choice", Kind.DRAW, ("choice.weights", "choice.total")


class Table(IntEnum):
    """Tables as they lie in the table tree, in this order."""

    EXP2 = 0
    SIGMOID = 1
    ROTARY = 2
    SATURATION = 3


@dataclass(frozen=True)
class Operator:
    """One operator of a program: ``length`` values, each made in ``steps`` steps.

    The other fields are as in ``_Numbered``.
    """

    name: str
    kind: Kind
    length: int
    steps: int = 1
    reads: tuple[int, ...] = ()
    matrix: Matrix | None = None


@dataclass(frozen=True)
class Dims:
    """What the program depends on: dimensions of the model (counts) and what follows from them.

    Attributes:
        tile: values in a tile, the model's ``head_dim``. epsilon: the norm's epsilon as a sum of
            squares.
        numerator, drop: the norm's constant √n · 2^(NORMED + 1 + drop) and its last shift
            (``step``'s FACTOR and NORM).
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
        # As many bits as leave √n · 2^(NORMED + 1 + drop), and its quotient times a row's values,
        # below 2^51.
        drop = 51 - (bits.NORMED + 1 + (n.bit_length() + 1) // 2)
        return cls(
            hidden=n,
            intermediate=a.intermediate,
            layers=a.layers,
            heads=a.heads,
            kv_heads=a.kv_heads,
            tile=a.head_dim,
            vocab=a.vocab,
            context=a.context,
            epsilon=round(a.rms_eps * n * 2.0 ** (2 * bits.RESIDUAL)),
            numerator=math.isqrt(n << (2 * (bits.NORMED + 1 + drop))),
            drop=drop,
        )

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
    def row_pieces(self) -> tuple[int, int, int]:
        """Pieces that rows 0, 1 and 2 of a trace leaf are cut into."""
        output, kv = -(-self.hidden // PIECE_VALUES), -(-self.kv // PIECE_VALUES)
        return output, kv, kv

    @property
    def pieces(self) -> int:
        """Pieces of a trace leaf."""
        return sum(self.row_pieces)

    def piece_place(self, piece: int) -> tuple[int, int]:
        """(row, first value) of piece number ``piece``."""
        output, kv, _ = self.row_pieces
        row = 0 if piece < output else 1 + (piece - output) // kv
        return row, (piece - sum(self.row_pieces[:row])) * PIECE_VALUES

    def piece_of(self, row: int, value: int) -> int:
        """Number of the piece that holds value ``value`` of row ``row``."""
        return sum(self.row_pieces[:row]) + value // PIECE_VALUES

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
        return {
            Table.EXP2: bits.EXP2_ENTRIES,
            Table.SIGMOID: bits.SIGMOID_ENTRIES,
            Table.ROTARY: self.context * self.tile,
            Table.SATURATION: self.layers,
        }

    def table_leaf(self, table: Table, entry: int) -> int:
        """Index in the table tree of the tile that holds ``entry``."""
        return sum(self.tiles(n) for t, n in self.table_sizes().items() if t < table) + entry // self.tile

    @property
    def table_leaves(self) -> int:
        return sum(self.tiles(n) for n in self.table_sizes().values())


@functools.lru_cache(maxsize=256)
def layer_program(d: Dims, position: int) -> tuple[Operator, ...]:
    """The operators of one layer at ``position``, in order of computation.

    One number past their end stands for what the trace leaf holds: a copy of OUTPUT, KEY and the
    value part of QKV.
    """
    return _sized(LayerOperator, d, d.heads, d.padded(position + 1), position + 1)


@functools.lru_cache(maxsize=256)
def token_program(d: Dims, temperature_milli: int) -> tuple[Operator, ...]:
    """The operators that choose a token; the last one's value is the token's id."""
    return _sized(SampledOperator if temperature_milli else GreedyOperator, d, 1, d.vocab, 0)


def _sized(program: type[_Numbered], d: Dims, rows: int, width: int, seen: int) -> tuple[Operator, ...]:
    """A program's operators with their sizes.

    Args:
        rows, width: of the weights that are summed to one: per head over the places seen (in whole
            tiles), or one row over the vocabulary. seen: positions that attention mixes.
    """
    columns, heads = d.hidden // d.tile, d.heads * d.tile
    sizes = {
        Kind.COPY: (d.hidden, 1),
        Kind.PEAK: (1, columns),
        Kind.SQUARES: (1, columns),
        Kind.FACTOR: (1, 1),
        Kind.NORM: (d.hidden, 1),
        Kind.SHARE: (rows, 1),
        Kind.MIX: (heads, seen),
        Kind.GATE: (d.intermediate, 1),
    }
    sizes |= dict.fromkeys((Kind.SCORE, Kind.EXP, Kind.WEIGHT, Kind.TEMPER), (rows * width, 1))
    sizes |= dict.fromkeys((Kind.TOP, Kind.SUM, Kind.ARGMAX, Kind.DRAW), (rows, d.tiles(width)))
    operators = []
    for each in program:
        if each.matrix is not None:
            outputs, inputs = d.matrix_shape(each.matrix)
            length, steps = outputs, inputs // d.tile
        elif each.kind == Kind.ROTATE:
            length, steps = d.kv if each == LayerOperator.KEY else heads, 1
        else:
            length, steps = sizes[each.kind]
        operators.append(Operator(each.label, each.kind, length, steps, each.reads, each.matrix))
    return tuple(operators)
