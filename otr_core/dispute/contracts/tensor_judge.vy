# pragma version 0.4.3
# pragma optimize codesize
"""
@title Judge of one step of the lane h100-bf16, for one registered model
@notice The definitions of otr_core/lane/tensor_primitives.py once more, reading in the same order; see there, and
        tensor_program.py for the programs. Blocks are judged by the contract blocks.vy, all other steps by floats.vy. Values are opened from roots as
        otr_core/dispute/judge.py opens them; a step is right or wrong, and a bad opening reverts. Of a value the lower 32
        bits are read as a word, whatever it is: no step is refused for its numbers.
"""

import shapes

interface Blocks:
    def result(a: uint256, b: uint256, c: uint256) -> uint256: view

interface Floats:
    def fold(words: uint256[32]) -> uint256: view
    def added(total: uint256, words: DynArray[uint256, 8], squared: bool) -> uint256: view
    def root(squares: uint256, count: uint256, least: uint256) -> uint256: view
    def scaled(x: uint256, factor: uint256, weight: uint256) -> uint256: view
    def turned(first: uint256, second: uint256, cosine: uint256, sine: uint256, other: bool) -> uint256: view
    def power(score: uint256, top: uint256) -> uint256: view
    def quotient(a: uint256, b: uint256) -> uint256: view
    def silu(gate: uint256, up: uint256) -> uint256: view
    def narrow(a: uint256) -> uint256: view
    def add(a: uint256, b: uint256) -> uint256: view
    def multiply(a: uint256, b: uint256) -> uint256: view
    def fixed(a: uint256) -> int256: view
    def whole(count: uint256) -> uint256: view
    def score_scale(width: uint256) -> uint256: view

struct Shape:
    kind: uint256
    length: uint256
    steps: uint256

# Kinds of primitives, as in otr_core/lane/program.py.
COPY: constant(uint256) = 0
TOP: constant(uint256) = 8
SUM: constant(uint256) = 10
TEMPER: constant(uint256) = 16
DRAW: constant(uint256) = 17
SQUARE_LANES: constant(uint256) = 21
LANES: constant(uint256) = 22
FOLD: constant(uint256) = 23
ROOT: constant(uint256) = 24
SCALED: constant(uint256) = 25
BLOCKS: constant(uint256) = 26
TURN: constant(uint256) = 27
NARROW: constant(uint256) = 28
GATHER: constant(uint256) = 29
SCORE_BLOCKS: constant(uint256) = 30
HIGHEST: constant(uint256) = 31
POWER: constant(uint256) = 32
MIX_BLOCKS: constant(uint256) = 33
QUOTIENT: constant(uint256) = 34
SILU: constant(uint256) = 35
FIRST_HIGHEST: constant(uint256) = 36
FIXED: constant(uint256) = 37
ACCUMULATES: constant(uint256) = 80604169472  # one bit for each kind that does

# Programs: of each operator, from the highest bits on, kind, two operators that are read, matrix, and a mark, a byte each;
# six of them in a word. The mark: 1: of keys, or of every head; 2: of values.
LAYER_SIZE: constant(uint256) = 26
LAYER: constant(bytes32[5]) = [
    0x00ffffff001500ffff001701ffff001802ffff001903000a001a04ff02000000,
    0x1b05ffff001b05ffff011c05ffff021d08ffff001e0607ff001f0affff000000,
    0x200b0aff00160cffff00170dffff011c0cffff00210f09ff0022100eff000000,
    0x1a110003001512ffff001713ffff001814ffff001915120b001a16ff04000000,
    0x2317ffff001a1812050000000000000000000000000000000000000000000000
]
GREEDY_SIZE: constant(uint256) = 7
GREEDY: constant(bytes32[2]) = [
    0x00ffffff001500ffff001701ffff001802ffff001903000c001a04ff01000000,
    0x2405ffff00000000000000000000000000000000000000000000000000000000
]
SAMPLED_SIZE: constant(uint256) = 11
SAMPLED: constant(bytes32[2]) = [
    0x00ffffff001500ffff001701ffff001802ffff001903000c001a04ff01000000,
    0x2505ffff000806ffff00100706ff000a08ffff00110809ff0000000000000000
]
KEY: constant(uint256) = 7  # number of the operator
VALUE: constant(uint256) = 8  # number of the operator

