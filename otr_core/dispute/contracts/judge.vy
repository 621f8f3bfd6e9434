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
SCALE: constant(uint256) = 18
CAP: constant(uint256) = 19
GELU: constant(uint256) = 20

# The model in words (otr_core/dispute/words.py, in this order); T is its tile.
HIDDEN: constant(uint256) = 0
INTERMEDIATE: constant(uint256) = 1
LAYERS: constant(uint256) = 2
HEADS: constant(uint256) = 3
KV_HEADS: constant(uint256) = 4
TILE: constant(uint256) = 5
VOCAB: constant(uint256) = 6
CONTEXT: constant(uint256) = 7
NORMS: constant(uint256) = 8  # of stream, queries, keys: rows, width, epsilon, numerator, drop
WINDOW: constant(uint256) = 23
SLIDING: constant(uint256) = 24  # a bit for each layer
SECOND: constant(uint256) = 25  # a bit for each layer
CAPS: constant(uint256) = 26  # of scores, of logits
MATRICES: constant(uint256) = 28  # of each matrix: rows, columns, its first leaf in the weight tree, in layer 0
LAYER_LEAVES: constant(uint256) = 58  # leaves of the weight tree that each layer has
LEAVES: constant(uint256) = 59  # leaves of the weight tree
KEY: constant(uint256) = 60  # number of the operator
QKV: constant(uint256) = 61  # number of the operator
# Programs: how many operators, then four of them in a word, eight bytes each: kind, three operators that are read,
# matrix, norm, marks (1: keys, which follow the queries in QKV; 2: saturates; 4: ones and zeros follow), shift.
LAYER_PROGRAM: constant(uint256) = 62
GREEDY_PROGRAM: constant(uint256) = 75
SAMPLED_PROGRAM: constant(uint256) = 79

# Constants of otr_core/lane/step.py and formats.py; the table sizes are EXP2_ENTRIES and SIGMOID_ENTRIES.
LOWEST: constant(int256) = -(2 ** 62)
PADDING: constant(int256) = -(2 ** 52)
INT32: constant(int256) = 2 ** 31 - 1
EXP2_SIZE: constant(uint256) = 21 * 2 ** 13 + 1
SIGMOID_SIZE: constant(uint256) = 40 * 2 ** 13 + 1
TEMPERATURE_FACTOR: constant(int256) = 1512775395
ACCUMULATES: constant(uint256) = 173350
GELU_LINEAR: constant(int256) = 1673285
GELU_CUBIC: constant(int256) = 74821
# Put before opened data, so that a whole word can be read that ends in its first value.
ZERO24: constant(Bytes[24]) = x"000000000000000000000000000000000000000000000000"
ZERO28: constant(Bytes[28]) = x"00000000000000000000000000000000000000000000000000000000"

# Digests of the only configuration of portable-1 and portable-2 (otr_core/dispute/registry.py).
PLAIN: constant(bytes32) = 0xaf6f081fa88e0e78f251c1f3e6566ec8817017fe13a7a1420972bb940cbcab44
NORMED: constant(bytes32) = 0xef6af455642c7f52c736766f06c68d4aeddf9afcc62a9cd30b26aab4875c8e61

MOST_TILE: constant(uint256) = 256  # values of 8 bytes, all of which one opening holds

# The registered model in words (too many to lie in the code), its tile, and the roots of its weights and tables.
D: uint256[83]
T: immutable(uint256)
# Those words that most calls need lie in the code all the same: a word of storage costs 2,100 gas to read.
WIDTH: immutable(uint256)
INNER: immutable(uint256)
LAYER_COUNT: immutable(uint256)
HEAD_COUNT: immutable(uint256)
KV_COUNT: immutable(uint256)
POSITIONS: immutable(uint256)
LAYER_SIZE: immutable(uint256)  # operators of a layer's program
LANE: immutable(bytes32)  # hash of the lane's name
CONFIGURATION: immutable(bytes32)
STOPS: immutable(uint256[16])  # token ids that end an answer
WEIGHTS_ROOT: immutable(bytes32)
TABLES_ROOT: immutable(bytes32)


