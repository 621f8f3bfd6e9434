"""The portable lane as a program of small operators, which can be judged step by step.

A layer at one position, and the choice of one token, are each a list of operators over vectors of
integers, in the order of their computation; an operator's number is its place in the list. It says
which primitive (``Kind``) is applied to which earlier operators' values. How a primitive computes
is defined in ``step``. Which operators a layer has follows from what its family adds to a plain
Llama (``Dims``); the enums below number the operators of a plain one.

A vector is cut into *tiles* of ``head_dim`` values. An element of an operator is either computed at
once from a few opened values (``steps`` = 1), or by ``steps`` accumulations over tiles followed by
a finish. The player opens exactly the values that a step reads; the judge (``dispute.judge``, and
``judge.vy`` on chain) accepts no others.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
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
    SCALE = 18  # a normed value times its norm's weight, shift, perhaps add and saturate
    CAP = 19  # cap · tanh(x / cap) by table
    GELU = 20  # as GATE, with the GELU in its tanh form


class Matrix(IntEnum):
    """Matrices in the order of the weight tree: two of the model, then those of each layer. The last
    four are rows: weights of norms that no matrix follows, in families that have such norms."""

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


class _Numbered(IntEnum):
    """An operator of a plain Llama's program, numbered by its place in the list.

    Attributes:
        label: its name in results and messages.
    """

    label: str

    def __new__(cls, label: str) -> _Numbered:
        member = int.__new__(cls, len(cls.__members__))
        member._value_ = len(cls.__members__)
        member.label = label
        return member


class LayerOperator(_Numbered):
    """One layer at one position. Its trace leaf holds OUTPUT, KEY and the value part of QKV."""

    INPUT = "input"
    ATTENTION_PEAK = "attention.peak"
    ATTENTION_SQUARES = "attention.squares"
    ATTENTION_FACTOR = "attention.factor"
    ATTENTION_NORMED = "attention.normed"
    QKV = "attention.qkv"
    QUERY = "attention.query"
    KEY = "attention.key"
    SCORES = "attention.scores"
    TOPS = "attention.top"
    EXPS = "attention.exp"
    TOTALS = "attention.total"
    SHARES = "attention.share"
    WEIGHTS = "attention.weights"
    MIXED = "attention.mixed"
    RESIDUAL_SUM = "attention.residual"
    MLP_PEAK = "mlp.peak"
    MLP_SQUARES = "mlp.squares"
    MLP_FACTOR = "mlp.factor"
    MLP_NORMED = "mlp.normed"
    GATE_UP = "mlp.gate_up"
    PRODUCT = "mlp.product"
    OUTPUT = "output"


class GreedyOperator(_Numbered):
    """The choice of a token at temperature 0, from the last layer's output; CHOICE is its id."""

    INPUT = "input"
    PEAK = "head.peak"
    SQUARES = "head.squares"
    FACTOR = "head.factor"
    NORMED = "head.normed"
    LOGITS = "logits"
    CHOICE = "choice"


class SampledOperator(_Numbered):
    """The choice of a token by a draw, from the last layer's output; CHOICE is its id."""

    INPUT = "input"
    PEAK = "head.peak"
    SQUARES = "head.squares"
    FACTOR = "head.factor"
    NORMED = "head.normed"
    LOGITS = "logits"
    TOP = "choice.top"
    WEIGHTS = "choice.weights"
    TOTAL = "choice.total"
    CHOICE = "choice"


class Table(IntEnum):
    """Tables as they lie in the table tree, in this order."""

    EXP2 = 0
    SIGMOID = 1
    ROTARY = 2
    SATURATION = 3


