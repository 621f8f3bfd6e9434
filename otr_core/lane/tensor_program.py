"""The lane ``h100-bf16`` as a program of small operators, in the form of ``program``.

Every value is a fp32 word, held as the signed 32-bit number that a trace leaf holds; where a value is
bf16, the lower half of the word is 0. Only the choice of a drawn token computes in integers. Weights
and the rotary table lie in their trees as such words too. What each operator holds, with n = p + 1
positions seen, rounded up to whole tiles:

    of a layer                  what it is                                      values
    input                       the residual stream                             hidden
    ….squares, total, factor    32 running sums of squares, their sum, and      32, 1, 1
                                1 / √(sum / hidden + ε)
    ….normed                    bf16 of x · factor · weight                     hidden
    attention.qkv               blocks of 16 along the columns                  (heads + 2 · kv_heads) · tile
    attention.query, key        bf16 of the same, each head turned              heads (kv_heads) · tile
    attention.value             bf16 of the values in qkv                       kv_heads · tile
    attention.values            the values of all positions, by column          kv_heads · tile · n
    attention.scores            blocks of 16, times 1 / √tile                   heads · n
    attention.top … total       e^(score − top), and their sum                  heads; heads · n; 32 · heads; heads
    attention.weights           bf16 of them                                    heads · n
    attention.mix               blocks of 16 along the positions                heads · tile
    attention.mixed             bf16 of the same over the sum                   heads · tile
    attention.residual          input + blocks                                  hidden
    mlp.gate_up, product        blocks; bf16 of SiLU(gate) · up                 2 · intermediate; intermediate
    output                      attention.residual + blocks                     hidden
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from otr_core.lane import formats as bits
from otr_core.lane.architecture import Architecture
from otr_core.lane.blocks import BF16_BLOCK
from otr_core.lane.dims import Dims, Matrix, Table
from otr_core.lane.program import Kind, Operator
from otr_core.lane.tensor_steps import LANE, LANES_OF_SUM

LEAST_TILE = 8
"""A block's 16 factors then lie in two tiles at most, so that one step reads four openings at most."""


@dataclass(frozen=True)
class TensorDims(Dims):
    """Dimensions of a plain Llama in this lane; ``epsilon`` is the norm's as a fp32 word, and
    ``numerator`` and ``drop`` stand for nothing."""

    lane: ClassVar[str] = LANE

    @classmethod
    def of(cls, a: Architecture) -> TensorDims:
        """Dimensions of a model that the lane takes (``otr_node.tensor_lane``)."""
        epsilon = int(struct.unpack(">I", struct.pack(">f", a.rms_eps))[0])
        sizes = a.hidden, a.intermediate, a.layers, a.heads, a.kv_heads, a.head_dim, a.vocab, a.context
        return cls(*sizes, epsilon, 0, 0)

    def matrix_shape(self, matrix: Matrix) -> tuple[int, int]:
        """As of ``Dims``; each layer has its two norms' weights, and the model's last norm's again."""
        return (1, self.hidden) if matrix >= Matrix.BEFORE_SCALE else super().matrix_shape(matrix)

    def table_sizes(self) -> dict[Table, int]:
        """The rotations, and what draws of tokens look up."""
        sizes = {Table.EXP2: bits.EXP2_ENTRIES, Table.ROTARY: self.context * self.tile}
        return dict.fromkeys(Table, 0) | sizes

    def kept(self, row: int) -> tuple[str, int]:
        """As of ``Dims``; values are rounded before they are kept."""
        return (("output", 0), ("attention.key", 0), ("attention.value", 0))[row]


@dataclass(frozen=True)
class _Line:
    """An operator that reads earlier ones by their names; the rest as ``Operator``."""

    name: str
    kind: Kind
    length: int
    steps: int
    reads: tuple[str, ...]
    matrix: Matrix | None = None
    first: int = 0


@functools.lru_cache(maxsize=256)
def tensor_layer(d: TensorDims, position: int) -> tuple[Operator, ...]:
    """The operators of one layer at ``position``, as ``layer_program``."""
    return _numbered(_layer(d, position + 1))


@functools.lru_cache(maxsize=256)
def tensor_token(d: TensorDims, temperature_milli: int) -> tuple[Operator, ...]:
    """The operators that choose a token, as ``token_program``: the first largest logit's, or one that
    is drawn as in the portable lane, from logits as integers."""
    return _numbered(_token(d, temperature_milli > 0))


