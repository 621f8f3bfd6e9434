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
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from otr_core.lane import formats as bits
from otr_core.lane.dims import KEY, QUERY, STREAM, Dims, Matrix


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
    # Of the lane whose values are fp32 words (``tensor_primitives``):
    SQUARE_LANES = 21  # accumulate every 32nd square of a row
    LANES = 22  # accumulate every 32nd value of a row
    FOLD = 23  # 32 running sums to one
    ROOT = 24  # the norm's factor: two divisions and a square root
    SCALED = 25  # two products, rounded to bf16
    BLOCKS = 26  # accumulate blocks of 16 products with a row of a matrix, perhaps add
    TURN = 27  # two products with sine and cosine, rounded to bf16
    NARROW = 28  # rounded to bf16
    GATHER = 29  # a value of one position, so that blocks run along positions
    SCORE_BLOCKS = 30  # accumulate blocks of 16 products of a query with one key, one product
    HIGHEST = 31  # accumulate the first largest number
    POWER = 32  # e^x
    MIX_BLOCKS = 33  # accumulate blocks of 16 weights times values along the positions
    QUOTIENT = 34  # one division, rounded to bf16
    SILU = 35  # gate / (e^-gate + 1) * up, rounded to bf16
    FIRST_HIGHEST = 36  # as HIGHEST, with its index
    FIXED = 37  # a logit as an integer, from which draws are made


PORTABLE_KINDS = tuple(kind for kind in Kind if kind <= Kind.GELU)
"""The primitives of the portable lane."""


class LayerOperator(IntEnum):
    """One layer at one position of a plain Llama's program, numbered by its place in the list. Its trace leaf holds
    OUTPUT, KEY and the value part of QKV.

    Attributes:
        label: its name in results and messages.
    """

    label: str

    def __new__(cls, label: str) -> LayerOperator:
        member = int.__new__(cls, len(cls.__members__))
        member._value_ = len(cls.__members__)
        member.label = label
        return member

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
            length, steps = (outputs, d.tiles(inputs)) if line.kind == Kind.DOT else (inputs, 1)
            shift = line.matrix.shift - line.raw * (bits.NORMED - bits.RESIDUAL)
        elif line.kind == Kind.ROTATE:
            length, steps = (d.kv if line.norm == KEY else heads), 1
        elif line.kind in (Kind.PEAK, Kind.SQUARES, Kind.FACTOR, Kind.NORM):
            norm = d.norm(line.norm)
            length, steps = norm.rows, (1 if line.kind == Kind.FACTOR else d.tiles(norm.width))
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