@dataclass(frozen=True)
class Operator:
    """One operator of a program: ``length`` values, each made in ``steps`` steps.

    Attributes:
        name: in results and messages. kind: its primitive.
        reads: numbers of the earlier operators whose values it reads, in the order in which a step
            opens them.
        matrix: what a DOT or SCALE multiplies with. shift: bits that it drops then.
        norm: which of ``Dims.norms`` it is part of. first: the tile of its source, the first that
            it reads, at which its rows begin.
        saturates: whether a DOT's result saturates at int32 though it is not added to anything:
            what it multiplies with is not normalised, so that nothing else bounds it.
    """

    name: str
    kind: Kind
    length: int
    steps: int = 1
    reads: tuple[int, ...] = ()
    matrix: Matrix | None = None
    shift: int = 0
    norm: int = 0
    first: int = 0
    saturates: bool = False


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
        return cls(
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
        }[matrix]

    @property
    def layer_matrices(self) -> tuple[Matrix, ...]:
        """The matrices that each layer has, in the order of the weight tree."""
        return tuple(matrix for matrix in Matrix if matrix >= Matrix.QKV and self.matrix_shape(matrix)[0])

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
        last = self.layer_matrices[-1]
        rows, columns = self.matrix_shape(last)
        return self.weight_leaf(last, self.layers - 1, rows - 1, columns // self.tile - 1) + 1

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


_PLAIN = tuple(name for name, field in Dims.__dataclass_fields__.items() if field.default is MISSING)


@dataclass(frozen=True)
class _Line:
    """An operator before it has sizes; it reads earlier ones by their names."""

    name: str
    kind: Kind
    reads: tuple[str, ...] = ()
    matrix: Matrix | None = None
    norm: int = STREAM
    first: int = 0
    raw: bool = False  # multiplies with a stream that is not normalised


@functools.lru_cache(maxsize=256)
def layer_program(d: Dims, position: int) -> tuple[Operator, ...]:
    """The operators of one layer at ``position``, in order of computation.

    One number past their end stands for what the trace leaf holds: a copy of the operators
    "output", "attention.key" and the value part of "attention.qkv".
    """
    return _sized(_layer_lines(d), d, d.heads, d.padded(position + 1), position + 1)


@functools.lru_cache(maxsize=256)
def token_program(d: Dims, temperature_milli: int) -> tuple[Operator, ...]:
    """The operators that choose a token; the last one's value is the token's id."""
    return _sized(_token_lines(d, temperature_milli > 0), d, 1, d.vocab, 0)


@functools.cache
def _layer_lines(d: Dims) -> tuple[_Line, ...]:
    return tuple(_layer(d))


def _layer(d: Dims) -> Iterator[_Line]:
    yield _Line("input", Kind.COPY)
    entering = "input"
    if d.normed_before:
        yield from _normed("attention", entering)
        entering = "attention.normed"
    qkv = "attention.qkv"
    yield _Line(qkv, Kind.DOT, (entering,), Matrix.QKV, raw=not d.normed_before)
    query, key, first = qkv, qkv, d.heads  # in QKV the keys follow the query heads
    if d.query_norm:
        yield from _normed("query", qkv, QUERY)
        yield _Line("query.scaled", Kind.SCALE, ("query.normed",), Matrix.QUERY_SCALE, QUERY)
        yield from _normed("key", qkv, KEY, d.heads)
        yield _Line("key.scaled", Kind.SCALE, ("key.normed",), Matrix.KEY_SCALE, KEY)
        query, key, first = "query.scaled", "key.scaled", 0
    yield _Line("attention.query", Kind.ROTATE, (query,))
    yield _Line("attention.key", Kind.ROTATE, (key,), norm=KEY, first=first)
    scores = "attention.scores"
    yield _Line(scores, Kind.SCORE, ("attention.query", "attention.key"))
    if d.score_cap:
        yield _Line("attention.capped", Kind.CAP, (scores,))
        scores = "attention.capped"
    yield _Line("attention.top", Kind.TOP, (scores,))
    yield _Line("attention.exp", Kind.EXP, ("attention.top", scores))
    yield _Line("attention.total", Kind.SUM, ("attention.exp",))
    yield _Line("attention.share", Kind.SHARE, ("attention.total",))
    yield _Line("attention.weights", Kind.WEIGHT, ("attention.share", "attention.exp"))
    yield _Line("attention.mixed", Kind.MIX, ("attention.weights", qkv))
    yield from _added(d, "attention", "attention.residual", "attention.mixed", "input", Matrix.OUT)
    entering = "attention.residual"
    if d.normed_before:
        yield from _normed("mlp", entering)
        entering = "mlp.normed"
    yield _Line("mlp.gate_up", Kind.DOT, (entering,), Matrix.GATE_UP, raw=not d.normed_before)
    yield _Line("mlp.product", Kind.GELU if d.gelu else Kind.GATE, ("mlp.gate_up",))
    yield from _added(d, "mlp", "output", "mlp.product", "attention.residual", Matrix.DOWN)


def _normed(name: str, source: str, norm: int = STREAM, first: int = 0) -> Iterator[_Line]:
    """RMSNorm without its weight."""
    peak, squares, factor = f"{name}.peak", f"{name}.squares", f"{name}.factor"
    yield _Line(peak, Kind.PEAK, (source,), None, norm, first)
    yield _Line(squares, Kind.SQUARES, (peak, source), None, norm, first)
    yield _Line(factor, Kind.FACTOR, (peak, squares), None, norm)
    yield _Line(f"{name}.normed", Kind.NORM, (peak, factor, source), None, norm, first)


def _added(d: Dims, part: str, name: str, source: str, stream: str, matrix: Matrix) -> Iterator[_Line]:
    """What leaves attention or the MLP, added to the residual stream; perhaps normalised before."""
    if not d.normed_after:
        yield _Line(name, Kind.DOT, (source, stream), matrix)
        return
    yield _Line(f"{part}.left", Kind.DOT, (source,), matrix)
    yield from _normed(f"{part}.left", f"{part}.left")
    scale = Matrix.OUT_SCALE if matrix == Matrix.OUT else Matrix.DOWN_SCALE
    yield _Line(name, Kind.SCALE, (f"{part}.left.normed", stream), scale)


@functools.cache
def _token_lines(d: Dims, drawn: bool) -> tuple[_Line, ...]:
    lines = [_Line("input", Kind.COPY), *_normed("head", "input")]
    lines.append(_Line("logits", Kind.DOT, ("head.normed",), Matrix.HEAD))
    logits = "logits"
    if d.logit_cap:
        logits = "logits.capped"
        lines.append(_Line(logits, Kind.CAP, ("logits",)))
    if not drawn:
        return (*lines, _Line("choice", Kind.ARGMAX, (logits,)))
    lines.append(_Line("choice.top", Kind.TOP, (logits,)))
    lines.append(_Line("choice.weights", Kind.TEMPER, ("choice.top", logits)))
    lines.append(_Line("choice.total", Kind.SUM, ("choice.weights",)))
    return (*lines, _Line("choice", Kind.DRAW, ("choice.weights", "choice.total")))


def _sized(lines: tuple[_Line, ...], d: Dims, rows: int, width: int, seen: int) -> tuple[Operator, ...]:
    """A program's operators with their sizes.

    Args:
        rows, width: of the weights that are summed to one: per head over the places seen (in whole
            tiles), or one row over the vocabulary. seen: positions that attention mixes.
    """
    heads = d.heads * d.tile
    sizes = {
        Kind.COPY: (d.hidden, 1),
        Kind.SHARE: (rows, 1),
        Kind.MIX: (heads, seen),
        Kind.GATE: (d.intermediate, 1),
        Kind.GELU: (d.intermediate, 1),
    }
    sizes |= dict.fromkeys((Kind.SCORE, Kind.CAP, Kind.EXP, Kind.WEIGHT, Kind.TEMPER), (rows * width, 1))
    sizes |= dict.fromkeys((Kind.TOP, Kind.SUM, Kind.ARGMAX, Kind.DRAW), (rows, d.tiles(width)))
    numbers = {line.name: number for number, line in enumerate(lines)}
    operators = []
    for line in lines:
        shift = 0
        if line.matrix is not None:
            outputs, inputs = d.matrix_shape(line.matrix)
            length, steps = (outputs, inputs // d.tile) if line.kind == Kind.DOT else (inputs, 1)
            shift = line.matrix.shift - line.raw * (bits.NORMED - bits.RESIDUAL)
        elif line.kind == Kind.ROTATE:
            length, steps = (d.kv if line.norm == KEY else heads), 1
        elif line.kind in (Kind.PEAK, Kind.SQUARES, Kind.FACTOR, Kind.NORM):
            norm = d.norm(line.norm)
            length, steps = norm.rows, (1 if line.kind == Kind.FACTOR else norm.width // d.tile)
            if line.kind == Kind.NORM:
                # a one and zeros, which the biases are multiplied with
                length, steps = norm.rows * norm.width + (d.biased and line.name == BIASED) * d.tile, 1
        else:
            length, steps = sizes[line.kind]
        reads = tuple(numbers[read] for read in line.reads)
        more = (line.matrix, shift, line.norm, line.first, line.raw)
        operators.append(Operator(line.name, line.kind, length, steps, reads, *more))
    return tuple(operators)


BIASED = "attention.normed"
"""The operator whose values are followed by a one where queries, keys and values have biases."""