def blocks_of(columns: int) -> int:
    """Blocks that so many products take."""
    return -(-columns // BF16_BLOCK.terms)


def _layer(d: TensorDims, seen: int) -> Iterator[_Line]:
    padded, heads, kv = d.padded(seen), d.heads * d.tile, d.kv
    wide, tiles = d.heads * padded, d.tiles(padded)
    yield _Line("input", Kind.COPY, d.hidden, 1, ())
    yield from _normed(d, "attention", "input", Matrix.BEFORE_SCALE)
    qkv = "attention.qkv"
    yield _matrix(d, qkv, Matrix.QKV, "attention.normed")
    yield _Line("attention.query", Kind.TURN, heads, 1, (qkv,))
    yield _Line("attention.key", Kind.TURN, kv, 1, (qkv,), None, d.heads)
    yield _Line("attention.value", Kind.NARROW, kv, 1, (qkv,), None, d.heads + d.kv_heads)
    yield _Line("attention.values", Kind.GATHER, kv * padded, 1, ("attention.value",))
    scores = "attention.scores"
    yield _Line(scores, Kind.SCORE_BLOCKS, wide, blocks_of(d.tile), ("attention.query", "attention.key"))
    yield _Line("attention.top", Kind.HIGHEST, d.heads, tiles, (scores,))
    yield _Line("attention.power", Kind.POWER, wide, 1, ("attention.top", scores))
    yield _Line("attention.lanes", Kind.LANES, d.heads * LANES_OF_SUM, tiles, ("attention.power",))
    yield _Line("attention.total", Kind.FOLD, d.heads, 1, ("attention.lanes",))
    yield _Line("attention.weights", Kind.NARROW, wide, 1, ("attention.power",))
    sources = "attention.weights", "attention.values"
    yield _Line("attention.mix", Kind.MIX_BLOCKS, heads, blocks_of(seen), sources)
    yield _Line("attention.mixed", Kind.QUOTIENT, heads, 1, ("attention.mix", "attention.total"))
    yield _matrix(d, "attention.residual", Matrix.OUT, "attention.mixed", "input")
    yield from _normed(d, "mlp", "attention.residual", Matrix.AFTER_SCALE)
    yield _matrix(d, "mlp.gate_up", Matrix.GATE_UP, "mlp.normed")
    yield _Line("mlp.product", Kind.SILU, d.intermediate, 1, ("mlp.gate_up",))
    yield _matrix(d, "output", Matrix.DOWN, "mlp.product", "attention.residual")


def _token(d: TensorDims, drawn: bool) -> Iterator[_Line]:
    yield _Line("input", Kind.COPY, d.hidden, 1, ())
    yield from _normed(d, "head", "input", Matrix.FINAL_SCALE)
    yield _matrix(d, "logits", Matrix.HEAD, "head.normed")
    tiles = d.tiles(d.vocab)
    if not drawn:
        yield _Line("choice", Kind.FIRST_HIGHEST, 1, tiles, ("logits",))
        return
    yield _Line("logits.fixed", Kind.FIXED, d.vocab, 1, ("logits",))
    yield _Line("choice.top", Kind.TOP, 1, tiles, ("logits.fixed",))
    yield _Line("choice.weights", Kind.TEMPER, d.vocab, 1, ("choice.top", "logits.fixed"))
    yield _Line("choice.total", Kind.SUM, 1, tiles, ("choice.weights",))
    yield _Line("choice", Kind.DRAW, 1, tiles, ("choice.weights", "choice.total"))


def _normed(d: TensorDims, name: str, source: str, weight: Matrix) -> Iterator[_Line]:
    """RMSNorm and its weight."""
    squares, total, factor = f"{name}.squares", f"{name}.total_squares", f"{name}.factor"
    yield _Line(squares, Kind.SQUARE_LANES, LANES_OF_SUM, d.tiles(d.hidden), (source,))
    yield _Line(total, Kind.FOLD, 1, 1, (squares,))
    yield _Line(factor, Kind.ROOT, 1, 1, (total,))
    yield _Line(f"{name}.normed", Kind.SCALED, d.hidden, 1, (factor, source), weight)


def _matrix(d: TensorDims, name: str, matrix: Matrix, *reads: str) -> _Line:
    rows, columns = d.matrix_shape(matrix)
    return _Line(name, Kind.BLOCKS, rows, blocks_of(columns), reads, matrix)


def _numbered(lines: Iterator[_Line]) -> tuple[Operator, ...]:
    numbers: dict[str, int] = {}
    operators = []
    for line in lines:
        reads = tuple(numbers[read] for read in line.reads)
        operators.append(Operator(line.name, line.kind, line.length, line.steps, reads, line.matrix, first=line.first))
        numbers[line.name] = len(numbers)
    return tuple(operators)