LOWEST: constant(int256) = -(2 ** 62)
MINUS_INFINITY: constant(uint256) = 511 << 23
EXP2_SIZE: constant(uint256) = 21 * 2 ** 13 + 1
TEMPERATURE_FACTOR: constant(int256) = 1512775395
LOW: constant(int256) = 2 ** 32 - 1
NAN: constant(uint256) = 2 ** 31 - 1
INFINITY: constant(uint256) = 255 << 23
# Name of the lane, and digest of its only configuration (otr_core/dispute/registry.py).
LANE: constant(bytes32) = keccak256("h100-bf16")
CONFIGURATION: constant(bytes32) = 0xa6cd9bc1bfa800530097d8f52bba5bb34cc6e66b2aa2051b1ffe87938ebe8765

WIDTH: immutable(uint256)
INNER: immutable(uint256)
LAYER_COUNT: immutable(uint256)
HEAD_COUNT: immutable(uint256)
KV_COUNT: immutable(uint256)
T: immutable(uint256)
VOCAB: immutable(uint256)
POSITIONS: immutable(uint256)
EPSILON: immutable(uint256)  # word of the norms' epsilon
COUNT: immutable(uint256)  # word of the width
SCALE: immutable(uint256)  # word of 1 / √T
LAYER_LEAVES: immutable(uint256)  # leaves of the weight tree that each layer has
FIRST_STOPS: immutable(uint256)  # token ids that end an answer, 32 bits each; all ones where there is none
LAST_STOPS: immutable(uint256)
WEIGHTS_ROOT: immutable(bytes32)
TABLES_ROOT: immutable(bytes32)
JUDGE_OF_BLOCKS: public(immutable(address))
JUDGE_OF_FLOATS: public(immutable(address))


@deploy
def __init__(
    words: uint256[9], weights_root: bytes32, tables_root: bytes32, stop_ids: DynArray[uint256, 16], judge_of_blocks: address,
    judge_of_floats: address,
):
    # registry.judgeable in Python: without these the honest side of some dispute has no move.
    for i: uint256 in range(8):
        assert words[i] > 0 and words[i] < 2 ** 32, "dims"
    hidden: uint256 = words[0]
    inner: uint256 = words[1]
    tile: uint256 = words[5]
    assert tile >= 8 and 256 % tile == 0, "dims"
    assert hidden % tile == 0 and inner % tile == 0 and hidden % 16 == 0 and inner % 16 == 0, "dims"
    assert words[3] % words[4] == 0 and hidden < 2 ** 24 and words[8] < 255 << 23, "dims"
    # A product of one block is judged with what it is added to: five openings in tiles of 8.
    assert (tile > 8 or inner > 16) and (tile > 8 or words[3] != 2), "dims"
    room: uint256 = words[7] + tile
    columns: uint256 = words[4] * tile * room
    most: uint256 = max(max(hidden + tile, 2 * inner), max(words[6], words[3] * room))
    assert max(most, columns) // tile < 2 ** 24 and words[2] * words[7] < 2 ** 32, "dims"
    assert judge_of_blocks.is_contract and judge_of_floats.is_contract, "steps"
    stops: uint256 = 0
    for i: uint256 in range(16):
        assert i >= len(stop_ids) or stop_ids[i] < words[6], "dims"
        if i == 8:
            FIRST_STOPS = stops
            stops = 0
        stops = (stops << 32) | (stop_ids[i] if i < len(stop_ids) else 2 ** 32 - 1)
    LAST_STOPS = stops
    WIDTH = hidden
    INNER = inner
    LAYER_COUNT = words[2]
    HEAD_COUNT = words[3]
    KV_COUNT = words[4]
    T = tile
    VOCAB = words[6]
    POSITIONS = words[7]
    EPSILON = words[8]
    COUNT = staticcall Floats(judge_of_floats).whole(hidden)
    SCALE = staticcall Floats(judge_of_floats).score_scale(tile)
    across: uint256 = hidden // tile
    # QKV, OUT, GATE_UP, DOWN, and three rows of norms.
    LAYER_LEAVES = (words[3] + 2 * words[4]) * hidden + hidden * words[3] + 2 * inner * across + hidden * inner // tile + 3 * across
    WEIGHTS_ROOT = weights_root
    TABLES_ROOT = tables_root
    JUDGE_OF_BLOCKS = judge_of_blocks
    JUDGE_OF_FLOATS = judge_of_floats


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
        return LAYER_SIZE
    return GREEDY_SIZE if temperature == 0 else SAMPLED_SIZE


