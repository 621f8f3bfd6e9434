"""Each step of the lane ``h100-bf16``, on words of bits and in integers alone: the one definition.

As in ``step``, a primitive turns the accumulator before a step into the one after it, and reads what
it needs in a fixed order. Blocks are those of ``blocks``, the steps between them those of
``tensor_steps`` on numbers of ``fp32``. Whatever is read has a result, infinities, NaNs and numbers
that no word of 32 bits holds among it: of these the lower 32 bits count, as nobody may be acquitted
because a step cannot be judged. ``tensor_judge.vy`` is the other copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from otr_core.lane import blocks, tensor_steps
from otr_core.lane import formats as bits
from otr_core.lane.blocks import BF16_BLOCK, FP32
from otr_core.lane.dims import PIECE_VALUES
from otr_core.lane.element import Accumulator, Element
from otr_core.lane.fp32 import Fp32, as_objects, is_nan, ordered
from otr_core.lane.primitive import Primitive, at_once
from otr_core.lane.program import Kind
from otr_core.lane.tensor_steps import LANES_OF_SUM

MINUS_INFINITY = FP32.sign | FP32.infinity
"""Score of a position that is not seen."""
_TERMS = BF16_BLOCK.terms
_ALL = (1 << 32) - 1


def held(word: int) -> int:
    """A fp32 word as the signed number that operators and trace hold."""
    return word - (1 << 32) if word & FP32.sign else word


def narrowed(word: int) -> int:
    """A fp32 word rounded to bf16, as a fp32 word."""
    return blocks.fp32_to_bf16(word) << 16


def fixed(word: int) -> int:
    """A logit as an integer of LOGIT fraction bits, to nearest even; saturated, and a NaN as what is
    too large."""
    x = blocks.parts(FP32, word)
    if not x.finite:
        return -bits.INT32 if x.sign < 0 and not is_nan(word) else bits.INT32
    drop = FP32.fraction_bits - bits.LOGIT - x.exponent
    if drop <= 0:
        magnitude = x.significand << -drop
    else:
        magnitude, rest = x.significand >> drop, x.significand & ((1 << drop) - 1)
        magnitude += 2 * rest + (magnitude & 1) > 1 << drop
    return x.sign * min(magnitude, bits.INT32)


def _words(values: Sequence[int]) -> list[int]:
    return [value & _ALL for value in values]


def _number(value: int) -> Fp32:
    return Fp32(value & _ALL)


# --- blocks


def _block(x: Sequence[int], w: Sequence[int], before: Accumulator) -> Accumulator:
    """A block of the upper halves of up to 16 words each, zeros after them."""
    a, b = ([word >> 16 for word in _words(row)] + [0] * (_TERMS - len(row)) for row in (x, w))
    return held(blocks.block(BF16_BLOCK, a, b, before[0] & _ALL)), 0


def _factors(at: Element, source: int, row: int, length: int, step: int) -> list[int]:
    """The 16 values of block ``step`` of a source's row, or those that it has, which begins with tile
    ``row`` and has ``length`` values."""
    t, found = at.d.tile, list[int]()
    for first in range(step * _TERMS, min((step + 1) * _TERMS, length), min(_TERMS, t)):
        found += at.tile(source, row + first // t)[first % t :][:_TERMS]
    return found


def _blocks(at: Element, step: int, before: Accumulator) -> Accumulator:
    """BLOCKS: 16 products of a vector with one row of a matrix."""
    assert at.operator.matrix is not None
    t, columns = at.d.tile, at.d.matrix_shape(at.operator.matrix)[1]
    x = _factors(at, 0, 0, columns, step)
    w = list[int]()
    for first in range(step * _TERMS, min((step + 1) * _TERMS, columns), min(_TERMS, t)):
        w += at.read.weights(at.operator.matrix, at.number, first // t)[first % t :][:_TERMS]
    return _block(x, w, before)


def _blocks_finish(at: Element, last: Accumulator) -> int:
    """The sum, added to the residual stream where that is a second source."""
    if len(at.operator.reads) == 1:
        return held(last[0] & _ALL)
    return held((_number(at.value(1, at.number)) + _number(last[0])).word)


def _score_blocks(at: Element, step: int, before: Accumulator) -> Accumulator:
    """SCORE_BLOCKS: 16 products of a head's query with the key of one position."""
    head, position = at.head_and_position()
    if not at.sees(position):
        return 0, 0
    own = slice(step * _TERMS, (step + 1) * _TERMS)
    query = at.tile(0, head)[own]
    return _block(query, at.group_row(1, head, position, own=0)[own], before)


def _score_finish(at: Element, last: Accumulator) -> int:
    """The product times 1 / √tile."""
    if not at.sees(at.head_and_position()[1]):
        return held(MINUS_INFINITY)
    return held((_number(last[0]) * tensor_steps.score_scale(at.d.tile)).word)


def _gather(at: Element) -> int:
    """GATHER: what one column of the values holds at one position, 0 where there is none."""
    column, position = at.head_and_position()
    if position > at.place.position:
        return 0
    if position == at.place.position:
        return held(at.value(0, column) & _ALL)
    piece = at.read.piece(position, at.place.layer, at.d.piece_of(2, column))
    return held(piece[column % PIECE_VALUES] & _ALL)


def _mix_blocks(at: Element, step: int, before: Accumulator) -> Accumulator:
    """MIX_BLOCKS: 16 weights of a head times the values of one column at their positions."""
    head, column = divmod(at.number, at.d.tile)
    padded = at.d.padded(at.place.position + 1)
    row = head // (at.d.heads // at.d.kv_heads) * at.d.tile + column
    tiles = at.d.tiles(padded)
    weights = _factors(at, 0, head * tiles, padded, step)
    return _block(weights, _factors(at, 1, row * tiles, padded, step), before)