@deploy
def __init__(words: uint256[83], weights_root: bytes32, tables_root: bytes32, stop_ids: DynArray[uint256, 16]):
    # registry.judgeable in Python: without these the honest side of some dispute has no move.
    for i: uint256 in range(8):
        assert words[i] < 2 ** 62, "dims"
    tile: uint256 = words[TILE]
    assert tile >= 2 and tile <= MOST_TILE and tile % 2 == 0, "dims"
    assert min(min(words[HIDDEN], words[INTERMEDIATE]), min(words[LAYERS], words[KV_HEADS])) > 0, "dims"
    assert min(words[HEADS], min(words[VOCAB], words[CONTEXT])) > 0 and words[HEADS] % words[KV_HEADS] == 0, "dims"
    attention: uint256 = words[HEADS] * (words[CONTEXT] + tile)
    assert max(max(words[HIDDEN] + tile, 2 * words[INTERMEDIATE]), max(words[VOCAB], attention)) // tile < 2 ** 24, "dims"
    assert words[LAYERS] * words[CONTEXT] < 2 ** 32, "dims"
    for i: uint256 in range(3):
        norm: uint256 = NORMS + 5 * i
        assert words[norm + 2] < 2 ** 62 and words[norm + 3] < 2 ** 52 and words[norm + 4] < 64, "dims"
    assert max(words[CAPS], words[CAPS + 1]) < 2 ** 62, "dims"
    stops: uint256[16] = empty(uint256[16])
    for i: uint256 in range(16):
        stops[i] = stop_ids[i] if i < len(stop_ids) else max_value(uint256)
        assert i >= len(stop_ids) or stop_ids[i] < words[VOCAB], "dims"
    STOPS = stops
    self.D = words
    T = tile
    WIDTH = words[HIDDEN]
    INNER = words[INTERMEDIATE]
    LAYER_COUNT = words[LAYERS]
    HEAD_COUNT = words[HEADS]
    KV_COUNT = words[KV_HEADS]
    POSITIONS = words[CONTEXT]
    LAYER_SIZE = words[LAYER_PROGRAM]
    # The lane of models whose queries and keys have norms has a name of its own.
    LANE = keccak256("portable-2") if words[NORMS + 5] > 0 else keccak256("portable-1")
    CONFIGURATION = NORMED if words[NORMS + 5] > 0 else PLAIN
    WEIGHTS_ROOT = weights_root
    TABLES_ROOT = tables_root


# --- the program

@view
@internal
def _tiles(length: uint256) -> uint256:
    return (length + T - 1) // T


@view
@internal
def _count(length: uint256, tile: uint256) -> uint256:
    """Values of a tile: the last may have fewer."""
    return min(T, length - tile * T)


@view
@internal
def _padded(seen: uint256) -> uint256:
    return self._tiles(seen) * T


@pure
@internal
def _program(target: uint256, temperature: uint256) -> uint256:
    if target == 0:
        return LAYER_PROGRAM
    return GREEDY_PROGRAM if temperature == 0 else SAMPLED_PROGRAM


@view
@internal
def _size(target: uint256, temperature: uint256) -> uint256:
    if target == 0:
        return LAYER_SIZE
    return self.D[self._program(target, temperature)]


