"""What the programs of the portable lane depend on: a model's dimensions, its norms, and the order in
which its matrices and tables lie in their trees."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass
from enum import IntEnum
from typing import ClassVar

from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture

PIECE_VALUES = 256
"""Values in a piece of a trace leaf: 1 KiB of int32."""


class Matrix(IntEnum):
    """Matrices in the order of the weight tree: two of the model, then those of each layer. From
    QUERY_SCALE on they are rows: weights of norms that no matrix follows, in families that have such
    norms; the last three of the lane that folds no norm's weight into a matrix."""

    EMBED = 0
    HEAD = 1
    QKV = 2
    OUT = 3
    GATE_UP = 4
    DOWN = 5
    QUERY_SCALE = 6
    KEY_SCALE = 7
    OUT_SCALE = 8
    DOWN_SCALE = 9
    BEFORE_SCALE = 10
    AFTER_SCALE = 11
    FINAL_SCALE = 12

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
            Matrix.QUERY_SCALE: bits.NORMED + bits.WEIGHT - bits.HEAD,
            Matrix.KEY_SCALE: bits.NORMED + bits.WEIGHT - bits.HEAD,
            Matrix.OUT_SCALE: bits.NORMED + bits.WEIGHT - bits.RESIDUAL,
            Matrix.DOWN_SCALE: bits.NORMED + bits.WEIGHT - bits.RESIDUAL,
        }[self]


class Table(IntEnum):
    """Tables as they lie in the table tree, in this order."""

    EXP2 = 0
    SIGMOID = 1
    ROTARY = 2
    SATURATION = 3


