# pragma version 0.4.3
# pragma optimize codesize
"""
@title Table: the games, their moves and chess clocks
@notice Same rules, reasons and numbers as otr_core/dispute/game.py, and as the clocks of otr_core/dispute/court.py. Each
        function here does what the Python function of the same name does; see there for what a move means and why a
        check exists. Moves carry what they show as calldata, which is public; only the disputed node is stored. All that
        a move needs stands here; of money the table knows nothing: it tells the court each verdict, once.
"""

import shapes

interface Judge:
    def program_size(target: uint256, temperature: uint256) -> uint256: view
    def operator_shape(target: uint256, position: uint256, temperature: uint256, operator: uint256) -> (uint256, uint256, uint256, uint256): view
    def pieces(piece: uint256) -> (uint256, uint256): view
    def trace_shape() -> (uint256, uint256, uint256, uint256): view
    def judge(place: shapes.Place, roots: shapes.Roots, openings: DynArray[shapes.Opening, 4]) -> bool: view

interface Arbiter:
    def shows(statement: bytes32, proof: Bytes[4096]) -> bool: view

interface Court:
    def settle(game: uint256, verdict: uint256): nonpayable
    def passed(start: uint256, seconds: uint256) -> bool: view

struct Claim:
    states: bytes32
    tokens: bytes32
    seed_hash: bytes32
    positions: uint256
    order_id: bytes32
    seed: uint256
    temperature: uint256

# What is set once in a game; all that changes from move to move is packed in ``spots``, ``nodes`` and ``clocks``.
struct Game:
    operator: address
    challenger: address
    judge: address
    trace_root: bytes32
    claim: bytes32  # hash of the Claim: every move that needs the claim brings it
    operators: bytes32  # root over the results of the program
    kept: bytes32  # content of the disputed trace leaf
    steps: bytes32  # root over the accumulators of the disputed element
    shown_value: int256  # the value published for the element, or the token's id

# Where a game stands, unpacked from one word; ``_pack`` says which bits hold what. Fields as in game.py.
struct Spot:
    level: uint256
    turn: uint256
    target: uint256
    height: uint256
    operator: uint256
    index: uint256
    size: uint256
    leaf: uint256
    piece: uint256
    element: uint256
    step: uint256
    token_step: uint256

# Levels, as in game.py. TREES stands for every level at which a tree is walked down.
TRACE: constant(uint256) = 0
OPERATORS: constant(uint256) = 1
TILES: constant(uint256) = 2
ELEMENT: constant(uint256) = 3
STEPS: constant(uint256) = 4
LEAF: constant(uint256) = 5
TREES: constant(uint256) = 6

# Verdicts, as in state.py.
OPERATOR_LOSES: constant(uint256) = 1
CHALLENGER_LOSES: constant(uint256) = 2

GIVEN: constant(uint256) = 2 ** 32 - 1  # number in the answer of a token that the prompt gave

COURT: public(immutable(address))
ARITY_BITS: immutable(uint256)
CLOCK_S: immutable(uint256)
INCREMENT_S: immutable(uint256)
ARBITER: immutable(address)

games: HashMap[uint256, Game]  # by the number of the challenge
spots: HashMap[uint256, uint256]  # a packed Spot
nodes: HashMap[uint256, bytes32]  # the disputed node
clocks: HashMap[uint256, uint256]  # going on | last time | operator's seconds | challenger's seconds


@deploy
def __init__(court: address, arity_bits: uint256, clock_s: uint256, increment_s: uint256, arbiter: address):
    # The court refuses terms out of range; it is deployed with this table's address, and takes no other's verdicts.
    COURT = court
    ARITY_BITS = arity_bits
    CLOCK_S = clock_s
    INCREMENT_S = increment_s
    ARBITER = arbiter


# --- what the court says

@external
def start(
    game: uint256, operator: address, challenger: address, judge: address, token: uint256, order: shapes.Order,
    receipt: shapes.Receipt,
):
    """Begins the game of a challenge that was opened (``game.open_game``)."""
    assert msg.sender == COURT, "sender"
    positions: uint256 = receipt.prompt_tokens + receipt.answer_tokens - 1
    assert token <= positions, "token"
    self.games[game].operator = operator
    self.games[game].challenger = challenger
    self.games[game].judge = judge
    self.games[game].trace_root = sha256(
        concat(x"01", sha256(concat(x"01", receipt.states, receipt.tokens)), receipt.seed_hash)
    )
    claim: Claim = Claim(
        states=receipt.states, tokens=receipt.tokens, seed_hash=receipt.seed_hash, positions=positions,
        order_id=receipt.order_id, seed=order.seed, temperature=order.temperature,
    )
    self.games[game].claim = keccak256(abi_encode(claim))
    s: Spot = empty(Spot)
    s.size = 1
    if token > 0:
        s.target = 1
        s.leaf = token
    else:
        s.size = positions * receipt.layers  # the registry has found the model's layers in the receipt
        s.height = self._height(s.size)
        self.nodes[game] = receipt.states
    self.spots[game] = self._pack(s)
    self._set_clock(game, block.timestamp, CLOCK_S, CLOCK_S)


