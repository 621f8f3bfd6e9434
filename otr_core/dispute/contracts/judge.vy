# pragma version 0.4.3
# pragma optimize codesize
"""
@title Judge of one arithmetic step of the portable lane, for one registered model
@notice The definitions of otr_core/lane/step.py once more, reading in the same order; see there for what each step
        means and why. Values are opened from roots as otr_core/dispute/judge.py opens them; a step is right or wrong,
        and a bad opening reverts. Both are compared with this contract on every primitive.
"""

import shapes

struct Shape:
    kind: uint256
    length: uint256
    steps: uint256

# Kinds of primitives, as in otr_core/lane/program.py.
COPY: constant(uint256) = 0
PEAK: constant(uint256) = 1
SQUARES: constant(uint256) = 2
FACTOR: constant(uint256) = 3
NORM: constant(uint256) = 4
DOT: constant(uint256) = 5
ROTATE: constant(uint256) = 6
SCORE: constant(uint256) = 7
TOP: constant(uint256) = 8
EXP: constant(uint256) = 9
SUM: constant(uint256) = 10
SHARE: constant(uint256) = 11
WEIGHT: constant(uint256) = 12
MIX: constant(uint256) = 13
GATE: constant(uint256) = 14
ARGMAX: constant(uint256) = 15
TEMPER: constant(uint256) = 16
DRAW: constant(uint256) = 17

# Kinds of a layer's operators in order, one byte each. A token's program begins with the same six. Operators are
# referred to by their number (LayerOperator, GreedyOperator and SampledOperator in otr_core/lane/program.py):
#     0 INPUT              5 QKV       10 EXPS        15 RESIDUAL_SUM   20 GATE_UP      of a token:
#     1 ATTENTION_PEAK     6 QUERY     11 TOTALS      16 MLP_PEAK       21 PRODUCT      0 to 4 as of a layer
#     2 ATTENTION_SQUARES  7 KEY       12 SHARES      17 MLP_SQUARES    22 OUTPUT       5 LOGITS
#     3 ATTENTION_FACTOR   8 SCORES    13 WEIGHTS     18 MLP_FACTOR                     6 CHOICE, or TOP
#     4 ATTENTION_NORMED   9 TOPS      14 MIXED       19 MLP_NORMED                     7 WEIGHTS  8 TOTAL  9 CHOICE
LAYER_KINDS: constant(Bytes[23]) = x"00010203040506060708090a0b0c0d0501020304050e05"
LAYER_OPERATORS: constant(uint256) = 23

# Constants of otr_core/lane/step.py and formats.py; the table sizes are EXP2_ENTRIES and SIGMOID_ENTRIES.
LOWEST: constant(int256) = -(2 ** 62)
PADDING: constant(int256) = -(2 ** 52)
INT32: constant(int256) = 2 ** 31 - 1
EXP2_SIZE: constant(uint256) = 21 * 2 ** 13 + 1
SIGMOID_SIZE: constant(uint256) = 40 * 2 ** 13 + 1
TEMPERATURE_FACTOR: constant(int256) = 1512775395
# Put before opened data, so that a whole word can be read that ends in its first value.
ZERO24: constant(Bytes[24]) = x"000000000000000000000000000000000000000000000000"
ZERO28: constant(Bytes[28]) = x"00000000000000000000000000000000000000000000000000000000"

# Dims of the registered model (T is its tile), and the roots of its weights and tables.
MOST_TILE: constant(uint256) = 128  # values of 8 bytes, all of which one opening holds

HIDDEN: immutable(uint256)
INTERMEDIATE: immutable(uint256)
LAYERS: immutable(uint256)
HEADS: immutable(uint256)
KV_HEADS: immutable(uint256)
T: immutable(uint256)
VOCAB: immutable(uint256)
CONTEXT: immutable(uint256)
EPSILON: immutable(int256)
NUMERATOR: immutable(uint256)
DROP: immutable(int256)
STOPS: immutable(uint256[16])  # token ids that end an answer
WEIGHTS_ROOT: immutable(bytes32)
TABLES_ROOT: immutable(bytes32)