@dataclass(frozen=True)
class Norm:
    """An RMSNorm of ``rows`` rows of ``width`` values.

    Attributes:
        epsilon: as a sum of squares. numerator, drop: the norm's constant √n · 2^(NORMED + 1 +
            drop) and its last shift (``step``'s FACTOR and NORM).
    """

    rows: int
    width: int
    epsilon: int
    numerator: int
    drop: int

    @classmethod
    def of(cls, rows: int, n: int, rms_eps: float, fraction_bits: int) -> Norm:
        """The norm of ``rows`` rows of ``n`` values of so many fraction bits."""
        # As many bits as leave √n · 2^(NORMED + 1 + drop), and its quotient times a row's values,
        # below 2^51.
        drop = 51 - (bits.NORMED + 1 + (n.bit_length() + 1) // 2)
        numerator = math.isqrt(n << (2 * (bits.NORMED + 1 + drop)))
        return cls(rows, n, round(rms_eps * n * 2.0 ** (2 * fraction_bits)), numerator, drop)


STREAM, QUERY, KEY = range(3)
"""Which norm: of the residual stream, or of the queries' and keys' own."""


@dataclass(frozen=True)
class Dims:
    """What the program depends on: dimensions of the model (counts) and what follows from them.

    Attributes:
        tile: values in a tile, the model's ``head_dim``. epsilon, numerator, drop: of the stream's
            norm (``Norm``).

    What a family adds to a plain Llama:

    Attributes:
        query_norm, key_norm: of queries and keys before they are turned; None without.
        biased: QKV has a tile of columns more, which begins with the biases.
        normed_before, normed_after: whether attention and MLP have a norm of what enters, and one
            of what leaves them.
        window: positions that a sliding layer sees, its own included. sliding: bit l is set where
            layer l slides.
        second_turns: bit l is set where layer l turns heads by the second rotary table.
        score_cap, logit_cap: where scores and logits are capped, in their formats; 0 without.
        gelu: the MLP's activation is the GELU in its tanh form, not the SiLU.
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
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    biased: bool = False
    normed_before: bool = True
    normed_after: bool = False
    window: int = 0
    sliding: int = 0
    second_turns: int = 0
    score_cap: int = 0
    logit_cap: int = 0
    gelu: bool = False

    lane: ClassVar[str] = bits.PORTABLE[0]
    """The lane whose programs these are."""

    @classmethod
    def of(cls, a: Architecture) -> Dims:
        """Dimensions of a model.

        Raises:
            ModelError: of an outlined decoder, which needs operators that are not known here; names
                one.
        """
        if a.stated:
            a = Architecture.from_config(a.config())
        stream = Norm.of(1, a.hidden, a.rms_eps, bits.RESIDUAL)
        queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
        # Each head is normalised by itself, or all of them at once.
        own = {"head": (a.heads, a.kv_heads), "all": (1, 1), "": None}[a.head_norms]
        kind = cls if own is None else NormedDims
        return kind(
            hidden=a.hidden,
            intermediate=a.intermediate,
            layers=a.layers,
            heads=a.heads,
            kv_heads=a.kv_heads,
            tile=a.head_dim,
            vocab=a.vocab,
            context=a.context,
            epsilon=stream.epsilon,
            numerator=stream.numerator,
            drop=stream.drop,
            query_norm=None if own is None else Norm.of(own[0], queries // own[0], a.rms_eps, bits.HEAD),
            key_norm=None if own is None else Norm.of(own[1], keys // own[1], a.rms_eps, bits.HEAD),
            biased=a.biased,
            normed_before=a.normed_before,
            normed_after=a.normed_after,
            window=a.window,
            sliding=sum(1 << layer for layer in a.sliding),
            second_turns=sum(1 << layer for layer in a.second_turns),
            score_cap=round(a.score_cap * bits.LOG2E * 2.0 ** (2 * bits.HEAD)),
            logit_cap=round(a.logit_cap * 2.0**bits.LOGIT),
            gelu=a.gelu,
        )

    @property
    def norms(self) -> tuple[Norm, Norm | None, Norm | None]:
        """The norms by ``STREAM``, ``QUERY``, ``KEY``."""
        return Norm(1, self.hidden, self.epsilon, self.numerator, self.drop), self.query_norm, self.key_norm

    def norm(self, which: int) -> Norm:
        """One of ``norms``, which must be there."""
        found = self.norms[which]
        assert found is not None
        return found

    @property
    def plain(self) -> bool:
        """Whether the layers' program is a plain Llama's."""
        return self == Dims(*(getattr(self, name) for name in _PLAIN))

    def first_seen(self, layer: int, position: int) -> int:
        """The earliest position that ``position`` sees in a layer."""
        return max(position + 1 - self.window, 0) if self.sliding >> layer & 1 else 0

    def turn(self, layer: int, position: int) -> int:
        """First entry in the rotary table of what turns heads in a layer at a position."""
        return (position + (self.context if self.second_turns >> layer & 1 else 0)) * self.tile

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

    def kept(self, row: int) -> tuple[str, int]:
        """The operator whose values a row of a trace leaf holds, by name, and from which of its tiles
        on: in QKV the values come last."""
        return (("output", 0), ("attention.key", 0), ("attention.qkv", self.heads + self.kv_heads))[row]

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
        """(rows, columns); no rows where the family has no such matrix."""
        return {
            Matrix.EMBED: (self.vocab, self.hidden),
            Matrix.HEAD: (self.vocab, self.hidden),
            Matrix.QKV: ((self.heads + 2 * self.kv_heads) * self.tile, self.hidden + self.biased * self.tile),
            Matrix.OUT: (self.hidden, self.heads * self.tile),
            Matrix.GATE_UP: (2 * self.intermediate, self.hidden),
            Matrix.DOWN: (self.hidden, self.intermediate),
            Matrix.QUERY_SCALE: (int(self.query_norm is not None), self.heads * self.tile),
            Matrix.KEY_SCALE: (int(self.key_norm is not None), self.kv),
            Matrix.OUT_SCALE: (int(self.normed_after), self.hidden),
            Matrix.DOWN_SCALE: (int(self.normed_after), self.hidden),
        }.get(matrix, (0, self.hidden))

    @property
    def layer_matrices(self) -> tuple[Matrix, ...]:
        """The matrices that each layer has, in the order of the weight tree."""
        return tuple(matrix for matrix in Matrix if matrix >= Matrix.QKV and self.matrix_shape(matrix)[0])

    def weight_leaf(self, matrix: Matrix, layer: int, row: int, chunk: int) -> int:
        """Index in the weight tree of ``chunk`` (tile of columns) of a row."""
        counts = {m: rows * self.tiles(columns) for m in Matrix for rows, columns in [self.matrix_shape(m)]}
        per_layer = sum(counts[m] for m in Matrix if m >= Matrix.QKV)
        before = sum(counts[m] for m in Matrix if m < min(matrix, Matrix.QKV))
        if matrix >= Matrix.QKV:
            before += layer * per_layer + sum(counts[m] for m in Matrix if Matrix.QKV <= m < matrix)
        return before + row * self.tiles(self.matrix_shape(matrix)[1]) + chunk

    @property
    def weight_leaves(self) -> int:
        last = self.layer_matrices[-1]
        rows, columns = self.matrix_shape(last)
        return self.weight_leaf(last, self.layers - 1, rows - 1, self.tiles(columns) - 1) + 1

    def table_sizes(self) -> dict[Table, int]:
        """Entries of each table; rotary holds per position the cosines, then the sines, and where
        layers differ in it a second time for the others."""
        return {
            Table.EXP2: bits.EXP2_ENTRIES,
            Table.SIGMOID: bits.SIGMOID_ENTRIES,
            Table.ROTARY: (1 + (self.second_turns > 0)) * self.context * self.tile,
            Table.SATURATION: self.layers,
        }

    def table_leaf(self, table: Table, entry: int) -> int:
        """Index in the table tree of the tile that holds ``entry``."""
        return sum(self.tiles(n) for t, n in self.table_sizes().items() if t < table) + entry // self.tile

    @property
    def table_leaves(self) -> int:
        return sum(self.tiles(n) for n in self.table_sizes().values())


@dataclass(frozen=True)
class NormedDims(Dims):
    """Dimensions of a model whose queries and keys have norms."""

    lane: ClassVar[str] = bits.PORTABLE[1]


_PLAIN = tuple(name for name, field in Dims.__dataclass_fields__.items() if field.default is MISSING)