@external
def end(game: uint256):
    """The challenger has given the game up."""
    assert msg.sender == COURT, "sender"
    self.clocks[game] = (self.clocks[game] >> 8) << 8


# --- moves

@external
def bisect(game: uint256, children: DynArray[bytes32, 64]):
    s: Spot = self._move(game, 0, TREES)
    assert s.height > 0 and self.nodes[game] != empty(bytes32), "level"
    self._shown(s, children, self.nodes[game])
    s.turn = 1
    self.spots[game] = self._pack(s)


@external
def choose(game: uint256, child: uint256, node: bytes32, path: DynArray[bytes32, 32]):
    s: Spot = self._move(game, 1, TREES)
    below: uint256 = 0
    first: uint256 = 0
    count: uint256 = 0
    below, first, count = self._span(s)
    assert child < count, "child"
    self._under(node, child, count, path, self.nodes[game])
    s.turn = 0
    s.height = below
    s.index = first + child
    self.nodes[game] = node
    # A leaf: its number says what is singled out on this level.
    if below == 0:
        if s.level == TRACE:
            s.leaf = s.index
        elif s.level == OPERATORS:
            s.operator = s.index
        elif s.level == TILES:
            s.piece = s.index
        else:
            s.level = LEAF
            s.step = s.index
    self.spots[game] = self._pack(s)


@external
def choose_kept(game: uint256):
    s: Spot = self._move(game, 1, OPERATORS)
    assert s.height == self._height(s.size), "level"
    s.turn = 0
    s.operator = s.size
    s.index = 0
    if s.target == 1:
        s.level = LEAF
    else:
        s.level = TILES
        values: uint256 = 0
        s.size, values = staticcall Judge(self.games[game].judge).pieces(0)
        s.height = self._height(s.size)
        self.nodes[game] = self.games[game].kept
    self.spots[game] = self._pack(s)


@external
def expand_layer(game: uint256, content: bytes32, root: bytes32, children: DynArray[bytes32, 64]):
    s: Spot = self._move(game, 0, TRACE)
    assert s.height == 0 and s.target == 0, "level"
    assert sha256(concat(x"00", content)) == self.nodes[game], "content"
    self.games[game].kept = content
    # A layer's program has the same size at any temperature, so that the claim need not be brought.
    self._program_shown(game, s, 0, root, children)


@external
def expand_token(
    game: uint256, claim: Claim, data: Bytes[40], path: DynArray[bytes32, 32], root: bytes32, children: DynArray[bytes32, 64]
):
    s: Spot = self._move(game, 0, TRACE)
    assert s.target == 1, "level"
    self._claimed(game, claim)
    assert len(data) == 40, "content"
    self._under(sha256(concat(x"00", data)), s.leaf, claim.positions + 1, path, claim.tokens)
    step: uint256 = self._le(data, 36)
    if step == GIVEN:
        self._settle(game, CHALLENGER_LOSES)
        return
    self.games[game].shown_value = convert(self._le(data, 32), int256)
    s.token_step = step
    self._program_shown(game, s, claim.temperature, root, children)


@external
def expand_operator(game: uint256, claim: Claim, content: bytes32, children: DynArray[bytes32, 64]):
    s: Spot = self._move(game, 0, OPERATORS)
    assert s.height == 0, "level"
    assert sha256(concat(x"00", content)) == self.nodes[game], "content"
    length: uint256 = 0
    tiles: uint256 = 0
    steps: uint256 = 0
    width: uint256 = 0
    length, tiles, steps, width = self._operator(game, s, claim)
    s.level = TILES
    s.index = 0
    s.piece = 0
    s.size = tiles
    s.height = self._height(tiles)
    self.nodes[game] = content
    if tiles == 1:
        assert len(children) == 0, "children"
    else:
        self._shown(s, children, content)
        s.turn = 1
    self.spots[game] = self._pack(s)


@external
def publish(game: uint256, claim: Claim, data: Bytes[1056]):
    s: Spot = self._move(game, 0, TILES)
    assert s.height == 0, "level"
    kept: bool = False
    count: uint256 = 0
    steps: uint256 = 0
    width: uint256 = 0
    kept, count, steps, width = self._tile(game, s, claim, data)
    s.level = ELEMENT
    s.turn = 1
    self.spots[game] = self._pack(s)


