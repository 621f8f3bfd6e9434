"""One arithmetic step of the portable lane, in integers alone: the definition for court, player and spot check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Protocol

from otr_core import merkle
from otr_core.lane import formats as bits
from otr_core.lane import program as pr
from otr_core.lane.program import Dims, Kind, Matrix, Operator, Table
from otr_core.lane.sampling import draw

LAYER, TOKEN = 0, 1
"""What is disputed: a layer's state at a position, or the choice of a token."""


LOWEST = -(2**62)
"""Start of a running maximum; below every value of the lane."""


PADDING = -(2**52)
"""Score of a place beyond the tokens seen; its weight is 0."""


TEMPERATURE_FACTOR = round(bits.LOG2E * 1000 * 2**20)


@dataclass(frozen=True)
class TraceClaim:
    """What the disputed receipt commits to, as far as a step depends on it."""

    states_root: bytes
    tokens_root: bytes
    seed_hash: bytes
    positions: int
    seed: int
    temperature_milli: int

    @property
    def trace_root(self) -> bytes:
        """The receipt's trace root."""
        return merkle.root_of_hashes([self.states_root, self.tokens_root, self.seed_hash])


@dataclass(frozen=True)
class Place:
    """Which step: where in the program, and the value that the operator published for the element.

    Attributes:
        target: ``LAYER`` or ``TOKEN``. position: fed position. layer: for a token the last one.
        operator: number in the program; one past its end for what the trace holds.
        piece: for what the trace holds of a layer: the piece.
        element, step: of the operator; step = steps is the finish.
        value: published value of the element.
        token_step: for a token: number of the answer token.
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
    """Where the judge gets values from."""

    def tile(self, operator: int, tile: int) -> Sequence[int]: ...
    def piece(self, position: int, layer: int, piece: int) -> Sequence[int]: ...
    def weights(self, matrix: Matrix, row: int, chunk: int) -> Sequence[int]: ...
    def table(self, table: Table, entry: int) -> int: ...
    def rotation(self, position: int) -> Sequence[int]: ...
    def token(self, at: int) -> int: ...
    def accumulator(self, step: int) -> tuple[int, int]: ...


def program(d: Dims, place_target: int, position: int, temperature_milli: int) -> tuple[Operator, ...]:
    """The program that a disputed target runs."""
    return pr.layer_program(d, position) if place_target == LAYER else pr.token_program(d, temperature_milli)


def shift(x: int, count: int) -> int:
    """x / 2^count to nearest, halves up; a negative count multiplies."""
    return (x + (1 << (count - 1))) >> count if count > 0 else x << -count


def saturate(x: int, bound: int) -> int:
    return max(-bound, min(bound, x))


def right(d: Dims, claim: TraceClaim, place: Place, read: Reader) -> bool:
    """Whether the step at ``place`` is computed rightly from the values ``read`` gives."""
    operators = program(d, place.target, place.position, claim.temperature_milli)
    if place.operator == len(operators):
        return _kept(d, place, operators, read) == place.value
    operator = operators[place.operator]
    if operator.steps == 1:
        after = _accumulate(d, claim, place, operator, 0, _start(operator.kind), read)
        return _finish(d, place, operator, after, read) == place.value
    if place.step == operator.steps:
        return _finish(d, place, operator, read.accumulator(place.step - 1), read) == place.value
    before = read.accumulator(place.step - 1) if place.step else _start(operator.kind)
    after = read.accumulator(place.step)
    return _accumulate(d, claim, place, operator, place.step, before, read) == after


def _start(kind: Kind) -> tuple[int, int]:
    return (LOWEST, 0) if kind in (Kind.TOP, Kind.ARGMAX) else (0, -1) if kind == Kind.DRAW else (0, 0)


def _kept(d: Dims, place: Place, operators: tuple[Operator, ...], read: Reader) -> int:
    """What the trace should hold: of a layer, a value of its output, key or value row; of a token, the chosen id."""
    if place.target == TOKEN:
        return read.tile(len(operators) - 1, 0)[0]
    row, first = d.piece_place(place.piece)
    at = first + place.element
    operator = (pr.OUTPUT, pr.KEY, pr.QKV)[row]
    at += (d.heads + d.kv_heads) * d.tile if row == 2 else 0
    return read.tile(operator, at // d.tile)[at % d.tile]


def _norm_source(place: Place) -> tuple[int, int]:
    """(operator whose values are normed, number of the norm's first operator)."""
    second = place.target == LAYER and place.operator > pr.RESIDUAL_SUM
    return (pr.RESIDUAL_SUM, pr.RESIDUAL_SUM + 1) if second else (pr.INPUT, pr.INPUT + 1)


def _power(peak: int) -> int:
    return min(bits.NORM_INPUT - peak.bit_length(), -bits.NORM_LEAST_SCALE)


def _dot(d: Dims, place: Place) -> tuple[Matrix, int, int]:
    """(matrix, operator whose values it multiplies, bits of the shift)."""
    if place.target == TOKEN:
        return Matrix.HEAD, pr.LOGITS - 1, bits.NORMED + bits.WEIGHT - bits.LOGIT
    return {
        pr.QKV: (Matrix.QKV, pr.QKV - 1, bits.NORMED + bits.WEIGHT - bits.HEAD),
        pr.RESIDUAL_SUM: (Matrix.OUT, pr.MIXED, bits.HEAD + bits.WEIGHT - bits.RESIDUAL),
        pr.GATE_UP: (Matrix.GATE_UP, pr.GATE_UP - 1, bits.NORMED + bits.WEIGHT - bits.GATE),
        pr.OUTPUT: (Matrix.DOWN, pr.PRODUCT, bits.MLP + bits.WEIGHT - bits.RESIDUAL),
    }[place.operator]


def _key_or_value(d: Dims, place: Place, row: int, at: int, group: int, read: Reader) -> Sequence[int]:
    """The ``tile`` values of a group in the key (1) or value (2) row of position ``at``."""
    if at == place.position:
        return read.tile(pr.KEY, group) if row == 1 else read.tile(pr.QKV, d.heads + d.kv_heads + group)
    first = group * d.tile
    values = read.piece(at, place.layer, d.piece_of(row, first))
    return values[first % pr.PIECE_VALUES : first % pr.PIECE_VALUES + d.tile]


def _accumulate(
    d: Dims, claim: TraceClaim, place: Place, operator: Operator, step: int, before: tuple[int, int], read: Reader
) -> tuple[int, int]:
    """The accumulator after ``step``; (value, 0), but for the choices, which carry an index too."""
    kind, element, t = operator.kind, place.element, d.tile
    value, index = before
    if kind == Kind.DOT:
        matrix, source, _ = _dot(d, place)
        operands = read.tile(source, step), read.weights(matrix, element, step)
        return value + sum(a * b for a, b in zip(*operands, strict=True)), 0
    if kind == Kind.PEAK:
        return max(value, *(abs(x) for x in read.tile(_norm_source(place)[0], step))), 0
    if kind == Kind.SQUARES:
        source, first = _norm_source(place)
        power = _power(read.tile(first, 0)[0])
        return value + sum(shift(x, -power) ** 2 for x in read.tile(source, step)), 0
    if kind == Kind.MIX:
        head = element // t
        weight_at = head * d.padded(place.position + 1) + step
        weight = read.tile(pr.WEIGHTS, weight_at // t)[weight_at % t]
        row = _key_or_value(d, place, 2, step, head // (d.heads // d.kv_heads), read)
        return value + weight * row[element % t], 0
    if kind in (Kind.TOP, Kind.SUM, Kind.ARGMAX, Kind.DRAW):
        source = {Kind.TOP: pr.SCORES, Kind.SUM: pr.EXPS}.get(kind, pr.LOGITS)
        per_element = d.tiles(d.padded(place.position + 1))
        if place.target == TOKEN:
            source = pr.LOGITS if kind in (Kind.TOP, Kind.ARGMAX) else pr.LOGITS + 2
            per_element = 0
        values = read.tile(source, element * per_element + step)
        if kind == Kind.TOP:
            return max(value, *values), 0
        if kind == Kind.SUM:
            return value + sum(values), 0
        if kind == Kind.ARGMAX:
            for i, each in enumerate(values):
                if each > value:
                    value, index = each, step * t + i
            return value, index
        total = read.tile(pr.LOGITS + 3, 0)[0]
        target = draw(claim.seed, place.token_step) * total >> 53
        for i, each in enumerate(values):
            value += each
            if index < 0 and value > target:
                index = step * t + i
        return value, index
    return _at_once(d, claim, place, kind, read), 0


def _at_once(d: Dims, claim: TraceClaim, place: Place, kind: Kind, read: Reader) -> int:
    """The value of an element that needs no accumulation."""
    e, t = place.element, d.tile
    if kind == Kind.COPY:
        if place.target == LAYER and place.layer == 0:
            return read.weights(Matrix.EMBED, read.token(place.position), e // t)[e % t]
        layer = place.layer if place.target == TOKEN else place.layer - 1
        return read.piece(place.position, layer, e // pr.PIECE_VALUES)[e % pr.PIECE_VALUES]
    if kind == Kind.FACTOR:
        _, first = _norm_source(place)
        power = _power(read.tile(first, 0)[0])
        squares = read.tile(first + 1, 0)[0] + shift(d.epsilon, -2 * power)
        return d.numerator // isqrt(max(4 * squares, 1))
    if kind == Kind.NORM:
        source, first = _norm_source(place)
        power, factor = _power(read.tile(first, 0)[0]), read.tile(first + 2, 0)[0]
        return shift(shift(read.tile(source, e // t)[e % t], -power) * factor, d.drop)
    if kind == Kind.ROTATE:
        x = read.tile(pr.QKV, e // t + (d.heads if place.operator == pr.KEY else 0))
        turn, half, j = read.rotation(place.position), t // 2, e % t
        if j < half:
            return shift(x[j] * turn[j] - x[j + half] * turn[j + half], bits.ROTARY)
        return shift(x[j] * turn[j - half] + x[j - half] * turn[j], bits.ROTARY)
    padded = d.padded(place.position + 1)
    if kind == Kind.SCORE:
        head, at = divmod(e, padded)
        if at > place.position:
            return PADDING
        query = read.tile(pr.QUERY, head)
        key = _key_or_value(d, place, 1, at, head // (d.heads // d.kv_heads), read)
        return sum(a * b for a, b in zip(query, key, strict=True))
    if kind == Kind.EXP:
        top = read.tile(pr.TOPS, e // padded // t)[e // padded % t]
        below = top - read.tile(pr.SCORES, e // t)[e % t]
        entry = min(max(below >> (2 * bits.HEAD - bits.SCORE), 0), d.table_sizes()[Table.EXP2] - 1)
        return read.table(Table.EXP2, entry)
    if kind == Kind.SHARE:
        return (1 << (bits.EXP + bits.PROBABILITY)) // max(read.tile(pr.TOTALS, e // t)[e % t], 1)
    if kind == Kind.WEIGHT:
        share = read.tile(pr.SHARES, e // padded // t)[e // padded % t]
        return read.tile(pr.EXPS, e // t)[e % t] * share >> bits.EXP
    if kind == Kind.GATE:
        gate = read.tile(pr.GATE_UP, e // t)[e % t]
        at = d.intermediate + e
        up = read.tile(pr.GATE_UP, at // t)[at % t]
        entry = shift(gate, bits.GATE - bits.SIGMOID_INDEX) + (bits.SIGMOID_LIMIT << bits.SIGMOID_INDEX)
        sigmoid = read.table(Table.SIGMOID, min(max(entry, 0), d.table_sizes()[Table.SIGMOID] - 1))
        product = shift(shift(sigmoid * gate, bits.SIGMOID) * up, 2 * bits.GATE - bits.MLP)
        return saturate(product, 1 << read.table(Table.SATURATION, place.layer))
    assert kind == Kind.TEMPER
    below = read.tile(pr.LOGITS + 1, 0)[0] - read.tile(pr.LOGITS, e // t)[e % t]
    entry = below * TEMPERATURE_FACTOR // (claim.temperature_milli << (20 + bits.LOGIT - bits.SCORE))
    return read.table(Table.EXP2, min(max(entry, 0), d.table_sizes()[Table.EXP2] - 1))


def _finish(d: Dims, place: Place, operator: Operator, after: tuple[int, int], read: Reader) -> int:
    """The element's value from its last accumulator."""
    value, index = after
    if operator.kind == Kind.MIX:
        return shift(value, bits.PROBABILITY)
    if operator.kind in (Kind.ARGMAX, Kind.DRAW):
        return index
    if operator.kind != Kind.DOT:
        return value
    value = shift(value, _dot(d, place)[2])
    if place.target == LAYER and place.operator in (pr.RESIDUAL_SUM, pr.OUTPUT):
        stream = pr.INPUT if place.operator == pr.RESIDUAL_SUM else pr.RESIDUAL_SUM
        value = saturate(value + read.tile(stream, place.element // d.tile)[place.element % d.tile], bits.INT32)
    return value
