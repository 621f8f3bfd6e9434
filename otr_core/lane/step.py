"""Each arithmetic step of the portable lane, in integers alone: the one definition.

The lane computes a Llama decoder in fixed point: a value v with b fraction bits is the integer
v · 2^b, and ``formats`` says which values carry how many. A layer at one position p, and the choice
of a token, are each a *program*: a list of operators, each a vector made from earlier ones
(``program``). What each operator holds, with n = p + 1 positions seen, rounded up to whole tiles:

    of a layer              what it is                                    values
    INPUT                   x, the residual stream                        hidden
    PEAK … NORMED           x / √(mean of x² + epsilon)                   hidden
    QKV                     matrix · normed: queries, keys, values        (heads + 2 · kv_heads) · tile
    QUERY, KEY              the same, each head turned by the position    heads (kv_heads) · tile
    SCORES                  query · key of each position                  heads · n
    TOPS … WEIGHTS          softmax: 2^−(top − score) / their total       heads · n
    MIXED                   sum of weight · value over the positions      heads · tile
    RESIDUAL_SUM            x + matrix · mixed                            hidden
    MLP_PEAK … NORMED       as before, of RESIDUAL_SUM                    hidden
    GATE_UP                 matrix · normed: gates, then ups              2 · intermediate
    PRODUCT                 gate · sigmoid(gate) · up                     intermediate
    OUTPUT                  RESIDUAL_SUM + matrix · product               hidden

    of a token's choice
    INPUT, PEAK … NORMED    as above, of the last layer's output          hidden
    LOGITS                  matrix · normed                               vocab
    CHOICE                  the first largest logit's index; or a draw    1
                            with weights e^−((top − logit) / temperature)

That is a plain Llama's layer. What other families add stands between: norms of queries and keys,
each with its weight (``SCALE``), a cap of scores and logits, norms of what leaves attention and
MLP; a window hides early positions, biases are a column of QKV that is multiplied with one.

An element of an operator is made in one or more steps. Each kind of step is a *primitive* below,
and all primitives have one shape: they turn the accumulator before the step into the one after it,
and a finish turns the last accumulator into the element's value. A primitive that needs no
accumulation gives its value in its only step. What a step needs it reads from a ``Reader`` (see
``element``). The order of its reads is part of the definition, because openings are matched to
reads by their order.

Who reads from where decides what is done with it. The court's judge reads openings under committed
roots and says whether a step is ``right``. A player reads its own values and computes
``accumulators``. A spot check's verifier reads opened rows and computes a ``value``. The contract
``judge.vy`` and the vectorised lane (``otr_node.portable``) are the other copies of these
definitions; both are compared with this one, primitive by primitive.

The lane ``h100-bf16`` has programs of its own (``tensor_program``) over fp32 words; its primitives
stand in ``tensor_primitives`` and are judged in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isqrt

from otr_core.lane import formats as bits
from otr_core.lane.dims import PIECE_VALUES, Dims, Matrix, Table
from otr_core.lane.element import LAYER, PADDING, TOKEN, Accumulator, Element, Place, Reader, TraceClaim, program
from otr_core.lane.primitive import Primitive, at_once
from otr_core.lane.program import Kind, Operator
from otr_core.lane.sampling import draw
from otr_core.lane.tensor_primitives import TENSOR_PRIMITIVES

LOWEST = -(2**62)
"""Start of a running maximum; below every value of the lane."""


# --- judging and computing


def right(d: Dims, claim: TraceClaim, place: Place, read: Reader) -> bool:
    """Whether the step at ``place`` follows from the values that ``read`` gives.

    A step is judged by itself: the values it reads are taken as they are. If one of them is wrong,
    then another step is, the one that made it.
    """
    operators = program(d, place.target, place.position, claim.temperature_milli)
    # What the trace holds of the program's results must be a copy of them.
    if place.operator == len(operators):
        return _kept(d, place, operators, read) == place.value
    at = Element(d, claim, place, operators[place.operator], read)
    primitive, steps = PRIMITIVES[at.operator.kind], at.operator.steps
    # A single step and its finish are judged together: there is no accumulator between them that
    # anyone committed to.
    if steps == 1:
        return value(at) == place.value
    # The finish: from the last accumulator to the value that the operator published.
    if place.step == steps:
        return primitive.finish(at, read.accumulator(steps - 1)) == place.value
    # Any other step: from the accumulator before it to the one after it.
    before = read.accumulator(place.step - 1) if place.step else primitive.start
    after = read.accumulator(place.step)
    return primitive.step(at, place.step, before) == after


def accumulators(at: Element) -> Iterator[Accumulator]:
    """The accumulator after each step of an element."""
    primitive = PRIMITIVES[at.operator.kind]
    after = primitive.start
    for step in range(at.operator.steps):
        after = primitive.step(at, step, after)
        yield after


def value(at: Element) -> int:
    """The value of an element, from its first step to its finish."""
    *_, last = accumulators(at)
    return PRIMITIVES[at.operator.kind].finish(at, last)


def _kept(d: Dims, place: Place, operators: tuple[Operator, ...], read: Reader) -> int:
    """What the trace should hold: a value of a layer's output, key or value row, or a token's
    id."""
    if place.target == TOKEN:
        return read.tile(len(operators) - 1, 0)[0]
    row, first = d.piece_place(place.piece)  # rows 0, 1, 2 of a trace leaf: output, key, value
    name, tiles = d.kept(row)
    operator = next(number for number, each in enumerate(operators) if each.name == name)
    at = tiles * d.tile + first + place.element
    return read.tile(operator, at // d.tile)[at % d.tile]


# --- rounding


def shift(x: int, count: int) -> int:
    """x / 2^count to nearest, halves up; a negative count multiplies."""
    return (x + (1 << (count - 1))) >> count if count > 0 else x << -count


def saturate(x: int, bound: int) -> int:
    """x, or the nearer of ±bound beyond them."""
    return max(-bound, min(bound, x))


def look_up(read: Reader, table: Table, index: int) -> int:
    """The table's entry at ``index``, or its first or last entry when the index is outside."""
    entries = {Table.EXP2: bits.EXP2_ENTRIES, Table.SIGMOID: bits.SIGMOID_ENTRIES}[table]
    return read.table(table, min(max(index, 0), entries - 1))


