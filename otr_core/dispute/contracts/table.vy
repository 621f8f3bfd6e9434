# pragma version 0.4.3
# pragma optimize gas
"""
@title Table: the games, their moves and chess clocks
@notice Same rules, reasons and numbers as otr_core/dispute/game.py, and as the clocks of otr_core/dispute/court.py. Each
        function here does what the Python function of the same name does; see there for what a move means and why a
        check exists. Of a game one word is stored, the hash of where it stands: every move brings the game itself
        (``Game``, and what few moves need: ``Rest``, ``Claim``), as calldata is far cheaper than storage. What a move
        shows is calldata too, and public. Of money the table knows nothing: it tells the court each verdict, once.
"""

import shapes

# Of the disputed operator; a width is the values of a whole tile, and no tiles stand for what the trace holds.
struct Shape:
    length: uint256
    tiles: uint256
    steps: uint256
    width: uint256

interface Judge:
    def program_size(target: uint256, temperature: uint256) -> uint256[2]: view
    def operator_shape(target: uint256, leaf: uint256, temperature: uint256, operator: uint256) -> Shape: view
    def pieces(piece: uint256) -> (uint256, uint256): view
    def token(id: uint256) -> (bool, bool): view
    def judge(place: shapes.Place, roots: shapes.Roots, openings: DynArray[shapes.Opening, 4]) -> bool: view

interface Arbiter:
    def shows(statement: bytes32, proof: Bytes[4096]) -> bool: view

interface Court:
    def settle(game: uint256, verdict: uint256): nonpayable
    def freeze(game: uint256): nonpayable
    def passed(start: uint256, seconds: uint256) -> bool: view

# As AnswerClaim in state.py, and the model's layers.
struct Claim:
    states: bytes32
    tokens: bytes32
    seed_hash: bytes32
    positions: uint256
    order_id: bytes32
    seed: uint256
    temperature: uint256
    prompt_root: bytes32
    prompt_tokens: uint256
    finish: uint256
    layers: uint256

# Where a game stands; what changes from move to move in ``spot`` is packed there (``_pack``). Addresses are words, here and
# below: the hash binds them, and no call has to look whether a word is an address.
struct Game:
    operator: uint256
    challenger: uint256
    spot: uint256
    clock: uint256  # time of the last move, 64 bits; seconds left to the operator and to the challenger, 32 bits each
    value: int256
    node: bytes32
    rest: bytes32  # hash of the Rest

struct Rest:
    judge: uint256
    temperature: uint256
    claim: bytes32  # hash of the Claim
    operators: bytes32
    kept: bytes32

# Fields as in game.py.
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
    interval: uint256  # one more than in game.py: 0 while no accumulators were shown

# Levels, as in game.py, each as a bit of a set.
TRACE: constant(uint256) = 1
OPERATORS: constant(uint256) = 2
TILES: constant(uint256) = 4
ELEMENT: constant(uint256) = 8
STEPS: constant(uint256) = 16
LEAF: constant(uint256) = 32
SEED: constant(uint256) = 64

# Verdicts, as in state.py.
OPERATOR_LOSES: constant(uint256) = 1
CHALLENGER_LOSES: constant(uint256) = 2
WITHDRAWN: constant(uint256) = 3

GIVEN: constant(uint256) = 2 ** 32 - 1  # number in the answer of a token that the prompt gave
STOPPED: constant(uint256) = 1  # how an answer ended whose last token is a stop id
# In the place of a token's number (state.py).
ALL_TOKENS: constant(uint256) = 2 ** 32 - 1
THE_SEED: constant(uint256) = 2 ** 32 - 2
STATES: constant(uint256) = 2 ** 32
MOST_INTERVALS: constant(uint256) = 256
OVER: constant(bytes32) = 0x0000000000000000000000000000000000000000000000000000000000000001  # of a game that has ended
LOW: constant(uint256) = 2 ** 32 - 1