@pure
@internal
def _line(target: uint256, temperature: uint256, operator: uint256) -> uint256:
    """The five bytes that describe an operator."""
    assert operator < self._size(target, temperature), "operator"
    word: uint256 = 0
    if target == 0:
        word = convert(LAYER[operator // 6], uint256)
    elif temperature == 0:
        word = convert(GREEDY[operator // 6], uint256)
    else:
        word = convert(SAMPLED[operator // 6], uint256)
    return (word >> (216 - 40 * (operator % 6))) & (2 ** 40 - 1)


@pure
@internal
def _part(line: uint256, number: uint256) -> uint256:
    """Byte number ``number`` of an operator's description."""
    return (line >> unsafe_sub(32, unsafe_mul(8, number))) & 255


@view
@internal
def _matrix(matrix: uint256) -> (uint256, uint256):
    """Rows and columns; rows of norms come last."""
    if matrix < 2:
        return VOCAB, WIDTH
    if matrix == 2:
        return (HEAD_COUNT + 2 * KV_COUNT) * T, WIDTH
    if matrix == 3:
        return WIDTH, HEAD_COUNT * T
    if matrix == 4:
        return 2 * INNER, WIDTH
    if matrix == 5:
        return WIDTH, INNER
    return 1, WIDTH


@view
@internal
def _shape(target: uint256, position: uint256, temperature: uint256, operator: uint256) -> Shape:
    """Kind, length and steps of an operator (tensor_program)."""
    line: uint256 = self._line(target, temperature, operator)
    kind: uint256 = self._part(line, 0)
    mark: uint256 = self._part(line, 4)
    wide: uint256 = HEAD_COUNT * self._padded(position + 1)
    length: uint256 = WIDTH  # COPY, SCALED
    steps: uint256 = 1
    if kind == BLOCKS:
        columns: uint256 = 0
        length, columns = self._matrix(self._part(line, 3))
        steps = (columns + 15) // 16
    elif kind == SQUARE_LANES:
        length = 32
        steps = WIDTH // T
    elif kind == LANES or kind == HIGHEST:
        length = HEAD_COUNT * 32 if kind == LANES else HEAD_COUNT
        steps = self._tiles(position + 1)
    elif kind == FOLD:
        length = HEAD_COUNT if mark == 1 else 1
    elif kind == ROOT:
        length = 1
    elif kind == TURN or kind == MIX_BLOCKS or kind == QUOTIENT:
        length = (KV_COUNT if mark == 1 else HEAD_COUNT) * T
        if kind == MIX_BLOCKS:
            steps = (position + 16) // 16
    elif kind == NARROW:
        length = KV_COUNT * T if mark == 2 else wide
    elif kind == GATHER:
        length = KV_COUNT * T * self._padded(position + 1)
    elif kind == SCORE_BLOCKS or kind == POWER:
        length = wide
        if kind == SCORE_BLOCKS:
            steps = (T + 15) // 16
    elif kind == SILU:
        length = INNER
    elif kind == FIXED or kind == TEMPER:
        length = VOCAB
    elif kind == FIRST_HIGHEST or kind == TOP or kind == SUM or kind == DRAW:
        length = 1
        steps = self._tiles(VOCAB)
    return Shape(kind=kind, length=length, steps=steps)


@view
@internal
def _rows() -> (uint256, uint256):
    """Pieces of an output row, and of a key (or value) row."""
    return (WIDTH + 255) // 256, (KV_COUNT * T + 255) // 256


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
    return min(256, (WIDTH if row == 0 else KV_COUNT * T) - first)


@view
@external
def program_size(target: uint256, temperature: uint256) -> uint256[2]:
    """Operators of a program, and layers of the model."""
    return [self._size(target, temperature), LAYER_COUNT]


@view
@external
def operator_shape(target: uint256, leaf: uint256, temperature: uint256, operator: uint256) -> (uint256, uint256, uint256, uint256):
    """As of judge.vy: length, tiles and steps of an operator, and the values of a tile."""
    if target == 0 and operator == LAYER_SIZE:
        return 0, 0, 1, T
    shape: Shape = self._shape(target, leaf // LAYER_COUNT if target == 0 else leaf - 1, temperature, operator)
    return shape.length, self._tiles(shape.length), shape.steps, T


@view
@external
def token(id: uint256) -> (bool, bool):
    """Whether the vocabulary has this token, and whether it ends an answer."""
    stops: bool = False
    for i: uint256 in range(8):
        for word: uint256 in [FIRST_STOPS, LAST_STOPS]:
            if (word >> (32 * i)) & (2 ** 32 - 1) == id:
                stops = True
    return id < VOCAB, stops


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
    return LAYER_COUNT, 4 * WIDTH, 4 * KV_COUNT * T, POSITIONS


@pure
@external
def lane() -> (bytes32, bytes32):
    """Hash of the lane's name, and digest of its only configuration."""
    return LANE, CONFIGURATION


# --- openings

@pure
@internal
def _climb(start: bytes32, at: uint256, of: uint256, proof: DynArray[bytes32, 64], used: uint256) -> (bytes32, uint256):
    """As of judge.vy: the root from a leaf and its path, and the place after the path."""
    node: bytes32 = start
    index: uint256 = at
    size: uint256 = of
    next: uint256 = used
    assert at < of, "index"
    for _: uint256 in range(64):
        if size <= 1:
            break
        if index & 1 == 1 or unsafe_add(index, 1) < size:
            assert next < len(proof), "path"
            if index & 1 == 1:
                node = sha256(concat(x"01", proof[next], node))
            else:
                node = sha256(concat(x"01", node, proof[next]))
            next = unsafe_add(next, 1)
        index >>= 1
        size = unsafe_add(size, 1) >> 1
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
def _check_tile(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, operator: uint256, tile: uint256):
    """The opening is a tile of an operator."""
    shape: Shape = self._shape(place.target, place.position, roots.temperature, operator)
    assert tile * T < shape.length, "index"
    count: uint256 = min(T, shape.length - tile * T)
    size: uint256 = self._size(place.target, roots.temperature)
    self._check(o, 8 * count, tile, self._tiles(shape.length), operator, size, roots.operators)


@pure
@internal
def _i64(data: Bytes[2048], number: uint256) -> int256:
    return (convert(convert(slice(data, 8 * number, 8), uint256), int256) << 192) >> 192


@pure
@internal
def _word64(data: Bytes[2048], number: uint256) -> uint256:
    """The lower 32 bits of a value of a tile."""
    return convert(slice(data, 8 * number + 4, 4), uint256)


@pure
@internal
def _word32(data: Bytes[2048], number: uint256) -> uint256:
    return convert(slice(data, 4 * number, 4), uint256)


@view
@internal
def _value(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, operator: uint256, element: uint256) -> uint256:
    self._check_tile(o, place, roots, operator, element // T)
    return self._word64(o.data, element % T)


@view
@internal
def _check_piece(o: shapes.Opening, roots: shapes.Roots, position: uint256, layer: uint256, piece: uint256):
    """The opening is a piece of a trace leaf, salt first."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    self._check(
        o, 32 + 4 * self._piece_values(piece), piece, outputs + 2 * keys,
        position * LAYER_COUNT + layer, roots.positions * LAYER_COUNT, roots.states,
    )


@view
@internal
def _row_piece(row: uint256, number: uint256) -> uint256:
    """Number of the piece that holds a value of the keys (row 1) or values (row 2)."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    return outputs + (keys if row == 2 else 0) + number // 256


@pure
@internal
def _le32(piece: Bytes[2048], number: uint256) -> uint256:
    word: uint256 = convert(slice(piece, 32 + 4 * number, 4), uint256)
    return ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | (word >> 24)


@view
@internal
def _check_weights(o: shapes.Opening, layer: uint256, matrix: uint256, row: uint256, chunk: uint256):
    """The opening is a tile of a row of a matrix (``Dims.weight_leaf``)."""
    across: uint256 = WIDTH // T
    leaf: uint256 = row * across + chunk
    if matrix == 1:
        leaf += VOCAB * across
    elif matrix > 1:
        leaf = 2 * VOCAB * across + layer * LAYER_LEAVES + chunk
        if matrix == 3 or matrix == 5:
            leaf += row * (HEAD_COUNT if matrix == 3 else INNER // T)
        else:
            leaf += row * across
        if matrix > 2:
            leaf += (HEAD_COUNT + 2 * KV_COUNT) * WIDTH
        if matrix > 3:
            leaf += WIDTH * HEAD_COUNT
        if matrix > 4:
            leaf += 2 * INNER * across
        if matrix > 9:
            leaf += WIDTH * (INNER // T) + (matrix - 10) * across
    self._check(o, 4 * T, leaf, 2 * VOCAB * across + LAYER_COUNT * LAYER_LEAVES, 0, 0, WEIGHTS_ROOT)


@view
@internal
def _check_table(o: shapes.Opening, first: uint256, size: uint256, tile: uint256):
    """The opening is a tile of a table that begins at leaf ``first`` and has ``size`` entries."""
    count: uint256 = min(T, size - tile * T)
    self._check(o, 4 * count, first + tile, self._tiles(EXP2_SIZE) + POSITIONS, 0, 0, TABLES_ROOT)


@view
@internal
def _exp2(o: shapes.Opening, entry: int256) -> int256:
    """The entry of the table of 2^-x, its number cut to the table."""
    at: uint256 = convert(min(max(entry, 0), convert(EXP2_SIZE, int256) - 1), uint256)
    self._check_table(o, 0, EXP2_SIZE, at // T)
    return (convert(self._word32(o.data, at % T), int256) << 224) >> 224


# --- blocks

@pure
@internal
def _upper64(data: Bytes[2048], first: uint256, count: uint256) -> uint256:
    """The upper halves of the words of ``count`` values of a tile, 8 or 16, as a block takes them."""
    packed: uint256 = 0
    for i: uint256 in range(count >> 2, bound=4):
        w: uint256 = extract32(data, unsafe_add(unsafe_mul(8, first), unsafe_mul(32, i)), output_type=uint256)
        four: uint256 = (((w >> 208) & 65535) << 48) | (((w >> 144) & 65535) << 32) | (((w >> 80) & 65535) << 16) | ((w >> 16) & 65535)
        packed = (packed << 64) | four
    return packed


@pure
@internal
def _upper32(data: Bytes[2048], first: uint256, count: uint256) -> uint256:
    """As ``_upper64`` of weights."""
    packed: uint256 = 0
    for i: uint256 in range(count >> 3, bound=2):
        w: uint256 = extract32(data, unsafe_add(unsafe_mul(4, first), unsafe_mul(32, i)), output_type=uint256)
        four: uint256 = ((w >> 240) << 48) | (((w >> 208) & 65535) << 32) | (((w >> 176) & 65535) << 16) | ((w >> 144) & 65535)
        packed = (packed << 64) | four
        four = (((w >> 112) & 65535) << 48) | (((w >> 80) & 65535) << 32) | (((w >> 48) & 65535) << 16) | ((w >> 16) & 65535)
        packed = (packed << 64) | four
    return packed


@pure
@internal
def _upper_le(data: Bytes[2048], first: uint256, count: uint256) -> uint256:
    """As ``_upper64`` of a piece of the trace."""
    packed: uint256 = 0
    for i: uint256 in range(count, bound=16):
        packed = (packed << 16) | (self._le32(data, first + i) >> 16)
    return packed


@view
@internal
def _factors(
    o: DynArray[shapes.Opening, 4], used: uint256, place: shapes.Place, roots: shapes.Roots, operator: uint256, row: uint256,
    length: uint256, step: uint256,
) -> (uint256, uint256):
    """The 16 values of block ``step`` of an operator's row, which begins with tile ``row`` and has ``length`` values; and
    the openings used in all."""
    self._check_tile(o[used], place, roots, operator, row + 16 * step // T)
    if T >= 16:
        return self._upper64(o[used].data, (16 * step) % T, 16), used + 1
    packed: uint256 = self._upper64(o[used].data, 0, 8) << 128
    if 16 * step + 8 >= length:
        return packed, used + 1
    self._check_tile(o[used + 1], place, roots, operator, row + 2 * step + 1)
    return packed | self._upper64(o[used + 1].data, 0, 8), used + 2


@view
@internal
def _block(a: uint256, b: uint256, before: int256) -> int256:
    return self._held(staticcall Blocks(JUDGE_OF_BLOCKS).result(a, b, self._low(before)))


@pure
@internal
def _held(word: uint256) -> int256:
    """A word as the signed number that operators hold."""
    return (convert(word, int256) << 224) >> 224


@pure
@internal
def _low(x: int256) -> uint256:
    return convert(x & LOW, uint256)


@pure
@internal
def _ordered(word: uint256) -> int256:
    """As fp32.ordered: zeros are equal, and a NaN is above all."""
    magnitude: uint256 = word & NAN
    if magnitude > INFINITY:
        return convert(INFINITY + 1, int256)
    return convert(magnitude, int256) if word <= NAN else -convert(magnitude, int256)


# --- steps

@view
@internal
def _at_once(o: DynArray[shapes.Opening, 4], place: shapes.Place, roots: shapes.Roots, line: uint256) -> (int256, uint256):
    """Value of an element that needs no accumulation, and the openings it took."""
    e: uint256 = place.element
    kind: uint256 = self._part(line, 0)
    r0: uint256 = self._part(line, 1)
    r1: uint256 = self._part(line, 2)
    mark: uint256 = self._part(line, 4)
    padded: uint256 = self._padded(place.position + 1)
    if kind == COPY:
        if place.target == 0 and place.layer == 0:
            self._check(o[0], 40, place.position, roots.positions + 1, 0, 0, roots.tokens)
            self._check_weights(o[1], 0, 0, self._le32(o[0].data, 0), e // T)
            return self._held(self._word32(o[1].data, e % T)), 2
        layer: uint256 = place.layer if place.target == 1 else place.layer - 1
        self._check_piece(o[0], roots, place.position, layer, e // 256)
        return self._held(self._le32(o[0].data, e % 256)), 1
    if kind == FOLD:
        words: uint256[32] = empty(uint256[32])
        used: uint256 = 0
        for i: uint256 in range(32):
            at: uint256 = 32 * e + i
            if i == 0 or at % T == 0:
                self._check_tile(o[used], place, roots, r0, at // T)
                used += 1
            words[i] = self._word64(o[used - 1].data, at % T)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).fold(words)), used
    if kind == ROOT:
        squares: uint256 = self._value(o[0], place, roots, r0, 0)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).root(squares, COUNT, EPSILON)), 1
    if kind == SCALED:
        factor: uint256 = self._value(o[0], place, roots, r0, 0)
        x: uint256 = self._value(o[1], place, roots, r1, e)
        self._check_weights(o[2], place.layer, self._part(line, 3), 0, e // T)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).scaled(x, factor, self._word32(o[2].data, e % T))), 3
    if kind == TURN:
        self._check_tile(o[0], place, roots, r0, e // T + (HEAD_COUNT if mark == 1 else 0))
        self._check_table(o[1], self._tiles(EXP2_SIZE), POSITIONS * T, place.position)
        half: uint256 = T // 2
        j: uint256 = e % half
        first: uint256 = self._word64(o[0].data, j)
        second: uint256 = self._word64(o[0].data, j + half)
        cosine: uint256 = self._word32(o[1].data, j)
        sine: uint256 = self._word32(o[1].data, j + half)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).turned(first, second, cosine, sine, e % T >= half)), 2
    if kind == NARROW:
        first: uint256 = (HEAD_COUNT + KV_COUNT) * T if mark == 2 else 0
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).narrow(self._value(o[0], place, roots, r0, first + e))), 1
    if kind == GATHER:
        column: uint256 = e // padded
        at: uint256 = e % padded
        if at > place.position:
            return 0, 0
        if at == place.position:
            return self._held(self._value(o[0], place, roots, r0, column)), 1
        self._check_piece(o[0], roots, at, place.layer, self._row_piece(2, column))
        return self._held(self._le32(o[0].data, column % 256)), 1
    if kind == POWER:
        if e % padded > place.position:
            return 0, 0
        top: uint256 = self._value(o[0], place, roots, r0, e // padded)
        score: uint256 = self._value(o[1], place, roots, r1, e)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).power(score, top)), 2
    if kind == QUOTIENT:
        mix: uint256 = self._value(o[0], place, roots, r0, e)
        total: uint256 = self._value(o[1], place, roots, r1, e // T)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).quotient(mix, total)), 2
    if kind == SILU:
        gate: uint256 = self._value(o[0], place, roots, r0, e)
        up: uint256 = self._value(o[1], place, roots, r0, INNER + e)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).silu(gate, up)), 2
    if kind == FIXED:
        return staticcall Floats(JUDGE_OF_FLOATS).fixed(self._value(o[0], place, roots, r0, e)), 1
    # TEMPER is left.
    self._check_tile(o[0], place, roots, r0, 0)
    self._check_tile(o[1], place, roots, r1, e // T)
    distance: int256 = self._i64(o[0].data, 0) - self._i64(o[1].data, e % T)
    return self._exp2(o[2], distance * TEMPERATURE_FACTOR // convert(roots.temperature << 23, int256)), 3


@view
@internal
def _accumulate(
    o: DynArray[shapes.Opening, 4], place: shapes.Place, roots: shapes.Roots, line: uint256, step: uint256, before: int256,
    before_index: int256,
) -> (int256, int256, uint256):
    """The accumulator after a step, and the openings used."""
    kind: uint256 = self._part(line, 0)
    r0: uint256 = self._part(line, 1)
    r1: uint256 = self._part(line, 2)
    e: uint256 = place.element
    padded: uint256 = self._padded(place.position + 1)
    a: uint256 = 0
    b: uint256 = 0
    used: uint256 = 0
    # A block of a vector and a row of a matrix.
    if kind == BLOCKS:
        matrix: uint256 = self._part(line, 3)
        rows: uint256 = 0
        columns: uint256 = 0
        rows, columns = self._matrix(matrix)
        a, used = self._factors(o, 0, place, roots, r0, 0, columns, step)
        self._check_weights(o[used], place.layer, matrix, e, 16 * step // T)
        if T >= 16:
            b = self._upper32(o[used].data, (16 * step) % T, 16)
        else:
            b = self._upper32(o[used].data, 0, 8) << 128
            if 16 * step + 8 < columns:
                used += 1
                self._check_weights(o[used], place.layer, matrix, e, 2 * step + 1)
                b |= self._upper32(o[used].data, 0, 8)
        return self._block(a, b, before), 0, used + 1
    # A block of a query and the key of one position: this one's from KEY, an earlier one's from the trace.
    if kind == SCORE_BLOCKS:
        at: uint256 = e % padded
        if at > place.position:
            return 0, 0, 0
        head: uint256 = e // padded
        group: uint256 = head // (HEAD_COUNT // KV_COUNT)
        count: uint256 = min(T, 16)
        self._check_tile(o[0], place, roots, r0, head)
        a = self._upper64(o[0].data, 16 * step, count)
        if at == place.position:
            self._check_tile(o[1], place, roots, r1, group)
            b = self._upper64(o[1].data, 16 * step, count)
        else:
            self._check_piece(o[1], roots, at, place.layer, self._row_piece(1, group * T))
            b = self._upper_le(o[1].data, (group * T) % 256 + 16 * step, count)
        up: uint256 = 16 * (16 - count)
        return self._block(a << up, b << up, before), 0, 2
    # A block of weights and the values of one column, along the positions.
    if kind == MIX_BLOCKS:
        tiles: uint256 = padded // T
        column: uint256 = e // T // (HEAD_COUNT // KV_COUNT) * T + e % T
        a, used = self._factors(o, 0, place, roots, r0, e // T * tiles, padded, step)
        b, used = self._factors(o, used, place, roots, r1, column * tiles, padded, step)
        return self._block(a, b, before), 0, used
    tile: uint256 = step
    # Every 32nd value of a row, or its square.
    if kind == LANES or kind == SQUARE_LANES:
        if kind == LANES:
            tile += e // 32 * (padded // T)
        self._check_tile(o[0], place, roots, r0, tile)
        own: DynArray[uint256, 8] = []
        for i: uint256 in range(T, bound=256):
            if (step * T + i) % 32 == e % 32:
                own.append(self._word64(o[0].data, i))
        total: uint256 = self._low(before)
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).added(total, own, kind == SQUARE_LANES)), 0, 1
    # A tile of a row: of a head's scores (HIGHEST), of the logits, or of the weights.
    if kind == HIGHEST:
        tile += e * (padded // T)
    self._check_tile(o[0], place, roots, r0, tile)
    count: uint256 = len(o[0].data) // 8
    value: int256 = before
    index: int256 = before_index
    if kind == HIGHEST or kind == FIRST_HIGHEST:
        best: uint256 = self._low(before)
        if step == 0:
            best = self._word64(o[0].data, 0)
            index = 0
        for i: uint256 in range(count, bound=256):
            x: uint256 = self._word64(o[0].data, i)
            if self._ordered(x) > self._ordered(best):
                best = x
                index = convert(step * T + i, int256)
        return self._held(best), index if kind == FIRST_HIGHEST else 0, 1
    used = 1
    target: int256 = 0
    if kind == DRAW:
        self._check_tile(o[1], place, roots, r1, 0)
        target = (self._draw(roots.order_id, roots.seed, place.token_step) * self._i64(o[1].data, 0)) >> 53
        used = 2
    for i: uint256 in range(count, bound=256):
        v: int256 = self._i64(o[0].data, i)
        if kind == TOP:
            value = max(value, v)
        else:
            value += v
            if kind == DRAW and index < 0 and value > target:
                index = convert(step * T + i, int256)
    return value, index if kind == DRAW else 0, used


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
def _finish(
    o: DynArray[shapes.Opening, 4], used: uint256, place: shapes.Place, roots: shapes.Roots, line: uint256, last: int256,
    index: int256,
) -> (int256, uint256):
    """The element's value from its last accumulator, and the openings used in all."""
    kind: uint256 = self._part(line, 0)
    if kind == FIRST_HIGHEST or kind == DRAW:
        return index, used
    word: uint256 = self._low(last)
    if kind == SCORE_BLOCKS:
        if place.element % self._padded(place.position + 1) > place.position:
            return self._held(MINUS_INFINITY), used
        return self._held(staticcall Floats(JUDGE_OF_FLOATS).multiply(word, SCALE)), used
    if kind != BLOCKS:
        return last, used
    if self._part(line, 2) == 255:
        return self._held(word), used
    # The result is added to the residual stream.
    x: uint256 = self._value(o[used], place, roots, self._part(line, 2), place.element)
    return self._held(staticcall Floats(JUDGE_OF_FLOATS).add(x, word)), used + 1


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
        operator: uint256 = size - 1
        if row == 1:
            operator = KEY
        elif row == 2:
            operator = VALUE
        self._check_tile(openings[0], place, roots, operator, at // T)
        assert len(openings) == 1, "openings"
        return self._i64(openings[0].data, at % T) == place.value
    shape: Shape = self._shape(place.target, place.position, roots.temperature, place.operator)
    line: uint256 = self._line(place.target, roots.temperature, place.operator)
    start: int256 = LOWEST if shape.kind == TOP else 0
    start_index: int256 = -1 if shape.kind == DRAW else 0
    # A single step is judged together with the finish: no accumulator was committed to.
    if shape.steps == 1:
        if (ACCUMULATES >> shape.kind) & 1 == 1:
            value, index, used = self._accumulate(openings, place, roots, line, 0, start, start_index)
            value, used = self._finish(openings, used, place, roots, line, value, index)
        else:
            value, used = self._at_once(openings, place, roots, line)
        assert len(openings) == used, "openings"
        return value == place.value
    # The finish: from the last accumulator to the value that the operator published.
    if place.step == shape.steps:
        value, used = self._finish(openings, 0, place, roots, line, roots.before, roots.before_index)
        assert len(openings) == used, "openings"
        return value == place.value
    # Any other step: from the accumulator before it to the one after it.
    if place.step > 0:
        start = roots.before
        start_index = roots.before_index
    value, index, used = self._accumulate(openings, place, roots, line, place.step, start, start_index)
    assert len(openings) == used, "openings"
    return value == roots.after and index == roots.after_index