@deploy
def __init__(dims: uint256[11], weights_root: bytes32, tables_root: bytes32, stop_ids: DynArray[uint256, 16]):
    # registry.judgeable in Python: without these the honest side of some dispute has no move.
    for i: uint256 in range(11):
        assert dims[i] < 2 ** 62, "dims"
    assert dims[5] >= 2 and dims[5] <= MOST_TILE and 256 % dims[5] == 0, "dims"
    assert min(min(dims[0], dims[1]), min(min(dims[2], dims[4]), min(dims[6], dims[7]))) > 0, "dims"
    assert dims[0] % dims[5] == 0 and dims[1] % dims[5] == 0 and dims[3] >= 1 and dims[3] % dims[4] == 0, "dims"
    assert max(max(dims[0], 2 * dims[1]), max(dims[6], dims[3] * (dims[7] + dims[5]))) // dims[5] < 2 ** 24, "dims"
    assert dims[2] * dims[7] < 2 ** 32 and dims[9] < 2 ** 52 and dims[10] < 64, "dims"
    HIDDEN = dims[0]
    INTERMEDIATE = dims[1]
    LAYERS = dims[2]
    HEADS = dims[3]
    KV_HEADS = dims[4]
    T = dims[5]
    VOCAB = dims[6]
    CONTEXT = dims[7]
    EPSILON = convert(dims[8], int256)
    NUMERATOR = dims[9]
    DROP = convert(dims[10], int256)
    stops: uint256[16] = empty(uint256[16])
    for i: uint256 in range(16):
        stops[i] = stop_ids[i] if i < len(stop_ids) else max_value(uint256)
        assert i >= len(stop_ids) or stop_ids[i] < dims[6], "dims"
    STOPS = stops
    WEIGHTS_ROOT = weights_root
    TABLES_ROOT = tables_root


# --- the program

@view
@internal
def _tiles(length: uint256) -> uint256:
    return (length + T - 1) // T


@view
@internal
def _padded(seen: uint256) -> uint256:
    return self._tiles(seen) * T


@pure
@internal
def _size(target: uint256, temperature: uint256) -> uint256:
    if target == 0:
        return LAYER_OPERATORS
    return 7 if temperature == 0 else 10