COURT: public(immutable(address))
ARITY_BITS: immutable(uint256)
CLOCK_S: immutable(uint256)
INCREMENT_S: immutable(uint256)
ARBITER: immutable(address)

games: public(HashMap[uint256, bytes32])  # by the number of the challenge: hash of the Game

event Moved:
    game: indexed(uint256)


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
    claim: Claim = Claim(
        states=receipt.states, tokens=receipt.tokens, seed_hash=receipt.seed_hash,
        positions=receipt.prompt_tokens + receipt.answer_tokens - 1, order_id=receipt.order_id, seed=order.seed,
        temperature=order.temperature, prompt_root=order.prompt_root, prompt_tokens=order.prompt_tokens,
        finish=receipt.finish, layers=receipt.layers,  # the registry has found the model's layers in the receipt
    )
    rest: Rest = empty(Rest)
    rest.judge = convert(judge, uint256)
    rest.temperature = order.temperature
    rest.claim = keccak256(abi_encode(claim))
    g: Game = empty(Game)
    g.operator = convert(operator, uint256)
    g.challenger = convert(challenger, uint256)
    g.clock = block.timestamp | (CLOCK_S << 64) | (CLOCK_S << 96)
    g.rest = keccak256(abi_encode(rest))
    s: Spot = empty(Spot)
    s.size = 1
    if token == THE_SEED:
        s.level = 6
        self._store(game, g, s)
    else:
        self._disputed(game, g, s, claim, token)


@external
def end(game: uint256):
    """The challenger has given the game up."""
    assert msg.sender == COURT, "sender"
    self.games[game] = OVER


# --- moves

@external
def reveal_seed(game: uint256, at: Game, rest: Rest, claim: Claim, seed: bytes32):
    g: Game = self._move(game, at, 0, SEED)
    self._claimed(at, rest, claim)
    assert self._seed_hash(seed) == claim.seed_hash, "seed"
    s: Spot = self._unpack(g.spot)
    s.turn = 1
    self._store(game, g, s)


@external
def dispute(game: uint256, at: Game, rest: Rest, claim: Claim, token: uint256):
    g: Game = self._move(game, at, 1, SEED)
    self._claimed(at, rest, claim)
    s: Spot = empty(Spot)
    s.size = 1
    self._disputed(game, g, s, claim, token)
    extcall Court(COURT).freeze(game)


@external
def retract(game: uint256, at: Game):
    g: Game = self._move(game, at, 1, SEED)
    self._settle(game, WITHDRAWN)


@external
def bisect(game: uint256, at: Game, children: DynArray[bytes32, 64]):
    g: Game = self._move(game, at, 0, TRACE | TILES)
    s: Spot = self._unpack(g.spot)
    assert s.height > 0, "level"
    assert self._root_shown(s, children) == g.node, "children"
    s.turn = 1
    self._store(game, g, s)


@external
def choose(game: uint256, at: Game, child: uint256, node: bytes32, path: DynArray[bytes32, 32]):
    g: Game = self._move(game, at, 1, TRACE | OPERATORS | TILES)
    s: Spot = self._unpack(g.spot)
    below: uint256 = 0
    first: uint256 = 0
    count: uint256 = 0
    below, first, count = self._span(s)
    # The last operator of a token is its choice, whose value is known (``choose_last``).
    assert child < count and (s.level != 1 or s.target == 0 or child + 1 < count), "child"
    assert self._is_under(node, child, count, path, g.node), "path"
    s.turn = 0
    s.height = below
    s.index = first + child
    g.node = node
    # A leaf: its number says what is singled out on this level.
    if below == 0:
        if s.level == 0:
            s.leaf = s.index
        elif s.level == 1:
            s.operator = s.index
        else:
            s.piece = s.index
    self._store(game, g, s)