@view
@internal
def _line(target: uint256, temperature: uint256, operator: uint256) -> uint256:
    """The eight bytes that describe an operator."""
    assert operator < self._size(target, temperature), "operator"
    return self.D[self._program(target, temperature) + 1 + operator // 4] >> (64 * (3 - operator % 4))


@pure
@internal
def _part(line: uint256, number: uint256) -> uint256:
    """Byte number ``number`` of an operator's description."""
    return (line >> (56 - 8 * number)) & 255


@view
@internal
def _shape(target: uint256, position: uint256, temperature: uint256, operator: uint256) -> Shape:
    """Kind, length and steps of an operator (program._sized)."""
    line: uint256 = self._line(target, temperature, operator)
    kind: uint256 = self._part(line, 0)
    norm: uint256 = NORMS + 5 * self._part(line, 5)
    # rows and width of the weights that are summed to one
    rows: uint256 = HEAD_COUNT
    width: uint256 = self._padded(position + 1)
    if target == 1:
        rows = 1
        width = self.D[VOCAB]
    if kind == DOT or kind == PEAK or kind == SQUARES:
        sizes: uint256 = MATRICES + 3 * self._part(line, 4) if kind == DOT else norm
        return Shape(kind=kind, length=self.D[sizes], steps=self._tiles(self.D[sizes + 1]))
    if kind == TOP or kind == SUM or kind == ARGMAX or kind == DRAW:
        return Shape(kind=kind, length=rows, steps=self._tiles(width))
    if kind == MIX:
        return Shape(kind=kind, length=HEAD_COUNT * T, steps=position + 1)
    length: uint256 = INNER  # GATE, GELU
    if kind == COPY:
        length = WIDTH
    elif kind == FACTOR:
        length = self.D[norm]
    elif kind == NORM:
        length = self.D[norm] * self.D[norm + 1]
        if self._part(line, 6) & 4 != 0:
            length += T
    elif kind == ROTATE:
        length = (KV_COUNT if self._part(line, 5) == 2 else HEAD_COUNT) * T
    elif kind == SCALE:
        length = self.D[MATRICES + 3 * self._part(line, 4) + 1]
    elif kind == SHARE:
        length = rows
    elif kind != GATE and kind != GELU:
        length = rows * width
    return Shape(kind=kind, length=length, steps=1)


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
    """Length, tiles and steps of an operator, and the values of a tile; no tiles stand for what the trace holds. The
    leaf is that of the trace, or the number of the token."""
    if target == 0 and operator == LAYER_SIZE:
        return 0, 0, 1, T
    shape: Shape = self._shape(target, leaf // LAYER_COUNT if target == 0 else leaf - 1, temperature, operator)
    return shape.length, self._tiles(shape.length), shape.steps, T


@view
@external
def token(id: uint256) -> (bool, bool):
    """Whether the vocabulary has this token, and whether it ends an answer."""
    return id < self.D[VOCAB], id in STOPS


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


@view
@external
def lane() -> (bytes32, bytes32):
    """Hash of the lane's name, and digest of its only configuration."""
    return LANE, CONFIGURATION


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
def _tile(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, operator: uint256, tile: uint256) -> Bytes[2076]:
    """A tile of an operator, with 24 zero bytes before it so that ``_i64`` can read words."""
    shape: Shape = self._shape(place.target, place.position, roots.temperature, operator)
    count: uint256 = self._count(shape.length, tile)
    size: uint256 = self._size(place.target, roots.temperature)
    self._check(o, 8 * count, tile, self._tiles(shape.length), operator, size, roots.operators)
    return concat(ZERO24, slice(o.data, 0, 8 * count))


@pure
@internal
def _i64(padded: Bytes[2076], number: uint256) -> int256:
    return (extract32(padded, 8 * number, output_type=int256) << 192) >> 192


@view
@internal
def _value(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, operator: uint256, element: uint256) -> int256:
    return self._i64(self._tile(o, place, roots, operator, element // T), element % T)


@view
@internal
def _piece(o: shapes.Opening, roots: shapes.Roots, position: uint256, layer: uint256, piece: uint256) -> Bytes[2048]:
    """A piece of a trace leaf, salt first."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    self._check(
        o, 32 + 4 * self._piece_values(piece), piece, outputs + 2 * keys,
        position * LAYER_COUNT + layer, roots.positions * LAYER_COUNT, roots.states,
    )
    return o.data


@pure
@internal
def _le32(piece: Bytes[2048], number: uint256) -> int256:
    word: uint256 = convert(extract32(piece, 4 * number + 4), uint256)
    value: uint256 = ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | ((word >> 24) & 255)
    return (convert(value, int256) << 224) >> 224


@view
@internal
def _weights(o: shapes.Opening, layer: uint256, matrix: uint256, row: uint256, chunk: uint256) -> Bytes[2076]:
    """Weights of a row's tile, the last of which may be shorter, with 28 zero bytes before."""
    at: uint256 = MATRICES + 3 * matrix
    columns: uint256 = self.D[at + 1]
    count: uint256 = self._count(columns, chunk)
    leaf: uint256 = self.D[at + 2] + row * self._tiles(columns) + chunk
    if matrix > 1:
        leaf += layer * self.D[LAYER_LEAVES]
    self._check(o, 4 * count, leaf, self.D[LEAVES], 0, 0, WEIGHTS_ROOT)
    return concat(ZERO28, slice(o.data, 0, 4 * count))


@pure
@internal
def _i32(padded: Bytes[2076], number: uint256) -> int256:
    return (extract32(padded, 4 * number, output_type=int256) << 224) >> 224


@view
@internal
def _table(o: shapes.Opening, table: uint256, tile: uint256) -> Bytes[2076]:
    """A tile of a table (0 EXP2, 1 SIGMOID, 2 ROTARY, 3 SATURATION), with 28 zero bytes before."""
    exp2: uint256 = self._tiles(EXP2_SIZE)
    sigmoid: uint256 = self._tiles(SIGMOID_SIZE)
    turns: uint256 = POSITIONS * (2 if self.D[SECOND] > 0 else 1)
    first: uint256 = 0
    size: uint256 = EXP2_SIZE
    if table == 1:
        first = exp2
        size = SIGMOID_SIZE
    elif table == 2:
        first = exp2 + sigmoid
        size = turns * T
    elif table == 3:
        first = exp2 + sigmoid + turns
        size = LAYER_COUNT
    count: uint256 = self._count(size, tile)
    self._check(o, 4 * count, first + tile, exp2 + sigmoid + turns + self._tiles(LAYER_COUNT), 0, 0, TABLES_ROOT)
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
def _check_row(o: shapes.Opening, place: shapes.Place, roots: shapes.Roots, row: uint256, at: uint256, number: uint256):
    """The opening is the piece with this number of the keys (row 1) or values (row 2) of position ``at``."""
    outputs: uint256 = 0
    keys: uint256 = 0
    outputs, keys = self._rows()
    piece: uint256 = outputs + (keys if row == 2 else 0) + number // 256
    _unused: Bytes[2048] = self._piece(o, roots, at, place.layer, piece)


@view
@internal
def _hidden_place(place: shapes.Place, at: uint256) -> bool:
    """Whether the place's position does not see position ``at`` in its layer."""
    first: uint256 = 0
    if (self.D[SLIDING] >> place.layer) & 1 == 1 and place.position + 1 > self.D[WINDOW]:
        first = place.position + 1 - self.D[WINDOW]
    return at > place.position or at < first


@view
@internal
def _capped(o: shapes.Opening, x: int256, cap: int256) -> int256:
    """cap · tanh(x / cap), by the sigmoid's entry in ``o`` and its slope there (CAP_REST, CAP_MORE, CAP_SLOPE)."""
    index: int256 = (min(abs(x), 10 * cap) << 22) // cap
    entry: int256 = self._entry(o, 1, (index >> 8) + (20 << 13), SIGMOID_SIZE)
    sigmoid: int256 = (entry << 4) + ((entry * ((1 << 20) - entry) * (index & 255)) >> 37)
    value: int256 = self._shift(cap * (2 * sigmoid - (1 << 24)), 24)
    return value if x >= 0 else -value


@view
@internal
def _at_once(o: DynArray[shapes.Opening, 4], place: shapes.Place, roots: shapes.Roots, line: uint256) -> (int256, uint256):
    """Value of an element that needs no accumulation, and the openings it took."""
    e: uint256 = place.element
    kind: uint256 = self._part(line, 0)
    r0: uint256 = self._part(line, 1)
    r1: uint256 = self._part(line, 2)
    matrix: uint256 = self._part(line, 4)
    norm: uint256 = NORMS + 5 * self._part(line, 5)
    drop: int256 = convert(self._part(line, 7), int256)
    first: uint256 = HEAD_COUNT if self._part(line, 6) & 1 != 0 else 0
    padded: uint256 = self._padded(place.position + 1)
    # What enters: in the first layer the embedding of the token fed, elsewhere the output of the layer below.
    if kind == COPY:
        if place.target == 0 and place.layer == 0:
            self._check(o[0], 40, place.position, roots.positions + 1, 0, 0, roots.tokens)
            word: uint256 = convert(slice(o[0].data, 32, 4), uint256)
            token: uint256 = ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | (word >> 24)
            return self._i32(self._weights(o[1], 0, 0, token, e // T), e % T), 2
        layer: uint256 = place.layer if place.target == 1 else place.layer - 1
        return self._le32(self._piece(o[0], roots, place.position, layer, e // 256), e % 256), 1
    # √n / √(sum of squares + epsilon), the epsilon scaled as the squares are.
    if kind == FACTOR:
        down: int256 = self._down(self._value(o[0], place, roots, r0, e))
        squares: int256 = self._value(o[1], place, roots, r1, e) + self._shift(convert(self.D[norm + 2], int256), 2 * down)
        return convert(self.D[norm + 3] // isqrt(convert(max(4 * squares, 1), uint256)), int256), 2
    # One scaled value times the row's factor; past the rows a one, then zeros.
    if kind == NORM:
        row: uint256 = e // self.D[norm + 1]
        if row == self.D[norm]:
            return (1 << 18) if e % self.D[norm + 1] == 0 else 0, 0
        down: int256 = self._down(self._value(o[0], place, roots, r0, row))
        factor: int256 = self._value(o[1], place, roots, r1, row)
        x: int256 = self._value(o[2], place, roots, self._part(line, 3), first * T + e)
        return self._shift(self._shift(x, down) * factor, convert(self.D[norm + 4], int256)), 3
    # A normed value times its weight, perhaps added to the residual stream.
    if kind == SCALE:
        x: int256 = self._value(o[0], place, roots, r0, e)
        x = self._shift(x * self._i32(self._weights(o[1], place.layer, matrix, 0, e // T), e % T), drop)
        if r1 == 255:
            return x, 2
        return self._saturate(x + self._value(o[2], place, roots, r1, e), INT32), 3
    # Value j of a head, turned with value j + T / 2; 20 fraction bits of cosine and sine are dropped (ROTARY).
    if kind == ROTATE:
        x: Bytes[2076] = self._tile(o[0], place, roots, r0, e // T + first)
        second: uint256 = POSITIONS if (self.D[SECOND] >> place.layer) & 1 == 1 else 0
        turn: Bytes[2076] = self._table(o[1], 2, place.position + second)
        half: uint256 = T // 2
        j: uint256 = e % T
        if j < half:
            return self._shift(self._i64(x, j) * self._i32(turn, j) - self._i64(x, j + half) * self._i32(turn, j + half), 20), 2
        return self._shift(self._i64(x, j) * self._i32(turn, j - half) + self._i64(x, j - half) * self._i32(turn, j), 20), 2
    if (kind == SCORE or kind == CAP) and place.target == 0 and self._hidden_place(place, e % padded):
        return PADDING, 0
    # A query times the key of one position: this one's from KEY, an earlier one's from the trace.
    if kind == SCORE:
        head: uint256 = e // padded
        at: uint256 = e % padded
        query: Bytes[2076] = self._tile(o[0], place, roots, r0, head)
        group: uint256 = head // (HEAD_COUNT // KV_COUNT)
        total: int256 = 0
        if at == place.position:
            key: Bytes[2076] = self._tile(o[1], place, roots, r1, group)
            for i: uint256 in range(T, bound=256):
                total += self._i64(query, i) * self._i64(key, i)
        else:
            # Where heads do not divide a piece, a key may go on in the next one.
            i: uint256 = 0
            for part: uint256 in range(1, 3):
                self._check_row(o[part], place, roots, 1, at, group * T + i)
                data: Bytes[2048] = o[part].data
                first = (group * T + i) % 256
                for _: uint256 in range(min(T - i, 256 - first), bound=256):
                    total += self._i64(query, i) * self._le32(data, first)
                    i = unsafe_add(i, 1)
                    first = unsafe_add(first, 1)
                if i == T:
                    return total, part + 1
        return total, 2
    if kind == CAP:
        return self._capped(o[1], self._value(o[0], place, roots, r0, e), convert(self.D[CAPS + place.target], int256)), 2
    # 2^−(distance to the head's largest score), by table (SCORE_SHIFT).
    if kind == EXP:
        top: int256 = self._value(o[0], place, roots, r0, e // padded)
        below: int256 = top - self._value(o[1], place, roots, r1, e)
        return self._entry(o[2], 0, below >> 15, EXP2_SIZE), 3
    # ONE_SHARE over the head's total.
    if kind == SHARE:
        return (1 << 44) // max(self._value(o[0], place, roots, r0, e), 1), 1
    # A weight times the head's share, rounded down (EXP).
    if kind == WEIGHT:
        share: int256 = self._value(o[0], place, roots, r0, e // padded)
        return (self._value(o[1], place, roots, r1, e) * share) >> 20, 2
    # gate · sigmoid(gate) · up (SIGMOID_SHIFT, SIGMOID_ZERO, SIGMOID, PRODUCT_SHIFT), saturated; as GELU with the sigmoid
    # of a cubic in the gate (GELU, GELU_MOST).
    if kind == GATE or kind == GELU:
        gate: int256 = self._value(o[0], place, roots, r0, e)
        up: int256 = self._value(o[1], place, roots, r0, INNER + e)
        bent: int256 = gate
        if kind == GELU:
            bent = self._saturate(gate, 8 << 16)
            bent = (bent * (GELU_LINEAR + ((GELU_CUBIC * ((bent * bent) >> 16)) >> 16))) >> 20
        sigmoid: int256 = self._entry(o[2], 1, self._shift(bent, 3) + (20 << 13), SIGMOID_SIZE)
        bound: int256 = 1 << convert(self._entry(o[3], 3, convert(place.layer, int256), LAYER_COUNT), uint256)
        return self._saturate(self._shift(self._shift(sigmoid * gate, 20) * up, 19), bound), 4
    # A token's weight at the temperature (TEMPERATURE_SHIFT).
    assert kind == TEMPER
    below: int256 = self._value(o[0], place, roots, r0, 0) - self._value(o[1], place, roots, r1, e)
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
    o: DynArray[shapes.Opening, 4], first: uint256, place: shapes.Place, roots: shapes.Roots, line: uint256, step: uint256,
    before: int256, before_index: int256
) -> (int256, int256, uint256):
    """The accumulator after a step, and the openings used in all."""
    kind: uint256 = self._part(line, 0)
    r0: uint256 = self._part(line, 1)
    r1: uint256 = self._part(line, 2)
    value: int256 = before
    index: int256 = before_index
    # A tile of the operator before, times a tile of the element's row.
    if kind == DOT:
        x: Bytes[2076] = self._tile(o[first], place, roots, r0, step)
        w: Bytes[2076] = self._weights(o[first + 1], place.layer, self._part(line, 4), place.element, step)
        for i: uint256 in range((len(x) - 24) // 8, bound=256):
            # As ``_i64`` and ``_i32``, which would copy the tile at each call; no sum of tiles fills a word.
            left: int256 = (extract32(x, 8 * i, output_type=int256) << 192) >> 192
            value = unsafe_add(value, unsafe_mul(left, (extract32(w, 4 * i, output_type=int256) << 224) >> 224))
        return value, 0, first + 2
    # The largest magnitude of a row, or the sum of its scaled squares.
    if kind == PEAK or kind == SQUARES:
        next: uint256 = first
        down: int256 = 0
        source: uint256 = r0
        if kind == SQUARES:
            down = self._down(self._value(o[first], place, roots, r0, place.element))
            source = r1
            next += 1
        tile: uint256 = place.element * self._tiles(self.D[NORMS + 5 * self._part(line, 5) + 1]) + step
        if self._part(line, 6) & 1 != 0:
            tile += HEAD_COUNT
        x: Bytes[2076] = self._tile(o[next], place, roots, source, tile)
        for i: uint256 in range((len(x) - 24) // 8, bound=256):
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
        weight: int256 = self._value(o[first], place, roots, r0, head * self._padded(place.position + 1) + step)
        group: uint256 = head // (HEAD_COUNT // KV_COUNT)
        number: uint256 = place.element % T
        if step == place.position:
            own: uint256 = (HEAD_COUNT + KV_COUNT + group) * T + number
            return value + weight * self._value(o[first + 1], place, roots, r1, own), 0, first + 2
        self._check_row(o[first + 1], place, roots, 2, step, group * T + number)
        return value + weight * self._le32(o[first + 1].data, (group * T + number) % 256), 0, first + 2
    # A tile of a row: of a head's scores (TOP) or exponentials (SUM); for a token of the logits or of the weights.
    tile: uint256 = step
    if place.target == 0:
        tile += place.element * self._tiles(place.position + 1)
    values: Bytes[2076] = self._tile(o[first], place, roots, r0, tile)
    count: uint256 = (len(values) - 24) // 8
    next: uint256 = first + 1
    target: int256 = 0
    if kind == DRAW:
        target = (self._draw(roots.order_id, roots.seed, place.token_step) * self._value(o[next], place, roots, r1, 0)) >> 53
        next += 1
    for i: uint256 in range(count, bound=256):
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
def _finish(o: DynArray[shapes.Opening, 4], used: uint256, place: shapes.Place, roots: shapes.Roots, line: uint256, last: int256, index: int256) -> (int256, uint256):
    """The element's value from its last accumulator, and the openings used in all."""
    kind: uint256 = self._part(line, 0)
    # Bits dropped: PROBABILITY, or those of the matrix.
    if kind == MIX:
        return self._shift(last, 24), used
    if kind == ARGMAX or kind == DRAW:
        return index, used
    if kind != DOT:
        return last, used
    value: int256 = self._shift(last, convert(self._part(line, 7), int256))
    if self._part(line, 6) & 2 != 0:
        return self._saturate(value, INT32), used
    if self._part(line, 2) == 255:
        return value, used
    # The result is added to the residual stream.
    return self._saturate(self._value(o[used], place, roots, self._part(line, 2), place.element) + value, INT32), used + 1


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
            operator = self.D[KEY]
        elif row == 2:
            operator = self.D[QKV]
            at += (HEAD_COUNT + KV_COUNT) * T
        value = self._value(openings[0], place, roots, operator, at)
        assert len(openings) == 1, "openings"
        return value == place.value
    shape: Shape = self._shape(place.target, place.position, roots.temperature, place.operator)
    line: uint256 = self._line(place.target, roots.temperature, place.operator)
    start: int256 = LOWEST if shape.kind == TOP or shape.kind == ARGMAX else 0
    start_index: int256 = -1 if shape.kind == DRAW else 0
    right: bool = False
    # A single step is judged together with the finish: no accumulator was committed to.
    if shape.steps == 1:
        # One bit for each kind that accumulates: PEAK, SQUARES, DOT, TOP, SUM, MIX, ARGMAX, DRAW.
        if (ACCUMULATES >> shape.kind) & 1 == 1:
            value, index, used = self._accumulate(openings, 0, place, roots, line, 0, start, start_index)
            value, used = self._finish(openings, used, place, roots, line, value, index)
        else:
            value, used = self._at_once(openings, place, roots, line)
        right = value == place.value
    # The finish: from the last accumulator to the value that the operator published.
    elif place.step == shape.steps:
        value, used = self._finish(openings, 0, place, roots, line, roots.before, roots.before_index)
        right = value == place.value
    # Any other step: from the accumulator before it to the one after it.
    else:
        if place.step > 0:
            start = roots.before
            start_index = roots.before_index
        value, index, used = self._accumulate(openings, 0, place, roots, line, place.step, start, start_index)
        right = value == roots.after and index == roots.after_index
    assert len(openings) == used, "openings"
    return right