@external
def element(game: uint256, claim: Claim, number: uint256, data: Bytes[1056]):
    s: Spot = self._move(game, 1, ELEMENT)
    kept: bool = False
    count: uint256 = 0
    steps: uint256 = 0
    width: uint256 = 0
    kept, count, steps, width = self._tile(game, s, claim, data)
    assert number < count, "element"
    s.turn = 0
    s.step = 0
    if kept:
        s.level = LEAF
        s.element = number
        # 32 bits, sign extended.
        self.games[game].shown_value = (convert(self._le(data, 32 + 4 * number), int256) << 224) >> 224
    else:
        s.element = s.piece * width + number
        word: uint256 = convert(slice(data, 8 * number, 8), uint256)
        # 64 bits, sign extended.
        self.games[game].shown_value = (convert(word, int256) << 192) >> 192
        if steps == 1:
            s.level = LEAF
        else:
            s.level = STEPS
            s.index = 0
            s.size = steps + 1
            s.height = self._height(s.size)
            self.nodes[game] = empty(bytes32)
    self.spots[game] = self._pack(s)


@external
def accuse_salt(game: uint256, claim: Claim, data: Bytes[1056], seed: bytes32):
    s: Spot = self._move(game, 1, ELEMENT)
    kept: bool = False
    count: uint256 = 0
    steps: uint256 = 0
    width: uint256 = 0
    kept, count, steps, width = self._tile(game, s, claim, data)
    assert kept and s.target == 0, "level"
    assert sha256(concat(b"otr/1/trace-seed", seed)) == claim.seed_hash, "seed"
    layers: uint256 = 0
    a: uint256 = 0
    b: uint256 = 0
    d: uint256 = 0
    layers, a, b, d = self._trace(game)
    salt: bytes32 = sha256(
        concat(b"otr/1/salt", seed, self._to_le(s.leaf // layers), self._to_le(s.leaf % layers), self._to_le(s.piece))
    )
    assert salt != extract32(data, 0), "salt"
    self._settle(game, OPERATOR_LOSES)


@external
def expand_steps(game: uint256, root: bytes32, children: DynArray[bytes32, 64]):
    s: Spot = self._move(game, 0, STEPS)
    assert self.nodes[game] == empty(bytes32), "level"
    self._shown(s, children, root)
    self.nodes[game] = root
    self.games[game].steps = root
    s.turn = 1
    self.spots[game] = self._pack(s)


@external
def prove(game: uint256, claim: Claim, openings: DynArray[shapes.Opening, 4]):
    s: Spot = self._move(game, 0, LEAF)
    self._claimed(game, claim)
    position: uint256 = 0
    layer: uint256 = 0
    position, layer = self._where(game, s)
    place: shapes.Place = shapes.Place(
        target=s.target, position=position, layer=layer, operator=s.operator, element=s.element, step=s.step,
        piece=s.piece, token_step=s.token_step, value=self.games[game].shown_value,
    )
    roots: shapes.Roots = shapes.Roots(
        states=claim.states, tokens=claim.tokens, operators=self.games[game].operators,
        steps=self.games[game].steps, positions=claim.positions, order_id=claim.order_id, seed=claim.seed,
        temperature=claim.temperature,
    )
    good: bool = staticcall Judge(self.games[game].judge).judge(place, roots, openings)
    self._settle(game, CHALLENGER_LOSES if good else OPERATOR_LOSES)


@external
def arbitrate(game: uint256, verdict: uint256, proof: Bytes[4096]):
    self._live(game)
    assert ARBITER != empty(address) and (verdict == 1 or verdict == 2), "arbiter"
    statement: bytes32 = sha256(
        concat(b"otr/1/arbitration", convert(game, bytes32), self.games[game].trace_root, convert(convert(verdict, uint8), bytes1))
    )
    assert staticcall Arbiter(ARBITER).shows(statement, proof), "proof"
    self._settle(game, verdict)


@external
def timeout(game: uint256):
    self._live(game)
    turn: uint256 = (self.spots[game] >> 8) & 255
    clock: uint256 = self.clocks[game]
    left: uint256 = (clock >> (72 + 32 * turn)) & (2 ** 32 - 1)
    # Safe, as every call of the court from here: its address is fixed at deployment.
    assert staticcall Court(COURT).passed((clock >> 8) & (2 ** 64 - 1), left), "early"
    self._settle(game, OPERATOR_LOSES if turn == 0 else CHALLENGER_LOSES)


# --- views

@view
@external
def spot(game: uint256) -> (Spot, bytes32, uint256):
    """Where a game stands: the spot, the disputed node, and whether it goes on and the clocks, as packed."""
    return self._unpack(self.spots[game]), self.nodes[game], self.clocks[game]


# --- inside

@internal
def _settle(game: uint256, verdict: uint256):
    # The game is over before the court, which calls nothing but this table, hears of it.
    self.clocks[game] = (self.clocks[game] >> 8) << 8
    extcall Court(COURT).settle(game, verdict)


@internal
def _set_clock(game: uint256, last: uint256, operator_s: uint256, challenger_s: uint256):
    # 8 bits for a game that goes on, 64 of the time of the last move, 32 for each clock (seconds).
    self.clocks[game] = 1 | (last << 8) | (operator_s << 72) | (challenger_s << 104)


@view
@internal
def _live(game: uint256) -> address:
    """The operator of a game that goes on."""
    assert self.games[game].operator != empty(address), "game"
    assert self.clocks[game] & 255 == 1, "over"
    return self.games[game].operator


@internal
def _move(game: uint256, turn: uint256, level: uint256) -> Spot:
    """Refuses a move of the wrong side or at the wrong level, and charges the mover's clock."""
    operator: address = self._live(game)
    assert msg.sender == (operator if turn == 0 else self.games[game].challenger), "sender"
    s: Spot = self._unpack(self.spots[game])
    assert s.turn == turn, "turn"
    clock: uint256 = self.clocks[game]
    spent: uint256 = block.timestamp - ((clock >> 8) & (2 ** 64 - 1))
    left: uint256 = (clock >> (72 + 32 * turn)) & (2 ** 32 - 1)
    if spent > left:
        # Unless all clocks have stood still meanwhile.
        assert not staticcall Court(COURT).passed(block.timestamp - spent, left), "late"
        spent = left
    left = min(left - spent + INCREMENT_S, CLOCK_S)
    other: uint256 = (clock >> (104 - 32 * turn)) & (2 ** 32 - 1)
    if turn == 0:
        self._set_clock(game, block.timestamp, left, other)
    else:
        self._set_clock(game, block.timestamp, other, left)
    if level == TREES:
        assert s.level <= STEPS and s.level != ELEMENT, "level"
    else:
        assert s.level == level, "level"
    return s


@pure
@internal
def _height(size: uint256) -> uint256:
    # Levels above the leaves of a tree of ``size`` leaves (``merkle.height``).
    height: uint256 = 0
    for _: uint256 in range(64):
        if (1 << height) >= size:
            break
        height += 1
    return height


@view
@internal
def _span(s: Spot) -> (uint256, uint256, uint256):
    # Level, first and count of the nodes that a round shows below the disputed one (``merkle.span``).
    bits: uint256 = min(ARITY_BITS, s.height)
    below: uint256 = s.height - bits
    first: uint256 = s.index << bits
    row: uint256 = (s.size + (1 << below) - 1) >> below
    return below, first, min((s.index + 1) << bits, row) - first


@view
@internal
def _shown(s: Spot, children: DynArray[bytes32, 64], node: bytes32):
    # All nodes of the round are there, and hash to the disputed node. An odd last one is carried up unhashed.
    below: uint256 = 0
    first: uint256 = 0
    count: uint256 = 0
    below, first, count = self._span(s)
    assert len(children) == count, "children"
    row: DynArray[bytes32, 64] = children
    size: uint256 = count
    for _: uint256 in range(6):
        if size == 1:
            break
        for i: uint256 in range(size // 2, bound=32):
            row[i] = sha256(concat(x"01", row[2 * i], row[2 * i + 1]))
        if size % 2 == 1:
            row[size // 2] = row[size - 1]
        size = (size + 1) // 2
    assert row[0] == node, "children"


@pure
@internal
def _under(leaf: bytes32, at: uint256, of: uint256, path: DynArray[bytes32, 32], root: bytes32):
    # The path shows ``leaf`` to be number ``at`` of the ``of`` leaves under ``root`` (``merkle.verify_inclusion``).
    assert at < of, "path"
    node: bytes32 = leaf
    index: uint256 = at
    size: uint256 = of
    used: uint256 = 0
    for _: uint256 in range(64):
        if size <= 1:
            break
        if index % 2 == 1 or index + 1 < size:
            assert used < len(path), "path"
            if index % 2 == 1:
                node = sha256(concat(x"01", path[used], node))
            else:
                node = sha256(concat(x"01", node, path[used]))
            used += 1
        index //= 2
        size = (size + 1) // 2
    assert used == len(path) and node == root, "path"


@internal
def _program_shown(game: uint256, spot: Spot, temperature: uint256, root: bytes32, children: DynArray[bytes32, 64]):
    # The dispute at the root of the program's results, with the nodes of the first round shown.
    s: Spot = spot
    s.level = OPERATORS
    s.index = 0
    s.size = staticcall Judge(self.games[game].judge).program_size(s.target, temperature)
    s.height = self._height(s.size)
    self._shown(s, children, root)
    self.games[game].operators = root
    self.nodes[game] = root
    s.turn = 1
    self.spots[game] = self._pack(s)


@view
@internal
def _claimed(game: uint256, claim: Claim):
    # The claim that was brought is the game's.
    assert keccak256(abi_encode(claim)) == self.games[game].claim, "claim"


@view
@internal
def _trace(game: uint256) -> (uint256, uint256, uint256, uint256):
    return staticcall Judge(self.games[game].judge).trace_shape()


@view
@internal
def _where(game: uint256, s: Spot) -> (uint256, uint256):
    """Position and layer of the disputed program."""
    layers: uint256 = 0
    a: uint256 = 0
    b: uint256 = 0
    d: uint256 = 0
    layers, a, b, d = self._trace(game)
    if s.target == 1:
        return s.leaf - 1, layers - 1
    return s.leaf // layers, s.leaf % layers


@view
@internal
def _operator(game: uint256, s: Spot, claim: Claim) -> (uint256, uint256, uint256, uint256):
    """Length, tiles, steps of the disputed operator, and the values of a tile."""
    self._claimed(game, claim)
    judge: address = self.games[game].judge
    position: uint256 = 0
    layer: uint256 = 0
    position, layer = self._where(game, s)
    return staticcall Judge(judge).operator_shape(s.target, position, claim.temperature, s.operator)


@view
@internal
def _tile(game: uint256, s: Spot, claim: Claim, data: Bytes[1056]) -> (bool, uint256, uint256, uint256):
    """Checks that a published tile is the disputed one. Returns whether it is a piece of the trace, how many values it
    holds, in how many steps each is made, and how many values a whole tile holds."""
    self._claimed(game, claim)
    judge: address = self.games[game].judge
    kept: bool = s.operator == staticcall Judge(judge).program_size(s.target, claim.temperature)
    length: uint256 = 0
    tiles: uint256 = 0
    steps: uint256 = 0
    width: uint256 = 0
    count: uint256 = 0
    if kept:
        tiles, count = staticcall Judge(judge).pieces(s.piece)
        assert len(data) == 32 + 4 * count, "tile length"
    else:
        length, tiles, steps, width = self._operator(game, s, claim)
        count = min(width, length - s.piece * width)
        assert len(data) == 8 * count, "tile length"
    assert sha256(concat(x"00", data)) == self.nodes[game], "tile"
    return kept, count, steps, width


@pure
@internal
def _le(data: Bytes[1056], start: uint256) -> uint256:
    # The little-endian 32-bit integer at byte ``start``.
    word: uint256 = convert(slice(data, start, 4), uint256)
    return ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | (word >> 24)


@pure
@internal
def _to_le(x: uint256) -> bytes4:
    # ``x`` as four bytes, little-endian.
    word: uint256 = ((x & 255) << 24) | ((x & 65280) << 8) | ((x >> 8) & 65280) | (x >> 24)
    return convert(convert(word, uint32), bytes4)


@pure
@internal
def _pack(s: Spot) -> uint256:
    # From the lowest bit: four fields of 8 bits, 8 for the operator, 32 each for index, size and leaf, 24 for the piece,
    # 32 each for element, step and the token's step.
    low: uint256 = s.level | (s.turn << 8) | (s.target << 16) | (s.height << 24) | (s.operator << 32)
    middle: uint256 = (s.index << 40) | (s.size << 72) | (s.leaf << 104) | (s.piece << 136)
    return low | middle | (s.element << 160) | (s.step << 192) | (s.token_step << 224)


@pure
@internal
def _unpack(word: uint256) -> Spot:
    return Spot(
        level=word & 255, turn=(word >> 8) & 255, target=(word >> 16) & 255, height=(word >> 24) & 255,
        operator=(word >> 32) & 255, index=(word >> 40) & (2 ** 32 - 1), size=(word >> 72) & (2 ** 32 - 1),
        leaf=(word >> 104) & (2 ** 32 - 1), piece=(word >> 136) & (2 ** 24 - 1), element=(word >> 160) & (2 ** 32 - 1),
        step=(word >> 192) & (2 ** 32 - 1), token_step=word >> 224,
    )