@view
@internal
def _shape(target: uint256, position: uint256, temperature: uint256, operator: uint256) -> Shape:
    """Kind, length and steps of an operator (program._sized)."""
    columns: uint256 = HIDDEN // T
    if target == 1 and operator > 5:
        chunks: uint256 = self._tiles(VOCAB)
        if temperature == 0:
            return Shape(kind=ARGMAX, length=1, steps=chunks)
        if operator == 6:
            return Shape(kind=TOP, length=1, steps=chunks)
        if operator == 7:
            return Shape(kind=TEMPER, length=VOCAB, steps=1)
        return Shape(kind=SUM if operator == 8 else DRAW, length=1, steps=chunks)
    kind: uint256 = convert(slice(LAYER_KINDS, operator, 1), uint256)
    if kind == COPY or kind == NORM:
        return Shape(kind=kind, length=HIDDEN, steps=1)
    if kind == PEAK or kind == SQUARES:
        return Shape(kind=kind, length=1, steps=columns)
    if kind == FACTOR:
        return Shape(kind=kind, length=1, steps=1)
    if target == 1:
        return Shape(kind=kind, length=VOCAB, steps=columns)
    seen: uint256 = position + 1
    padded: uint256 = self._padded(seen)
    if kind == DOT:
        if operator == 5:
            return Shape(kind=kind, length=(HEADS + 2 * KV_HEADS) * T, steps=columns)
        if operator == 15:
            return Shape(kind=kind, length=HIDDEN, steps=HEADS)
        if operator == 20:
            return Shape(kind=kind, length=2 * INTERMEDIATE, steps=columns)
        return Shape(kind=kind, length=HIDDEN, steps=INTERMEDIATE // T)
    if kind == ROTATE:
        return Shape(kind=kind, length=(HEADS if operator == 6 else KV_HEADS) * T, steps=1)
    if kind == SCORE or kind == EXP or kind == WEIGHT:
        return Shape(kind=kind, length=HEADS * padded, steps=1)
    if kind == TOP or kind == SUM:
        return Shape(kind=kind, length=HEADS, steps=padded // T)
    if kind == SHARE:
        return Shape(kind=kind, length=HEADS, steps=1)
    if kind == MIX:
        return Shape(kind=kind, length=HEADS * T, steps=seen)
    return Shape(kind=kind, length=INTERMEDIATE, steps=1)


@view
@internal
def _rows() -> (uint256, uint256):
    """Pieces of an output row, and of a key (or value) row."""
    return (HIDDEN + 255) // 256, (KV_HEADS * T + 255) // 256


@view
@internal
def _piece_place(piece: uint256) -> (uint256, uint256):
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    if piece < outputs:
        return 0, piece * 256
    return 1 + (piece - outputs) // keys, ((piece - outputs) % keys) * 256


@view
@internal
def _piece_values(piece: uint256) -> uint256:
    row: uint256 = 0
    first: uint256 = 0
    row, first = self._piece_place(piece)
    return min(256, (HIDDEN if row == 0 else KV_HEADS * T) - first)


@view
@external
def program_size(target: uint256, temperature: uint256) -> uint256[2]:
    """Operators of a program, and layers of the model."""
    return [self._size(target, temperature), LAYERS]


@view
@external
def operator_shape(target: uint256, leaf: uint256, temperature: uint256, operator: uint256) -> (uint256, uint256, uint256, uint256):
    """Length, tiles and steps of an operator, and the values of a tile; no tiles stand for what the trace holds. The
    leaf is that of the trace, or the number of the token."""
    if target == 0 and operator == LAYER_OPERATORS:
        return 0, 0, 1, T
    shape: Shape = self._shape(target, leaf // LAYERS if target == 0 else leaf - 1, temperature, operator)
    return shape.length, self._tiles(shape.length), shape.steps, T


@view
@external
def token(id: uint256) -> (bool, bool):
    """Whether the vocabulary has this token, and whether it ends an answer."""
    return id < VOCAB, id in STOPS


@view
@external
def pieces(piece: uint256) -> (uint256, uint256):
    """Pieces of a trace leaf, and the values of one of them."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    return outputs + 2 * keys, self._piece_values(piece)


@view
@external
def trace_shape() -> (uint256, uint256, uint256, uint256):
    """Layers, bytes of an output row, bytes of a key row, most positions."""
    return LAYERS, 4 * HIDDEN, 4 * KV_HEADS * T, CONTEXT


# --- openings

@pure
@internal
def _climb(start: bytes32, at: uint256, of: uint256, proof: DynArray[bytes32, 64], used: uint256) -> (bytes32, uint256):
    """Root of a tree of ``of`` leaves from leaf ``at`` and the path in ``proof`` from place ``used`` on; also the place
    after the path. An odd last node of a level is carried up unhashed."""
    node: bytes32 = start
    index: uint256 = at
    size: uint256 = of
    next: uint256 = used
    assert at < of, "index"
    for _: uint256 in range(64):
        if size <= 1:
            break
        if index % 2 == 1 or index + 1 < size:
            assert next < len(proof), "path"
            if index % 2 == 1:
                node = sha256(concat(x"01", proof[next], node))
            else:
                node = sha256(concat(x"01", node, proof[next]))
            next += 1
        index //= 2
        size = (size + 1) // 2
    return node, next


@pure
@internal
def _check(o: shapes.Opening, length: uint256, at: uint256, of: uint256, at2: uint256, of2: uint256, root: bytes32):
    """The opening's data has this length and lies at ``at`` (and its tree at ``at2``, unless ``of2`` is 0) under root."""
    assert len(o.data) == length, "opening length"
    node: bytes32 = sha256(concat(x"00", o.data))
    used: uint256 = 0
    node, used = self._climb(node, at, of, o.proof, used)
    if of2 > 0:
        node, used = self._climb(sha256(concat(x"00", node)), at2, of2, o.proof, used)
    assert used == len(o.proof) and node == root, "opening root"


@view
@internal
def _tile(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, operator: uint256, tile: uint256) -> Bytes[1084]:
    """A tile of an operator, with 24 zero bytes before it so that ``_i64`` can read words."""
    shape: Shape = self._shape(place.target, place.position, roots.temperature, operator)
    count: uint256 = min(T, shape.length - tile * T)
    size: uint256 = self._size(place.target, roots.temperature)
    self._check(o, 8 * count, tile, self._tiles(shape.length), operator, size, roots.operators)
    return concat(ZERO24, slice(o.data, 0, 8 * count))


@pure
@internal
def _i64(padded: Bytes[1084], number: uint256) -> int256:
    return (extract32(padded, 8 * number, output_type=int256) << 192) >> 192


@view
@internal
def _value(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, operator: uint256, element: uint256) -> int256:
    return self._i64(self._tile(o, place, roots, operator, element // T), element % T)


@view
@internal
def _piece(o: shapes.Opening, roots: shapes.Roots, position: uint256, layer: uint256, piece: uint256) -> Bytes[1056]:
    """A piece of a trace leaf, salt first."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    self._check(
        o, 32 + 4 * self._piece_values(piece), piece, outputs + 2 * keys,
        position * LAYERS + layer, roots.positions * LAYERS, roots.states,
    )
    return o.data


@pure
@internal
def _le32(piece: Bytes[1056], number: uint256) -> int256:
    word: uint256 = convert(extract32(piece, 4 * number + 4), uint256)
    value: uint256 = ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | ((word >> 24) & 255)
    return (convert(value, int256) << 224) >> 224


@view
@internal
def _weights(o: shapes.Opening, place: shapes.Place, row: uint256, chunk: uint256) -> Bytes[1084]:
    """Weights of a row's tile, with 28 zero bytes before; the matrix is the one that the place multiplies with."""
    per: uint256 = HIDDEN // T
    qkv: uint256 = (HEADS + 2 * KV_HEADS) * T * per
    out: uint256 = HIDDEN * HEADS
    gate_up: uint256 = 2 * INTERMEDIATE * per
    down: uint256 = HIDDEN * (INTERMEDIATE // T)
    layer: uint256 = qkv + out + gate_up + down
    first: uint256 = 0
    if place.target == 1:
        first = VOCAB * per
    elif place.operator > 0:
        first = 2 * VOCAB * per + place.layer * layer
        # A layer's matrices lie in the order in which its operators multiply with them.
        if place.operator > 5:
            first += qkv
        if place.operator > 15:
            first += out
        if place.operator > 20:
            first += gate_up
        if place.operator == 15:
            per = HEADS
        elif place.operator == 22:
            per = INTERMEDIATE // T
    self._check(o, 4 * T, first + row * per + chunk, 2 * VOCAB * (HIDDEN // T) + LAYERS * layer, 0, 0, WEIGHTS_ROOT)
    return concat(ZERO28, slice(o.data, 0, 4 * T))


@pure
@internal
def _i32(padded: Bytes[1084], number: uint256) -> int256:
    return (extract32(padded, 4 * number, output_type=int256) << 224) >> 224


@view
@internal
def _table(o: shapes.Opening, table: uint256, tile: uint256) -> Bytes[1084]:
    """A tile of a table (0 EXP2, 1 SIGMOID, 2 ROTARY, 3 SATURATION), with 28 zero bytes before."""
    exp2: uint256 = self._tiles(EXP2_SIZE)
    sigmoid: uint256 = self._tiles(SIGMOID_SIZE)
    first: uint256 = 0
    size: uint256 = EXP2_SIZE
    if table == 1:
        first = exp2
        size = SIGMOID_SIZE
    elif table == 2:
        first = exp2 + sigmoid
        size = CONTEXT * T
    elif table == 3:
        first = exp2 + sigmoid + CONTEXT
        size = LAYERS
    count: uint256 = min(T, size - tile * T)
    self._check(o, 4 * count, first + tile, exp2 + sigmoid + CONTEXT + self._tiles(LAYERS), 0, 0, TABLES_ROOT)
    return concat(ZERO28, slice(o.data, 0, 4 * count))


@view
@internal
def _entry(o: shapes.Opening, table: uint256, entry: int256, size: uint256) -> int256:
    """The table's entry, its number cut to the table."""
    at: uint256 = convert(min(max(entry, 0), convert(size, int256) - 1), uint256)
    return self._i32(self._table(o, table, at // T), at % T)


# --- arithmetic

@pure
@internal
def _shift(x: int256, bits: int256) -> int256:
    if bits > 0:
        return (x + (1 << convert(bits - 1, uint256))) >> convert(bits, uint256)
    return x << convert(-bits, uint256)


@pure
@internal
def _saturate(x: int256, bound: int256) -> int256:
    return max(-bound, min(bound, x))


@pure
@internal
def _down(peak: int256) -> int256:
    """Bits by which a row is shifted down before it is squared: what ``step.norm_scale`` gives, with the other sign."""
    x: uint256 = convert(abs(peak), uint256)
    bits: int256 = 0
    for _: uint256 in range(64):
        if x == 0:
            break
        x = x >> 1
        bits += 1
    return max(bits - 19, -8)


@view
@internal
def _check_row(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, row: uint256, at: uint256, group: uint256):
    """The opening is the piece with a group's key (row 1) or value (row 2) of position ``at``."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    piece: uint256 = outputs + (keys if row == 2 else 0) + group * T // 256
    _unused: Bytes[1056] = self._piece(o, roots, at, place.layer, piece)


@view
@internal
def _at_once(o: DynArray[shapes.Opening, 4], first: uint256, place: shapes.Place, roots: shapes.Roots, kind: uint256) -> (int256, uint256):
    """Value of an element that needs no accumulation, and the openings it took."""
    e: uint256 = place.element
    second: bool = place.target == 0 and place.operator > 15
    norm: uint256 = 16 if second else 1
    padded: uint256 = self._padded(place.position + 1)
    # What enters: in the first layer the embedding of the token fed, elsewhere the output of the layer below.
    if kind == COPY:
        if place.target == 0 and place.layer == 0:
            self._check(o[0], 40, place.position, roots.positions + 1, 0, 0, roots.tokens)
            word: uint256 = convert(slice(o[0].data, 32, 4), uint256)
            token: uint256 = ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | (word >> 24)
            return self._i32(self._weights(o[1], place, token, e // T), e % T), 2
        layer: uint256 = place.layer if place.target == 1 else place.layer - 1
        return self._le32(self._piece(o[0], roots, place.position, layer, e // 256), e % 256), 1
    # √n / √(sum of squares + epsilon), the epsilon scaled as the squares are.
    if kind == FACTOR:
        down: int256 = self._down(self._value(o[0], place, roots, norm, 0))
        squares: int256 = self._value(o[1], place, roots, norm + 1, 0) + self._shift(EPSILON, 2 * down)
        return convert(NUMERATOR // isqrt(convert(max(4 * squares, 1), uint256)), int256), 2
    # One scaled value times the row's factor.
    if kind == NORM:
        down: int256 = self._down(self._value(o[0], place, roots, norm, 0))
        factor: int256 = self._value(o[1], place, roots, norm + 2, 0)
        x: int256 = self._value(o[2], place, roots, 15 if second else 0, e)
        return self._shift(self._shift(x, down) * factor, DROP), 3
    # Value j of a head, turned with value j + T / 2; 20 fraction bits of cosine and sine are dropped (ROTARY).
    if kind == ROTATE:
        x: Bytes[1084] = self._tile(o[0], place, roots, 5, e // T + (HEADS if place.operator == 7 else 0))
        turn: Bytes[1084] = self._table(o[1], 2, place.position)
        half: uint256 = T // 2
        j: uint256 = e % T
        if j < half:
            return self._shift(self._i64(x, j) * self._i32(turn, j) - self._i64(x, j + half) * self._i32(turn, j + half), 20), 2
        return self._shift(self._i64(x, j) * self._i32(turn, j - half) + self._i64(x, j - half) * self._i32(turn, j), 20), 2
    # A query times the key of one position: this one's from KEY, an earlier one's from the trace.
    if kind == SCORE:
        head: uint256 = e // padded
        at: uint256 = e % padded
        if at > place.position:
            return PADDING, 0
        query: Bytes[1084] = self._tile(o[0], place, roots, 6, head)
        group: uint256 = head // (HEADS // KV_HEADS)
        total: int256 = 0
        if at == place.position:
            key: Bytes[1084] = self._tile(o[1], place, roots, 7, group)
            for i: uint256 in range(T, bound=128):
                total += self._i64(query, i) * self._i64(key, i)
        else:
            self._check_row(o[1], place, roots, 1, at, group)
            data: Bytes[1056] = o[1].data
            for i: uint256 in range(T, bound=128):
                total += self._i64(query, i) * self._le32(data, (group * T) % 256 + i)
        return total, 2
    # 2^−(distance to the head's largest score), by table (SCORE_SHIFT).
    if kind == EXP:
        top: int256 = self._value(o[0], place, roots, 9, e // padded)
        below: int256 = top - self._value(o[1], place, roots, 8, e)
        return self._entry(o[2], 0, below >> 15, EXP2_SIZE), 3
    # ONE_SHARE over the head's total.
    if kind == SHARE:
        return (1 << 44) // max(self._value(o[0], place, roots, 11, e), 1), 1
    # A weight times the head's share, rounded down (EXP).
    if kind == WEIGHT:
        share: int256 = self._value(o[0], place, roots, 12, e // padded)
        return (self._value(o[1], place, roots, 10, e) * share) >> 20, 2
    # gate · sigmoid(gate) · up (SIGMOID_SHIFT, SIGMOID_ZERO, SIGMOID, PRODUCT_SHIFT), saturated.
    if kind == GATE:
        gate: int256 = self._value(o[0], place, roots, 20, e)
        up: int256 = self._value(o[1], place, roots, 20, INTERMEDIATE + e)
        sigmoid: int256 = self._entry(o[2], 1, self._shift(gate, 3) + (20 << 13), SIGMOID_SIZE)
        bound: int256 = 1 << convert(self._entry(o[3], 3, convert(place.layer, int256), LAYERS), uint256)
        return self._saturate(self._shift(self._shift(sigmoid * gate, 20) * up, 19), bound), 4
    # A token's weight at the temperature (TEMPERATURE_SHIFT).
    assert kind == TEMPER
    below: int256 = self._value(o[0], place, roots, 6, 0) - self._value(o[1], place, roots, 5, e)
    scale: int256 = convert(roots.temperature << 23, int256)
    return self._entry(o[2], 0, below * TEMPERATURE_FACTOR // scale, EXP2_SIZE), 3


@pure
@internal
def _draw(order_id: bytes32, seed: uint256, step: uint256) -> int256:
    """As otr_core/lane/sampling.py: 53 bits of a tagged hash of the order's id and two little-endian 64-bit words."""
    words: bytes32 = sha256(concat(x"0c", b"otr/1/sample", order_id, self._le64(seed), self._le64(step)))
    value: uint256 = 0
    for i: uint256 in range(8):
        value = value | (((convert(words, uint256) >> (248 - 8 * i)) & 255) << (8 * i))
    return convert(value >> 11, int256)


@pure
@internal
def _le64(x: uint256) -> bytes8:
    value: uint256 = 0
    for i: uint256 in range(8):
        value = (value << 8) | ((x >> (8 * i)) & 255)
    return convert(convert(value, uint64), bytes8)


@view
@internal
def _accumulate(
    o: DynArray[shapes.Opening, 4], first: uint256, place: shapes.Place, roots: shapes.Roots, kind: uint256, step: uint256,
    before: int256, before_index: int256
) -> (int256, int256, uint256):
    """The accumulator after a step, and the openings used in all; ``first`` of them were accumulators."""
    value: int256 = before
    index: int256 = before_index
    # A tile of the operator before, times a tile of the element's row.
    if kind == DOT:
        source: uint256 = 4
        if place.target == 0 and place.operator != 5:
            source = place.operator - 1
        x: Bytes[1084] = self._tile(o[first], place, roots, source, step)
        w: Bytes[1084] = self._weights(o[first + 1], place, place.element, step)
        for i: uint256 in range(T, bound=128):
            # As ``_i64`` and ``_i32``, which would copy the tile at each call; no sum of tiles fills a word.
            left: int256 = (extract32(x, 8 * i, output_type=int256) << 192) >> 192
            value = unsafe_add(value, unsafe_mul(left, (extract32(w, 4 * i, output_type=int256) << 224) >> 224))
        return value, 0, first + 2
    # The largest magnitude of a row, or the sum of its scaled squares.
    if kind == PEAK or kind == SQUARES:
        second: bool = place.target == 0 and place.operator > 15
        next: uint256 = first
        down: int256 = 0
        if kind == SQUARES:
            down = self._down(self._value(o[first], place, roots, place.operator - 1, 0))
            next += 1
        x: Bytes[1084] = self._tile(o[next], place, roots, 15 if second else 0, step)
        for i: uint256 in range(T, bound=128):
            v: int256 = self._i64(x, i)
            if kind == PEAK:
                value = max(value, abs(v))
            else:
                v = self._shift(v, down)
                value += v * v
        return value, 0, next + 1
    # Weight × value of one position: this one's from QKV, an earlier one's from the trace.
    if kind == MIX:
        head: uint256 = place.element // T
        weight: int256 = self._value(o[first], place, roots, 13, head * self._padded(place.position + 1) + step)
        group: uint256 = head // (HEADS // KV_HEADS)
        number: uint256 = place.element % T
        if step == place.position:
            return value + weight * self._value(o[first + 1], place, roots, 5, (HEADS + KV_HEADS + group) * T + number), 0, first + 2
        self._check_row(o[first + 1], place, roots, 2, step, group)
        return value + weight * self._le32(o[first + 1].data, (group * T) % 256 + number), 0, first + 2
    # A tile of a row: of a head's scores (TOP) or exponentials (SUM); for a token of the logits or of the weights.
    source: uint256 = 8 if kind == TOP else 10
    tile: uint256 = step
    if place.target == 1:
        source = 5 if kind == TOP or kind == ARGMAX else 7
    else:
        tile += place.element * self._tiles(place.position + 1)
    values: Bytes[1084] = self._tile(o[first], place, roots, source, tile)
    count: uint256 = (len(values) - 24) // 8
    next: uint256 = first + 1
    target: int256 = 0
    if kind == DRAW:
        target = (self._draw(roots.order_id, roots.seed, place.token_step) * self._value(o[next], place, roots, 8, 0)) >> 53
        next += 1
    for i: uint256 in range(count, bound=128):
        v: int256 = self._i64(values, i)
        if kind == TOP:
            value = max(value, v)
        elif kind == ARGMAX:
            if v > value:
                value = v
                index = convert(step * T + i, int256)
        else:
            value += v
            if kind == DRAW and index < 0 and value > target:
                index = convert(step * T + i, int256)
    # Only a choice has an index.
    return value, 0 if kind == TOP or kind == SUM else index, next


@view
@internal
def _finish(o: DynArray[shapes.Opening, 4], used: uint256, place: shapes.Place, roots: shapes.Roots, kind: uint256, last: int256, index: int256) -> (int256, uint256):
    """The element's value from its last accumulator, and the openings used in all."""
    # Bits dropped: PROBABILITY, then the shift of the matrix (HEAD and GATE_UP 18, QKV 20, OUT 15, DOWN 14).
    if kind == MIX:
        return self._shift(last, 24), used
    if kind == ARGMAX or kind == DRAW:
        return index, used
    if kind != DOT:
        return last, used
    if place.target == 1 or place.operator == 20:
        return self._shift(last, 18), used
    if place.operator == 5:
        return self._shift(last, 20), used
    # OUT and DOWN: the result is added to the residual stream.
    stream: int256 = self._value(o[used], place, roots, 0 if place.operator == 15 else 15, place.element)
    return self._saturate(stream + self._shift(last, 15 if place.operator == 15 else 14), INT32), used + 1


@view
@external
def judge(place: shapes.Place, roots: shapes.Roots, openings: DynArray[shapes.Opening, 4]) -> bool:
    """Whether the step at ``place`` is right. Reverts when an opening is missing, superfluous or not under its root."""
    size: uint256 = self._size(place.target, roots.temperature)
    value: int256 = 0
    index: int256 = 0
    used: uint256 = 0
    # What the trace holds of the program's results is a copy of them.
    if place.operator == size:
        row: uint256 = 0
        at: uint256 = 0
        row, at = self._piece_place(place.piece)
        at += place.element
        operator: uint256 = 22
        if row == 1:
            operator = 7
        elif row == 2:
            operator = 5
            at += (HEADS + KV_HEADS) * T
        value = self._value(openings[0], place, roots, operator, at)
        assert len(openings) == 1, "openings"
        return value == place.value
    shape: Shape = self._shape(place.target, place.position, roots.temperature, place.operator)
    start: int256 = LOWEST if shape.kind == TOP or shape.kind == ARGMAX else 0
    start_index: int256 = -1 if shape.kind == DRAW else 0
    # A single step is judged together with the finish: no accumulator was committed to.
    if shape.steps == 1:
        if shape.kind == PEAK or shape.kind == SQUARES or shape.kind == DOT or shape.kind == TOP or shape.kind == SUM or shape.kind == MIX or shape.kind >= ARGMAX and shape.kind != TEMPER:
            value, index, used = self._accumulate(openings, 0, place, roots, shape.kind, 0, start, start_index)
            value, used = self._finish(openings, used, place, roots, shape.kind, value, index)
        else:
            value, used = self._at_once(openings, 0, place, roots, shape.kind)
        assert len(openings) == used, "openings"
        return value == place.value
    # The finish: from the last accumulator to the value that the operator published.
    if place.step == shape.steps:
        value, used = self._finish(openings, 0, place, roots, shape.kind, roots.before, roots.before_index)
        assert len(openings) == used, "openings"
        return value == place.value
    # Any other step: from the accumulator before it to the one after it.
    if place.step > 0:
        start = roots.before
        start_index = roots.before_index
    value, index, used = self._accumulate(openings, 0, place, roots, shape.kind, place.step, start, start_index)
    assert len(openings) == used, "openings"
    return value == roots.after and index == roots.after_index