# --- sums and norms


def _square_lanes(at: Element, step: int, before: Accumulator) -> Accumulator:
    """SQUARE_LANES: the squares of every 32nd value of a row, in order."""
    return _added(at, before, [x * x for x in _lane(at, step)])


def _lanes(at: Element, step: int, before: Accumulator) -> Accumulator:
    """LANES: every 32nd value of a row, in order."""
    return _added(at, before, _lane(at, step))


def _lane(at: Element, step: int) -> list[Fp32]:
    """Of one tile of an element's row the values that belong to the element's running sum."""
    row, lane = divmod(at.number, LANES_OF_SUM)
    tile = at.tile(0, row * at.operator.steps + step)
    first = step * at.d.tile
    return [_number(x) for i, x in enumerate(tile) if (first + i) % LANES_OF_SUM == lane]


def _added(at: Element, before: Accumulator, values: Sequence[Fp32]) -> Accumulator:
    return held(sum(values, start=_number(before[0])).word), 0


def _fold(at: Element) -> int:
    """FOLD: the 32 running sums of a row to one."""
    t, first, found = at.d.tile, at.number * LANES_OF_SUM, list[int]()
    for value in range(first, first + LANES_OF_SUM, min(LANES_OF_SUM, t)):
        found += at.tile(0, value // t)[value % t :][:LANES_OF_SUM]
    return held(tensor_steps.folded(as_objects(_words(found)))[0].word)


def _root(at: Element) -> int:
    """ROOT: 1 / √(sum of squares / width + ε)."""
    squares = as_objects([at.value(0, 0) & _ALL])
    return held(tensor_steps.factor_of_norm(squares, at.d.hidden, Fp32(at.d.epsilon))[0].word)


def _scaled(at: Element) -> int:
    """SCALED: a value times its row's factor, times its weight."""
    assert at.operator.matrix is not None
    factor, x, t = _number(at.value(0, 0)), _number(at.value(1, at.number)), at.d.tile
    weight = _number(at.read.weights(at.operator.matrix, 0, at.number // t)[at.number % t])
    return held(narrowed(((x * factor) * weight).word))


# --- what stands alone


def _turn(at: Element) -> int:
    """TURN: one value of a query or key head, turned by the position."""
    half = at.d.tile // 2
    x = as_objects(_words(at.tile(0, at.operator.first + at.number // at.d.tile)))
    turn = as_objects(_words(at.read.rotation(at.place.position)))
    return held(narrowed(tensor_steps.turned(x, turn[:half], turn[half:])[at.number % at.d.tile].word))


def _narrow(at: Element) -> int:
    """NARROW: one value rounded to bf16."""
    return held(narrowed(at.value(0, at.operator.first * at.d.tile + at.number) & _ALL))


def _highest(at: Element, step: int, before: Accumulator) -> Accumulator:
    """HIGHEST, FIRST_HIGHEST: the first largest of a row, and its index."""
    values = at.tile(0, at.number * at.operator.steps + step)
    best, index = (values[0], step * at.d.tile) if step == 0 else before
    for i, x in enumerate(values, start=step * at.d.tile):
        if ordered(x & _ALL) > ordered(best & _ALL):
            best, index = x, i
    return held(best & _ALL), index if at.operator.kind == Kind.FIRST_HIGHEST else 0


def _power(at: Element) -> int:
    """POWER: e^(score − the head's largest); 0 of a position that is not seen."""
    head, position = at.head_and_position()
    if not at.sees(position):
        return 0
    top = _number(at.value(0, head))
    below = np.array([_number(at.value(1, at.number)) - top], object)
    return held(tensor_steps.exponential(below)[0].word)


def _quotient(at: Element) -> int:
    """QUOTIENT: what a head's weights make of its values, over the sum of the weights."""
    mix, total = _number(at.value(0, at.number)), _number(at.value(1, at.number // at.d.tile))
    return held(narrowed((mix / total).word))


def _silu(at: Element) -> int:
    """SILU: SiLU(gate) · up."""
    gate, up = (as_objects([at.value(0, first + at.number) & _ALL]) for first in (0, at.d.intermediate))
    return held(narrowed(tensor_steps.gated_silu(gate, up)[0].word))


def _fixed(at: Element) -> int:
    """FIXED: a logit as an integer."""
    return fixed(at.value(0, at.number) & _ALL)


TENSOR_PRIMITIVES = {
    Kind.SQUARE_LANES: Primitive(_square_lanes),
    Kind.LANES: Primitive(_lanes),
    Kind.FOLD: at_once(_fold),
    Kind.ROOT: at_once(_root),
    Kind.SCALED: at_once(_scaled),
    Kind.BLOCKS: Primitive(_blocks, _blocks_finish),
    Kind.TURN: at_once(_turn),
    Kind.NARROW: at_once(_narrow),
    Kind.GATHER: at_once(_gather),
    Kind.SCORE_BLOCKS: Primitive(_score_blocks, _score_finish),
    Kind.HIGHEST: Primitive(_highest),
    Kind.POWER: at_once(_power),
    Kind.MIX_BLOCKS: Primitive(_mix_blocks),
    Kind.QUOTIENT: at_once(_quotient),
    Kind.SILU: at_once(_silu),
    Kind.FIRST_HIGHEST: Primitive(_highest, lambda at, last: last[1]),
    Kind.FIXED: at_once(_fixed),
}
"""The primitives of this lane; those of a drawn token beside them are the portable lane's."""