# --- primitives: what enters the program


def _copy(at: Element) -> int:
    """COPY: the residual stream that enters the program, one value."""
    place, number = at.place, at.number
    # The first layer reads the embedding of the token that was fed.
    if place.target == LAYER and place.layer == 0:
        row = at.read.token(place.position)
        return at.read.weights(Matrix.EMBED, row, number // at.d.tile)[number % at.d.tile]
    # Other layers read the output of the one below, the choice of a token that of the last.
    layer = place.layer if place.target == TOKEN else place.layer - 1
    return at.read.piece(place.position, layer, number // PIECE_VALUES)[number % PIECE_VALUES]


# --- primitives: RMSNorm, x / √(mean of x² + epsilon), its weight being part of the next matrix


def norm_scale(peak: int) -> int:
    """Bits to the left by which a row of largest magnitude ``peak`` is scaled before it is squared.

    The row then has NORM_INPUT bits: a small row keeps enough of them, and the squares of a large
    one stay far below what 64 bits hold. The scale falls out of the quotient again.
    """
    return min(bits.NORM_INPUT - peak.bit_length(), -bits.NORM_LEAST_SCALE)


def _peak(at: Element, step: int, before: Accumulator) -> Accumulator:
    """PEAK: the largest magnitude of a row."""
    return max(before[0], *(abs(x) for x in at.row_tile(0, step))), 0


def _squares(at: Element, step: int, before: Accumulator) -> Accumulator:
    """SQUARES: the sum of the squares of the scaled row."""
    scale = norm_scale(at.value(0, at.number))
    return before[0] + sum(shift(x, -scale) ** 2 for x in at.row_tile(1, step)), 0


def _factor(at: Element) -> int:
    """FACTOR: by what the scaled row is multiplied, √width / √(sum of its squares + epsilon)."""
    norm, scale = at.norm, norm_scale(at.value(0, at.number))
    squares = at.value(1, at.number) + shift(norm.epsilon, -2 * scale)  # epsilon is scaled as squares are
    # Four times the squares give the root one more bit. ``numerator`` is √width with all the
    # fraction bits that NORM still drops.
    return norm.numerator // isqrt(max(4 * squares, 1))


def _norm(at: Element) -> int:
    """NORM: one scaled value times its row's factor; past the rows a one, then zeros."""
    norm, number = at.norm, at.number
    row = number // norm.width
    if row == norm.rows:
        return 1 << bits.NORMED if number % norm.width == 0 else 0
    scale, factor = norm_scale(at.value(0, row)), at.value(1, row)
    x = at.value(2, at.operator.first * at.d.tile + number)
    return shift(shift(x, -scale) * factor, norm.drop)


def _scale(at: Element) -> int:
    """SCALE: a normed value times its norm's weight, in the result's format; added to the residual
    stream where that is a second source."""
    assert at.operator.matrix is not None
    x, t = at.value(0, at.number), at.d.tile
    weight = at.read.weights(at.operator.matrix, 0, at.number // t)[at.number % t]
    return _added(at, shift(x * weight, at.operator.shift))


# --- primitives: matrices


def _dot(at: Element, step: int, before: Accumulator) -> Accumulator:
    """DOT: the sum of products of a vector with one row of a matrix, a tile at a time."""
    assert at.operator.matrix is not None
    x = at.tile(0, step)  # (tile,)
    w = at.read.weights(at.operator.matrix, at.number, step)  # (tile,)
    return before[0] + sum(a * b for a, b in zip(x, w, strict=True)), 0


def _dot_finish(at: Element, last: Accumulator) -> int:
    """The sum in the result's format, added to the residual stream where that is a second
    source."""
    result = shift(last[0], at.operator.shift)
    return saturate(result, bits.INT32) if at.operator.saturates else _added(at, result)


def _added(at: Element, result: int) -> int:
    """What a DOT or SCALE gives, with its second source if it has one."""
    if len(at.operator.reads) == 1:
        return result
    return saturate(result + at.value(1, at.number), bits.INT32)  # the trace holds it as int32


# --- primitives: attention


def _rotate(at: Element) -> int:
    """ROTATE: one value of a query or key head, turned by the position.

    Value j of the head is one coordinate, value j + tile / 2 the other, of a point in a plane.
    """
    half, j = at.d.tile // 2, at.number % at.d.tile
    x = at.tile(0, at.operator.first + at.number // at.d.tile)  # (tile,)
    turn = at.read.rotation(at.place.position)  # (tile,): half cosines, half sines
    if j < half:
        return shift(x[j] * turn[j] - x[j + half] * turn[j + half], bits.ROTARY)
    return shift(x[j] * turn[j - half] + x[j - half] * turn[j], bits.ROTARY)


def _score(at: Element) -> int:
    """SCORE: a head's query times the key of one position; it has 2 · HEAD fraction bits."""
    head, position = at.head_and_position()
    if not at.sees(position):
        return PADDING
    query = at.tile(0, head)  # (tile,)
    key = at.group_row(1, head, position, own=0)  # (tile,)
    return sum(a * b for a, b in zip(query, key, strict=True))


def _cap(at: Element) -> int:
    """CAP: cap · tanh(x / cap), of a score or a logit.

    The hyperbolic tangent is 2 · sigmoid(2x / cap) − 1. Between two entries of the sigmoid's table
    its slope, sigmoid · (1 − sigmoid), leads on.
    """
    if at.place.target == LAYER and not at.sees(at.head_and_position()[1]):
        return PADDING
    cap = at.d.score_cap if at.place.target == LAYER else at.d.logit_cap
    x = at.value(0, at.number)
    index = (min(abs(x), bits.SIGMOID_LIMIT // 2 * cap) << (1 + bits.SIGMOID_INDEX + bits.CAP_REST)) // cap
    entry = look_up(at.read, Table.SIGMOID, (index >> bits.CAP_REST) + bits.SIGMOID_ZERO)
    slope = entry * ((1 << bits.SIGMOID) - entry)
    rest = index & ((1 << bits.CAP_REST) - 1)
    sigmoid = (entry << bits.CAP_MORE) + (slope * rest >> bits.CAP_SLOPE)
    one = 1 << (bits.SIGMOID + bits.CAP_MORE)
    made = shift(cap * (2 * sigmoid - one), bits.SIGMOID + bits.CAP_MORE)
    return made if x >= 0 else -made


def _top(at: Element, step: int, before: Accumulator) -> Accumulator:
    """TOP: the largest value of a row, of a head's scores or of the logits."""
    return max(before[0], *at.tile(0, at.number * at.operator.steps + step)), 0


def _exp(at: Element) -> int:
    """EXP: 2^−(distance to the head's largest score).

    The query weights hold the factors log2(e) and 1/√tile, so that this is the e^x of a softmax.
    """
    head, _ = at.head_and_position()
    below = at.value(0, head) - at.value(1, at.number)
    return look_up(at.read, Table.EXP2, below >> bits.SCORE_SHIFT)


def _sum(at: Element, step: int, before: Accumulator) -> Accumulator:
    """SUM: the total of a row of weights."""
    return before[0] + sum(at.tile(0, at.number * at.operator.steps + step)), 0


def _share(at: Element) -> int:
    """SHARE: one over a head's total: what makes its weights sum to one, or a little less."""
    return bits.ONE_SHARE // max(at.value(0, at.number), 1)


def _weight(at: Element) -> int:
    """WEIGHT: one attention weight; rounded down, so that no sum of them passes one."""
    head, _ = at.head_and_position()
    share = at.value(0, head)
    return at.value(1, at.number) * share >> bits.EXP


def _mix(at: Element, step: int, before: Accumulator) -> Accumulator:
    """MIX: the sum over the positions seen of weight × value, one position a step."""
    head, column = divmod(at.number, at.d.tile)
    weight = at.value(0, head * at.d.padded(at.place.position + 1) + step)
    # In QKV the values come last.
    (x,) = at.group_row(2, head, step, own=at.d.heads + at.d.kv_heads, only=column)
    return before[0] + weight * x, 0


def _mix_finish(at: Element, last: Accumulator) -> int:
    """The weights' fraction bits are dropped."""
    return shift(last[0], bits.PROBABILITY)


# --- primitives: the MLP


def _gate(at: Element) -> int:
    """GATE: gate · sigmoid(gate) · up.

    It is saturated at a power of two of the layer, so that no sum of its products with a row of
    DOWN passes 2^52.
    """
    return _gated(at, lambda gate: gate)


def _gelu(at: Element) -> int:
    """GELU: as GATE, with the sigmoid of 2√(2/π) · (gate + 0.044715 · gate³); that is the GELU in its
    form with a hyperbolic tangent. Beyond ±8 the sigmoid is 0 or 1."""

    def bent(gate: int) -> int:
        x = saturate(gate, bits.GELU_MOST)
        inner = bits.GELU_LINEAR + (bits.GELU_CUBIC * (x * x >> bits.GATE) >> bits.GATE)
        return x * inner >> bits.GELU

    return _gated(at, bent)


def _gated(at: Element, bent: Callable[[int], int]) -> int:
    """gate · sigmoid(``bent``(gate)) · up, saturated."""
    gate, up = at.value(0, at.number), at.value(0, at.d.intermediate + at.number)
    sigmoid = look_up(at.read, Table.SIGMOID, shift(bent(gate), bits.SIGMOID_SHIFT) + bits.SIGMOID_ZERO)
    activated = shift(sigmoid * gate, bits.SIGMOID)
    bound = 1 << at.read.table(Table.SATURATION, at.place.layer)
    return saturate(shift(activated * up, bits.PRODUCT_SHIFT), bound)


# --- primitives: the choice of a token


def _argmax(at: Element, step: int, before: Accumulator) -> Accumulator:
    """ARGMAX: the largest logit and the index of the first that reaches it."""
    largest, index = before
    for i, logit in enumerate(at.tile(0, step), start=step * at.d.tile):
        if logit > largest:
            largest, index = logit, i
    return largest, index


def _temper(at: Element) -> int:
    """TEMPER: a token's weight in the draw, e^−(distance to the largest logit / temperature)."""
    below = at.value(0, 0) - at.value(1, at.number)
    index = below * bits.TEMPERATURE_FACTOR // (at.claim.temperature_milli << bits.TEMPERATURE_SHIFT)
    return look_up(at.read, Table.EXP2, index)


def _draw(at: Element, step: int, before: Accumulator) -> Accumulator:
    """DRAW: the sum of weights in the order of token ids, and the drawn token.

    That is the first token at which the sum passes the drawn part of the total; −1 before it.
    """
    total, index = before
    weights = at.tile(0, step)  # (tile,), or shorter at the end of the vocabulary
    # The draw is a fraction of 53 bits.
    target = draw(at.claim.seed, at.place.token_step, at.claim.order_id) * at.value(1, 0) >> 53
    for i, weight in enumerate(weights, start=step * at.d.tile):
        total += weight
        if index < 0 and total > target:
            index = i
    return total, index


# --- the table of primitives


def _index(at: Element, last: Accumulator) -> int:
    """The finish of the choices of a token: the index is its id."""
    return last[1]


PRIMITIVES = {
    Kind.COPY: at_once(_copy),
    Kind.PEAK: Primitive(_peak),
    Kind.SQUARES: Primitive(_squares),
    Kind.FACTOR: at_once(_factor),
    Kind.NORM: at_once(_norm),
    Kind.DOT: Primitive(_dot, _dot_finish),
    Kind.ROTATE: at_once(_rotate),
    Kind.SCORE: at_once(_score),
    Kind.TOP: Primitive(_top, start=(LOWEST, 0)),
    Kind.EXP: at_once(_exp),
    Kind.SUM: Primitive(_sum),
    Kind.SHARE: at_once(_share),
    Kind.WEIGHT: at_once(_weight),
    Kind.MIX: Primitive(_mix, _mix_finish),
    Kind.GATE: at_once(_gate),
    Kind.ARGMAX: Primitive(_argmax, _index, start=(LOWEST, 0)),
    Kind.TEMPER: at_once(_temper),
    Kind.DRAW: Primitive(_draw, _index, start=(0, -1)),
    Kind.SCALE: at_once(_scale),
    Kind.CAP: at_once(_cap),
    Kind.GELU: at_once(_gelu),
    **TENSOR_PRIMITIVES,
}