@external
def choose_last(game: uint256, at: Game, rest: Rest):
    g: Game = self._move(game, at, 1, OPERATORS)
    self._brought(at, rest)
    s: Spot = self._unpack(g.spot)
    assert s.target == 1, "level"
    s.operator = s.size - 1
    g.node = empty(bytes32)
    shape: Shape = self._shape(s, rest)
    self._valued(game, g, s, shape.steps)


@external
def choose_kept(game: uint256, at: Game, rest: Rest):
    g: Game = self._move(game, at, 1, OPERATORS)
    self._brought(at, rest)
    s: Spot = self._unpack(g.spot)
    assert s.target == 0, "level"
    s.turn = 0
    s.operator = s.size
    s.level = 2
    s.index = 0
    values: uint256 = 0
    s.size, values = staticcall Judge(convert(rest.judge, address)).pieces(0)
    s.height = self._height(s.size)
    g.node = rest.kept
    self._store(game, g, s)


@external
def choose_token(game: uint256, at: Game, rest: Rest):
    g: Game = self._move(game, at, 1, OPERATORS)
    self._brought(at, rest)
    s: Spot = self._unpack(g.spot)
    program: uint256[2] = staticcall Judge(convert(rest.judge, address)).program_size(0, 0)
    assert s.target == 0 and s.leaf % program[1] == 0, "level"
    r: Rest = rest
    r.operators = empty(bytes32)
    r.kept = empty(bytes32)
    g.rest = keccak256(abi_encode(r))
    s.level = 0
    s.turn = 0
    self._at_token(game, g, s, s.leaf // program[1])


@external
def expand_layer(
    game: uint256, at: Game, rest: Rest, claim: Claim, content: bytes32, children: DynArray[bytes32, 64],
    path: DynArray[bytes32, 32],
):
    g: Game = self._move(game, at, 0, TRACE)
    s: Spot = self._state(g, rest, claim, content, path, False)
    self._layer_shown(game, g, s, rest, content, children)


@external
def expand_first(
    game: uint256, at: Game, rest: Rest, claim: Claim, content: bytes32, children: DynArray[bytes32, 64], data: Bytes[40],
    token_path: DynArray[bytes32, 32], path: DynArray[bytes32, 32],
):
    g: Game = self._move(game, at, 0, TRACE)
    s: Spot = self._state(g, rest, claim, content, path, True)
    self._token(claim, s.leaf // claim.layers, data, token_path, empty(bytes32))
    self._layer_shown(game, g, s, rest, content, children)


@external
def show_given(
    game: uint256, at: Game, rest: Rest, claim: Claim, data: Bytes[40], path: DynArray[bytes32, 32],
    given_path: DynArray[bytes32, 32],
):
    g: Game = self._move(game, at, 0, TRACE)
    self._claimed(at, rest, claim)
    s: Spot = self._unpack(g.spot)
    assert s.target == 1 and s.height == 0 and s.leaf < claim.prompt_tokens, "level"
    leaf: bytes32 = self._token(claim, s.leaf, data, path, g.node)
    assert self._is_under(leaf, s.leaf, claim.prompt_tokens, given_path, claim.prompt_root), "given"
    known: bool = False
    stops: bool = False
    known, stops = staticcall Judge(convert(rest.judge, address)).token(self._le(data, 32))
    good: bool = known and self._le(data, 36) == GIVEN
    self._settle(game, CHALLENGER_LOSES if good else OPERATOR_LOSES)


@external
def expand_token(
    game: uint256, at: Game, rest: Rest, claim: Claim, data: Bytes[40], path: DynArray[bytes32, 32],
    children: DynArray[bytes32, 64],
):
    g: Game = self._move(game, at, 0, TRACE)
    self._claimed(at, rest, claim)
    s: Spot = self._unpack(g.spot)
    assert s.target == 1 and s.height == 0 and s.leaf >= claim.prompt_tokens, "level"
    r: Rest = rest
    r.kept = self._token(claim, s.leaf, data, path, g.node)
    id: uint256 = self._le(data, 32)
    known: bool = False
    stops: bool = False
    known, stops = staticcall Judge(convert(rest.judge, address)).token(id)
    ends: bool = s.leaf == claim.positions and claim.finish == STOPPED
    if self._le(data, 36) != s.leaf - claim.prompt_tokens or not known or stops != ends:
        self._settle(game, OPERATOR_LOSES)
        return
    g.value = convert(id, int256)
    program: uint256[2] = staticcall Judge(convert(rest.judge, address)).program_size(1, claim.temperature)
    assert len(children) + 1 == program[0], "children"
    results: DynArray[bytes32, 64] = children
    results.append(self._leaf(sha256(concat(x"00", convert(convert(id, uint64), bytes8)))))
    self._program_shown(game, g, s, r, program[0], results)


@external
def expand_operator(game: uint256, at: Game, rest: Rest, children: DynArray[bytes32, 64]):
    g: Game = self._move(game, at, 0, OPERATORS)
    self._brought(at, rest)
    s: Spot = self._unpack(g.spot)
    s.size = self._shape(s, rest).tiles
    assert s.size > 1, "level"
    s.level = 2
    s.turn = 1
    s.index = 0
    s.height = self._height(s.size)
    root: bytes32 = self._root_shown(s, children)
    assert self._leaf(root) == g.node, "content"
    g.node = root
    self._store(game, g, s)


@external
def publish(game: uint256, at: Game, rest: Rest, data: Bytes[2048]):
    g: Game = self._move(game, at, 0, TILES | OPERATORS)
    self._brought(at, rest)
    s: Spot = self._unpack(g.spot)
    shape: Shape = self._shape(s, rest)
    if s.level == 1:
        assert shape.tiles == 1, "level"
        tile: bytes32 = sha256(concat(x"00", data))
        # The operator's leaf holds the root over its tiles: of one tile, the hash of its leaf.
        g.node = tile if self._leaf(tile) == g.node else empty(bytes32)
        s.piece = 0
    assert s.height == 0, "level"
    s.size = self._tile(g, s, rest, shape, data)
    s.element = s.piece * shape.width if shape.tiles > 0 else 0
    s.index = shape.steps
    s.level = 3
    s.turn = 1
    self._store(game, g, s)


@external
def element(game: uint256, at: Game, number: uint256, quoted: int256):
    g: Game = self._move(game, at, 1, ELEMENT)
    s: Spot = self._unpack(g.spot)
    assert number < s.size, "element"
    assert quoted >= -(2 ** 63) and quoted < 2 ** 63, "value"
    s.element += number
    g.value = quoted
    self._valued(game, g, s, s.index)


@external
def accuse_salt(game: uint256, at: Game, rest: Rest, claim: Claim, data: Bytes[2048], seed: bytes32):
    g: Game = self._move(game, at, 1, ELEMENT | OPERATORS)
    self._claimed(at, rest, claim)
    s: Spot = self._unpack(g.spot)
    position: uint256 = s.leaf
    layer: uint256 = 2 ** 32 - 1  # of a token
    if s.level == 1:
        assert s.target == 1, "level"
        assert sha256(concat(x"00", data)) == rest.kept, "tile"
    else:
        shape: Shape = self._shape(s, rest)
        assert shape.tiles == 0, "level"
        self._tile(g, s, rest, shape, data)
        position = s.leaf // claim.layers
        layer = s.leaf % claim.layers
    assert self._seed_hash(seed) == claim.seed_hash, "seed"
    salt: bytes32 = sha256(
        concat(b"otr/1/salt", seed, self._to_le(position), self._to_le(layer), self._to_le(s.piece))
    )
    assert salt != extract32(data, 0), "salt"
    self._settle(game, OPERATOR_LOSES)


@external
def misquoted(game: uint256, at: Game, rest: Rest, data: Bytes[2048]):
    g: Game = self._move(game, at, 0, STEPS | LEAF)
    self._brought(at, rest)
    s: Spot = self._unpack(g.spot)
    assert s.interval == 0, "level"
    shape: Shape = self._shape(s, rest)
    self._tile(g, s, rest, shape, data)
    published: int256 = 0
    if shape.tiles == 0:
        # 32 bits, sign extended.
        published = (convert(self._le(data, 32 + 4 * s.element), int256) << 224) >> 224
    else:
        published = self._entry(data, 8 * (s.element - s.piece * shape.width))
    assert published != g.value, "quoted"
    self._settle(game, CHALLENGER_LOSES)


@external
def expand_steps(game: uint256, at: Game, before: Bytes[4112], points: Bytes[4112]):
    g: Game = self._move(game, at, 0, STEPS)
    s: Spot = self._unpack(g.spot)
    width: uint256 = 16 if s.target == 1 else 8
    stride: uint256 = (s.size + MOST_INTERVALS - 1) // MOST_INTERVALS
    intervals: uint256 = (s.size + stride - 1) // stride
    ends: int256[4] = self._ends(g, s, width, before)
    assert len(points) == width * (intervals + 1), "points"
    shown: int256[4] = self._pairs(points, width, 0, intervals)
    for i: uint256 in range(4):
        assert shown[i] == ends[i], "points"
    g.node = sha256(concat(x"02", points))
    s.turn = 1
    self._store(game, g, s)


@external
def choose_step(game: uint256, at: Game, number: uint256):
    g: Game = self._move(game, at, 1, STEPS)
    s: Spot = self._unpack(g.spot)
    stride: uint256 = (s.size + MOST_INTERVALS - 1) // MOST_INTERVALS
    assert number < (s.size + stride - 1) // stride, "child"
    end: uint256 = s.index + s.size
    s.turn = 0
    s.interval = number + 1
    s.index += number * stride
    s.size = min(stride, end - s.index)
    if s.size == 1:
        s.level = 5
        s.step = s.index
    self._store(game, g, s)


@external
def prove(
    game: uint256, at: Game, rest: Rest, claim: Claim, points: Bytes[4112], openings: DynArray[shapes.Opening, 4]
):
    g: Game = self._move(game, at, 0, LEAF)
    self._claimed(at, rest, claim)
    s: Spot = self._unpack(g.spot)
    place: shapes.Place = shapes.Place(
        target=s.target, position=0, layer=claim.layers - 1, operator=s.operator, element=s.element, step=s.step,
        piece=s.piece, token_step=0, value=g.value,
    )
    if s.target == 0:
        place.position = s.leaf // claim.layers
        place.layer = s.leaf % claim.layers
    else:
        place.position = s.leaf - 1
        place.token_step = s.leaf - claim.prompt_tokens
    roots: shapes.Roots = empty(shapes.Roots)
    roots.states = claim.states
    roots.tokens = claim.tokens
    roots.operators = rest.operators
    roots.positions = claim.positions
    roots.order_id = claim.order_id
    roots.seed = claim.seed
    roots.temperature = claim.temperature
    if s.interval == 0:
        assert len(points) == 0, "points"
    else:
        width: uint256 = 16 if s.target == 1 else 8
        ends: int256[4] = self._ends(g, s, width, points)
        roots.before = ends[0]
        roots.before_index = ends[1]
        roots.after = ends[2]
        roots.after_index = ends[3]
    good: bool = staticcall Judge(convert(rest.judge, address)).judge(place, roots, openings)
    self._settle(game, CHALLENGER_LOSES if good else OPERATOR_LOSES)


@external
def arbitrate(game: uint256, at: Game, rest: Rest, claim: Claim, verdict: uint256, proof: Bytes[4096]):
    self._live(game, at)
    self._claimed(at, rest, claim)
    assert ARBITER != empty(address) and (verdict == 1 or verdict == 2), "arbiter"
    trace_root: bytes32 = sha256(concat(x"01", sha256(concat(x"01", claim.states, claim.tokens)), claim.seed_hash))
    statement: bytes32 = sha256(
        concat(
            b"otr/2/arbitration", convert(chain.id, bytes32), convert(COURT, bytes32), convert(game, bytes32), trace_root,
            convert(convert(verdict, uint8), bytes1)
        )
    )
    assert staticcall Arbiter(ARBITER).shows(statement, proof), "proof"
    self._settle(game, verdict)


@external
def timeout(game: uint256, at: Game):
    self._live(game, at)
    turn: uint256 = (at.spot >> 8) & 255
    left: uint256 = (at.clock >> (64 + 32 * turn)) & LOW
    # Safe, as every call of the court from here: its address is fixed at deployment.
    assert staticcall Court(COURT).passed(at.clock & (2 ** 64 - 1), left), "early"
    self._settle(game, OPERATOR_LOSES if turn == 0 else CHALLENGER_LOSES)


# --- inside

@internal
def _settle(game: uint256, verdict: uint256):
    # The game is over before the court, which calls nothing but this table, hears of it.
    self.games[game] = OVER
    extcall Court(COURT).settle(game, verdict)


@internal
def _store(game: uint256, at: Game, s: Spot):
    g: Game = at
    g.spot = self._pack(s)
    self.games[game] = keccak256(abi_encode(g))
    log Moved(game=game)


@view
@internal
def _live(game: uint256, at: Game):
    """Refuses a game that does not go on, or stands elsewhere."""
    stored: bytes32 = self.games[game]
    assert stored != empty(bytes32), "game"
    assert stored != OVER, "over"
    assert stored == keccak256(abi_encode(at)), "state"


@view
@internal
def _brought(at: Game, rest: Rest):
    assert keccak256(abi_encode(rest)) == at.rest, "rest"


@view
@internal
def _claimed(at: Game, rest: Rest, claim: Claim):
    self._brought(at, rest)
    assert keccak256(abi_encode(claim)) == rest.claim, "claim"


@view
@internal
def _move(game: uint256, at: Game, turn: uint256, levels: uint256) -> Game:
    """Refuses a move of the wrong side or at the wrong level; the game with the mover's clock charged."""
    self._live(game, at)
    assert convert(msg.sender, uint256) == (at.operator if turn == 0 else at.challenger), "sender"
    assert (at.spot >> 8) & 255 == turn, "turn"
    spent: uint256 = block.timestamp - (at.clock & (2 ** 64 - 1))
    left: uint256 = (at.clock >> (64 + 32 * turn)) & LOW
    if spent > left:
        # Unless all clocks have stood still meanwhile.
        assert not staticcall Court(COURT).passed(at.clock & (2 ** 64 - 1), left), "late"
        spent = left
    left = min(left - spent + INCREMENT_S, CLOCK_S)
    other: uint256 = (at.clock >> (96 - 32 * turn)) & LOW
    g: Game = at
    g.clock = block.timestamp | (left << (64 + 32 * turn)) | (other << (96 - 32 * turn))
    assert (levels >> (at.spot & 255)) & 1 == 1, "level"
    return g


@internal
def _disputed(game: uint256, at: Game, spot: Spot, claim: Claim, token: uint256):
    # The game where a dispute begins (``game.dispute``).
    g: Game = at
    s: Spot = spot
    if token == 0:
        s.size = claim.positions * claim.layers
        g.node = claim.states
    elif token == ALL_TOKENS:
        s.target = 1
        s.size = claim.positions + 1
        g.node = claim.tokens
    elif token >= STATES:
        s.leaf = token - STATES
        assert s.leaf < claim.positions * claim.layers, "token"
    else:
        assert token <= claim.positions, "token"
        self._at_token(game, g, s, token)
        return
    s.height = self._height(s.size)
    self._store(game, g, s)


@internal
def _at_token(game: uint256, at: Game, spot: Spot, token: uint256):
    # The dispute about a token, of which the tokens' root is all that is known.
    g: Game = at
    s: Spot = spot
    s.target = 1
    s.leaf = token
    s.size = 1
    s.height = 0
    s.index = 0
    g.node = empty(bytes32)
    self._store(game, g, s)


@view
@internal
def _state(
    g: Game, rest: Rest, claim: Claim, content: bytes32, path: DynArray[bytes32, 32], first: bool
) -> Spot:
    """The place of a game at a leaf of the states, of a first layer or of any other, which commits to ``content``."""
    self._claimed(g, rest, claim)
    s: Spot = self._unpack(g.spot)
    assert s.target == 0 and s.height == 0 and (s.leaf % claim.layers == 0) == first, "level"
    leaf: bytes32 = self._leaf(content)
    if g.node == empty(bytes32):
        assert self._is_under(leaf, s.leaf, claim.positions * claim.layers, path, claim.states), "path"
    else:
        assert leaf == g.node, "content"
        assert len(path) == 0, "path"
    return s


@internal
def _layer_shown(game: uint256, at: Game, s: Spot, rest: Rest, content: bytes32, children: DynArray[bytes32, 64]):
    r: Rest = rest
    r.kept = content
    program: uint256[2] = staticcall Judge(convert(rest.judge, address)).program_size(0, 0)
    self._program_shown(game, at, s, r, program[0], children)


@internal
def _program_shown(game: uint256, at: Game, spot: Spot, rest: Rest, size: uint256, children: DynArray[bytes32, 64]):
    # The dispute at the root of the program's results, with the leaves of all operators shown.
    g: Game = at
    s: Spot = spot
    r: Rest = rest
    s.level = 1
    s.turn = 1
    s.index = 0
    s.size = size
    s.height = self._height(size)
    r.operators = self._root_shown(s, children)
    g.node = r.operators
    g.rest = keccak256(abi_encode(r))
    self._store(game, g, s)


@internal
def _valued(game: uint256, at: Game, spot: Spot, steps: uint256):
    # The dispute about the value of an element, which the operator is to account for next.
    s: Spot = spot
    s.turn = 0
    s.height = 0
    s.index = 0
    s.step = 0
    s.interval = 0
    if steps == 1:
        s.level = 5
        s.size = 1
    else:
        s.level = 4
        s.size = steps + 1
    self._store(game, at, s)


@view
@internal
def _shape(s: Spot, rest: Rest) -> Shape:
    return staticcall Judge(convert(rest.judge, address)).operator_shape(s.target, s.leaf, rest.temperature, s.operator)


@view
@internal
def _tile(g: Game, s: Spot, rest: Rest, shape: Shape, data: Bytes[2048]) -> uint256:
    """Checks that a published tile is the disputed one, and counts its values."""
    count: uint256 = 0
    pieces: uint256 = 0
    if shape.tiles == 0:
        pieces, count = staticcall Judge(convert(rest.judge, address)).pieces(s.piece)
        assert len(data) == 32 + 4 * count, "tile length"
    else:
        count = min(shape.width, shape.length - s.piece * shape.width)
        assert len(data) == 8 * count, "tile length"
    assert sha256(concat(x"00", data)) == g.node, "tile"
    return count


@view
@internal
def _ends(g: Game, s: Spot, width: uint256, before: Bytes[4112]) -> int256[4]:
    """The accumulators at both ends of the disputed interval, each with its index, out of the list shown last."""
    if s.interval == 0:
        assert len(before) == 0, "points"
        return [0, 0, g.value, 0]
    assert sha256(concat(x"02", before)) == g.node, "points"
    return self._pairs(before, width, s.interval - 1, s.interval)


@pure
@internal
def _pairs(points: Bytes[4112], width: uint256, first: uint256, last: uint256) -> int256[4]:
    """Two entries of a list: accumulator and index; 0 where entries have no index."""
    found: int256[4] = [self._entry(points, width * first), 0, self._entry(points, width * last), 0]
    if width == 16:
        found[1] = self._entry(points, width * first + 8)
        found[3] = self._entry(points, width * last + 8)
    return found


@view
@internal
def _token(
    claim: Claim, leaf: uint256, data: Bytes[40], path: DynArray[bytes32, 32], node: bytes32
) -> bytes32:
    """Hash of a token leaf, after checking that it is number ``leaf`` of the answer; ``node``: its hash, if known."""
    assert len(data) == 40, "content"
    found: bytes32 = sha256(concat(x"00", data))
    if node == empty(bytes32):
        assert self._is_under(found, leaf, claim.positions + 1, path, claim.tokens), "path"
    else:
        assert found == node and len(path) == 0, "path"
    return found


@pure
@internal
def _seed_hash(seed: bytes32) -> bytes32:
    return sha256(concat(b"otr/1/trace-seed", seed))


@pure
@internal
def _leaf(content: bytes32) -> bytes32:
    return sha256(concat(x"00", content))


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
    bits: uint256 = s.height if s.level == 1 else min(ARITY_BITS, s.height)
    below: uint256 = s.height - bits
    first: uint256 = s.index << bits
    row: uint256 = (s.size + (1 << below) - 1) >> below
    return below, first, min((s.index + 1) << bits, row) - first


@view
@internal
def _root_shown(s: Spot, children: DynArray[bytes32, 64]) -> bytes32:
    # Root over all nodes of the round. An odd last one is carried up unhashed.
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
    return row[0]


@pure
@internal
def _is_under(leaf: bytes32, at: uint256, of: uint256, path: DynArray[bytes32, 32], root: bytes32) -> bool:
    # The path shows ``leaf`` to be number ``at`` of the ``of`` leaves under ``root`` (``merkle.verify_inclusion``).
    if at >= of:
        return False
    node: bytes32 = leaf
    index: uint256 = at
    size: uint256 = of
    used: uint256 = 0
    for _: uint256 in range(64):
        if size <= 1:
            break
        if index % 2 == 1 or index + 1 < size:
            if used == len(path):
                return False
            if index % 2 == 1:
                node = sha256(concat(x"01", path[used], node))
            else:
                node = sha256(concat(x"01", node, path[used]))
            used += 1
        index //= 2
        size = (size + 1) // 2
    return used == len(path) and node == root


@pure
@internal
def _le(data: Bytes[2048], start: uint256) -> uint256:
    # The little-endian 32-bit integer at byte ``start``.
    word: uint256 = convert(slice(data, start, 4), uint256)
    return ((word & 255) << 24) | ((word & 65280) << 8) | ((word >> 8) & 65280) | (word >> 24)


@pure
@internal
def _entry(data: Bytes[4112], start: uint256) -> int256:
    # The 64-bit integer at byte ``start``, sign extended.
    return (convert(convert(slice(data, start, 8), uint256), int256) << 192) >> 192


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
    # 32 each for element and step, 16 for the interval.
    low: uint256 = s.level | (s.turn << 8) | (s.target << 16) | (s.height << 24) | (s.operator << 32)
    middle: uint256 = (s.index << 40) | (s.size << 72) | (s.leaf << 104) | (s.piece << 136)
    return low | middle | (s.element << 160) | (s.step << 192) | (s.interval << 224)


@pure
@internal
def _unpack(word: uint256) -> Spot:
    return Spot(
        level=word & 255, turn=(word >> 8) & 255, target=(word >> 16) & 255, height=(word >> 24) & 255,
        operator=(word >> 32) & 255, index=(word >> 40) & LOW, size=(word >> 72) & LOW, leaf=(word >> 104) & LOW,
        piece=(word >> 136) & (2 ** 24 - 1), element=(word >> 160) & LOW, step=(word >> 192) & LOW, interval=word >> 224,
    )
