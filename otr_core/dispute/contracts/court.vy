# pragma version 0.4.3
# pragma optimize codesize
"""
@title Court: stakes, batches of receipts, challenges, the moves of a dispute, clocks and money
@notice Same rules, reasons and numbers as otr_core/dispute/court.py and game.py. Each function here does what the
        Python function of the same name does; see there for what a move means and why a check exists. Moves
        carry what they show as calldata, which is public; only the disputed node is stored.
"""

import shapes

interface Judge:
    def program_size(target: uint256, temperature: uint256) -> uint256: view
    def operator_shape(target: uint256, position: uint256, temperature: uint256, operator: uint256) -> (uint256, uint256, uint256, uint256): view
    def pieces(piece: uint256) -> (uint256, uint256): view
    def trace_shape() -> (uint256, uint256, uint256, uint256): view
    def judge(place: shapes.Place, roots: shapes.Roots, openings: DynArray[shapes.Opening, 4]) -> bool: view

interface Registry:
    def vouch(operator: address, order: shapes.Order, receipt: shapes.Receipt, signature: Bytes[65]) -> (bytes32, String[16], address): view

interface Arbiter:
    def shows(statement: bytes32, proof: Bytes[4096]) -> bool: view

struct Claim:
    states: bytes32
    tokens: bytes32
    seed_hash: bytes32
    positions: uint256
    order_id: bytes32
    seed: uint256
    temperature: uint256

struct Terms:
    arity_bits: uint256
    window_s: uint256
    reveal_s: uint256
    clock_s: uint256
    increment_s: uint256
    exit_s: uint256
    claim_s: uint256
    least_stake: uint256
    bond: uint256
    slash_bps: uint256
    reward_bps: uint256
    compensation_bps: uint256

struct Operator:
    stake: uint256
    exit_at: uint256
    open_games: uint256
    live_batches: uint256
    convicted: bool
    convicted_batch: uint256
    convicted_index: uint256
    reward: uint256
    best_game: uint256
    claims_until: uint256

struct Batch:
    operator: address
    root: bytes32
    size: uint256
    time: uint256
    payer: address
    payment: uint256
    open_games: uint256
    closed: bool

# What is set once in a game; all that changes from move to move is packed in ``spots``, ``nodes`` and ``clocks``.
struct Challenge:
    challenger: address
    batch: uint256
    commitment: bytes32
    time: uint256
    index: uint256
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

event Convicted:
    operator: indexed(address)
    game: uint256
    slashed: uint256
    burnt: uint256

event Acquitted:
    game: indexed(uint256)

# Levels, as in game.py. TREES stands for every level at which a tree is walked down.
TRACE: constant(uint256) = 0
OPERATORS: constant(uint256) = 1
TILES: constant(uint256) = 2
ELEMENT: constant(uint256) = 3
STEPS: constant(uint256) = 4
LEAF: constant(uint256) = 5
TREES: constant(uint256) = 6

# Status of a challenge, as in records.py.
COMMITTED: constant(uint256) = 1
OPEN: constant(uint256) = 2
WON: constant(uint256) = 3
LOST: constant(uint256) = 4
MOOT: constant(uint256) = 5

BASIS: constant(uint256) = 10000  # basis points in the whole
GIVEN: constant(uint256) = 2 ** 32 - 1  # number in the answer of a token that the prompt gave

TERMS: immutable(Terms)
REGISTRY: immutable(address)
ARBITER: immutable(address)

operators: public(HashMap[address, Operator])
batches: public(HashMap[uint256, Batch])
batch_count: uint256
challenges: HashMap[uint256, Challenge]  # numbered from 1
challenge_count: uint256
spots: HashMap[uint256, uint256]  # a packed Spot
nodes: HashMap[uint256, bytes32]  # the disputed node
clocks: HashMap[uint256, uint256]  # status | opened | last time | operator's seconds | challenger's seconds
credits: public(HashMap[address, uint256])
burnt: public(uint256)


@deploy
def __init__(terms: Terms, registry: address, arbiter: address):
    assert terms.arity_bits >= 1 and terms.arity_bits <= 6, "arity_bits"
    assert min(min(terms.window_s, terms.reveal_s), min(terms.clock_s, terms.exit_s)) >= 1, "seconds"
    assert max(max(terms.window_s, terms.claim_s), max(terms.clock_s, terms.exit_s)) <= 2 ** 31, "seconds"
    assert terms.increment_s <= terms.clock_s, "increment_s"
    assert min(terms.least_stake, terms.bond) >= 1 and max(terms.least_stake, terms.bond) <= 2 ** 96, "wei"
    assert terms.slash_bps >= 1 and terms.slash_bps <= BASIS, "slash_bps"
    assert terms.reward_bps < BASIS and terms.compensation_bps < BASIS, "burn"
    assert terms.claim_s >= terms.reveal_s, "claim_s"
    assert terms.exit_s > terms.window_s + terms.reveal_s, "exit_s"
    TERMS = terms
    REGISTRY = registry
    ARBITER = arbiter


# --- operators, batches

@payable
@external
def register():
    o: Operator = self.operators[msg.sender]
    assert not o.convicted and o.exit_at == 0, "standing"
    assert o.stake + msg.value >= TERMS.least_stake, "stake"
    self.operators[msg.sender].stake = o.stake + msg.value


@external
def commit_batch(root: bytes32, size: uint256):
    o: Operator = self.operators[msg.sender]
    assert not o.convicted and o.exit_at == 0 and o.stake >= TERMS.least_stake, "standing"
    assert size >= 1 and size <= 2 ** 32, "size"
    b: uint256 = self.batch_count
    self.batches[b].operator = msg.sender
    self.batches[b].root = root
    self.batches[b].size = size
    self.batches[b].time = block.timestamp
    self.batch_count = b + 1
    self.operators[msg.sender].live_batches = o.live_batches + 1


@payable
@external
def escrow(batch: uint256):
    b: Batch = self._batch(batch)
    assert not b.closed and not self.operators[b.operator].convicted, "escrow"
    assert (b.payer == empty(address) or b.payer == msg.sender) and msg.value > 0, "escrow"
    self.batches[batch].payer = msg.sender
    self.batches[batch].payment = b.payment + msg.value


@external
def finalise(batch: uint256):
    b: Batch = self._batch(batch)
    assert not b.closed and not self.operators[b.operator].convicted, "void"
    assert block.timestamp > b.time + TERMS.window_s + TERMS.reveal_s and b.open_games == 0, "early"
    self._close_batch(batch, b.operator, b.operator, b.payment)


@external
def refund(batch: uint256):
    b: Batch = self._batch(batch)
    assert not b.closed and self.operators[b.operator].convicted, "void"
    self._close_batch(batch, b.operator, b.payer, b.payment)


@external
def request_exit():
    o: Operator = self._standing(msg.sender)
    assert o.exit_at == 0, "exit"
    self.operators[msg.sender].exit_at = block.timestamp + TERMS.exit_s


@external
def withdraw_stake():
    o: Operator = self._standing(msg.sender)
    assert o.exit_at > 0 and block.timestamp > o.exit_at and o.open_games == 0, "exit"
    assert o.live_batches == 0 or o.convicted, "exit"
    self.operators[msg.sender].stake = 0
    self.credits[msg.sender] += o.stake


@nonreentrant
@external
def withdraw():
    amount: uint256 = self.credits[msg.sender]
    assert amount > 0, "credit"
    self.credits[msg.sender] = 0
    assert raw_call(msg.sender, b"", value=amount, revert_on_failure=False), "transfer"


# --- challenges

@payable
@external
def challenge(batch: uint256, commitment: bytes32):
    b: Batch = self._batch(batch)
    assert not b.closed and not self.operators[b.operator].convicted, "void"
    assert block.timestamp <= b.time + TERMS.window_s, "window"
    assert msg.value == TERMS.bond, "bond"
    self.batches[batch].open_games = b.open_games + 1
    self.operators[b.operator].open_games += 1
    game: uint256 = self.challenge_count + 1
    self.challenge_count = game
    self.challenges[game].challenger = msg.sender
    self.challenges[game].batch = batch
    self.challenges[game].commitment = commitment
    self.challenges[game].time = block.timestamp
    self.clocks[game] = COMMITTED


@external
def open(
    game: uint256, index: uint256, token: uint256, salt: bytes32, order: shapes.Order, receipt: shapes.Receipt,
    signature: Bytes[65], path: DynArray[bytes32, 32],
):
    self._status(game, COMMITTED)
    batch: uint256 = self.challenges[game].batch
    assert msg.sender == self.challenges[game].challenger, "sender"
    assert block.timestamp <= self.challenges[game].time + TERMS.reveal_s, "late"
    committed: bytes32 = sha256(
        concat(convert(msg.sender, bytes32), convert(batch, bytes32), convert(index, bytes32), convert(token, bytes32), salt)
    )
    assert committed == self.challenges[game].commitment, "commitment"
    operator: address = self.batches[batch].operator
    assert len(signature) == 65, "path"
    digest: bytes32 = empty(bytes32)
    fault: String[16] = ""
    judge: address = empty(address)
    # The registry says by which judge the model's disputes are judged, and what the receipt alone shows to be false.
    digest, fault, judge = staticcall Registry(REGISTRY).vouch(operator, order, receipt, signature)
    self._under(sha256(concat(x"00", digest, signature)), index, self.batches[batch].size, path, self.batches[batch].root)
    self.challenges[game].index = index
    if self.operators[operator].convicted:
        self.clocks[game] = MOOT | (1 << 8)
        self._end(game, True)
        return
    if len(fault) > 0:
        self.clocks[game] = COMMITTED | (1 << 8)
        self._convict(game)
        return
    positions: uint256 = receipt.prompt_tokens + receipt.answer_tokens - 1
    assert token <= positions, "token"
    self.challenges[game].judge = judge
    self.challenges[game].trace_root = sha256(
        concat(x"01", sha256(concat(x"01", receipt.states, receipt.tokens)), receipt.seed_hash)
    )
    claim: Claim = Claim(
        states=receipt.states, tokens=receipt.tokens, seed_hash=receipt.seed_hash, positions=positions,
        order_id=receipt.order_id, seed=order.seed, temperature=order.temperature,
    )
    self.challenges[game].claim = keccak256(abi_encode(claim))
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
    self._set_clock(game, OPEN, 1, block.timestamp, TERMS.clock_s, TERMS.clock_s)


@external
def expire(game: uint256):
    self._status(game, COMMITTED)
    assert block.timestamp > self.challenges[game].time + TERMS.reveal_s, "early"
    self._acquit(game)


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
        s.size, values = staticcall Judge(self.challenges[game].judge).pieces(0)
        s.height = self._height(s.size)
        self.nodes[game] = self.challenges[game].kept
    self.spots[game] = self._pack(s)


@external
def expand_layer(game: uint256, content: bytes32, root: bytes32, children: DynArray[bytes32, 64]):
    s: Spot = self._move(game, 0, TRACE)
    assert s.height == 0 and s.target == 0, "level"
    assert sha256(concat(x"00", content)) == self.nodes[game], "content"
    self.challenges[game].kept = content
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
        self._acquit(game)
        return
    self.challenges[game].shown_value = convert(self._le(data, 32), int256)
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
def publish(game: uint256, claim: Claim, data: Bytes[2048]):
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
def element(game: uint256, claim: Claim, number: uint256, data: Bytes[2048]):
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
        self.challenges[game].shown_value = (convert(self._le(data, 32 + 4 * number), int256) << 224) >> 224
    else:
        s.element = s.piece * width + number
        word: uint256 = convert(slice(data, 8 * number, 8), uint256)
        # 64 bits, sign extended.
        self.challenges[game].shown_value = (convert(word, int256) << 192) >> 192
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
def accuse_salt(game: uint256, claim: Claim, data: Bytes[2048], seed: bytes32):
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
    self._convict(game)


@external
def expand_steps(game: uint256, root: bytes32, children: DynArray[bytes32, 64]):
    s: Spot = self._move(game, 0, STEPS)
    assert self.nodes[game] == empty(bytes32), "level"
    self._shown(s, children, root)
    self.nodes[game] = root
    self.challenges[game].steps = root
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
        piece=s.piece, token_step=s.token_step, value=self.challenges[game].shown_value,
    )
    roots: shapes.Roots = shapes.Roots(
        states=claim.states, tokens=claim.tokens, operators=self.challenges[game].operators,
        steps=self.challenges[game].steps, positions=claim.positions, order_id=claim.order_id, seed=claim.seed,
        temperature=claim.temperature,
    )
    if staticcall Judge(self.challenges[game].judge).judge(place, roots, openings):
        self._acquit(game)
    else:
        self._convict(game)


@external
def arbitrate(game: uint256, verdict: uint256, proof: Bytes[4096]):
    self._live(game)
    assert ARBITER != empty(address) and (verdict == 1 or verdict == 2), "arbiter"
    statement: bytes32 = sha256(
        concat(b"otr/1/arbitration", convert(game, bytes32), self.challenges[game].trace_root, convert(convert(verdict, uint8), bytes1))
    )
    assert staticcall Arbiter(ARBITER).shows(statement, proof), "proof"
    if verdict == 1:
        self._convict(game)
    else:
        self._acquit(game)


@external
def timeout(game: uint256):
    self._live(game)
    turn: uint256 = (self.spots[game] >> 8) & 255
    clock: uint256 = self.clocks[game]
    left: uint256 = (clock >> (80 + 32 * turn)) & (2 ** 32 - 1)
    assert block.timestamp > ((clock >> 16) & (2 ** 64 - 1)) + left, "early"
    if turn == 0:
        self._convict(game)
    else:
        self._acquit(game)


@external
def close(game: uint256):
    assert game >= 1 and game <= self.challenge_count, "challenge"
    status: uint256 = self.clocks[game] & 255
    assert status == COMMITTED or status == OPEN, "over"
    assert self.operators[self.batches[self.challenges[game].batch].operator].convicted, "over"
    self._set_status(game, MOOT)
    self._end(game, True)


@external
def claim_reward(game: uint256):
    assert game >= 1 and game <= self.challenge_count, "challenge"
    batch: uint256 = self.challenges[game].batch
    name: address = self.batches[batch].operator
    o: Operator = self.operators[name]
    assert o.reward > 0 and (self.clocks[game] >> 8) & 1 == 1, "reward"
    assert batch == o.convicted_batch and self.challenges[game].index == o.convicted_index, "reward"
    assert self.clocks[game] & 255 != LOST, "reward"
    assert block.timestamp <= o.claims_until, "late"
    assert game < o.best_game, "order"
    self.operators[name].best_game = game


@external
def pay_reward(name: address):
    o: Operator = self._standing(name)
    assert o.reward > 0, "reward"
    assert block.timestamp > o.claims_until, "early"
    self.operators[name].reward = 0
    self.credits[self.challenges[o.best_game].challenger] += o.reward


# --- views

@view
@external
def spot(game: uint256) -> (Spot, bytes32, uint256):
    """Where a game stands: the spot, the disputed node, and status and clocks as packed."""
    return self._unpack(self.spots[game]), self.nodes[game], self.clocks[game]


# --- inside

@view
@internal
def _batch(batch: uint256) -> Batch:
    assert batch < self.batch_count, "batch"
    return self.batches[batch]


@internal
def _close_batch(batch: uint256, operator: address, to: address, payment: uint256):
    # Closes a batch and pays its payment to ``to``.
    self.batches[batch].closed = True
    self.operators[operator].live_batches -= 1
    self.credits[to] += payment


@view
@internal
def _standing(name: address) -> Operator:
    o: Operator = self.operators[name]
    assert o.stake > 0 or o.convicted or o.exit_at > 0, "standing"
    return o


@view
@internal
def _status(game: uint256, wanted: uint256):
    assert game >= 1 and game <= self.challenge_count, "challenge"
    if wanted == OPEN:
        assert self.clocks[game] & 255 == OPEN, "over"
    else:
        assert self.clocks[game] & 255 == wanted, "opened"


@internal
def _set_status(game: uint256, status: uint256):
    self.clocks[game] = ((self.clocks[game] >> 8) << 8) | status


@internal
def _set_clock(game: uint256, status: uint256, opened: uint256, last: uint256, operator_s: uint256, challenger_s: uint256):
    # 8 bits of status, 8 of opened, 64 of the time of the last move, 32 for each clock (seconds).
    self.clocks[game] = status | (opened << 8) | (last << 16) | (operator_s << 80) | (challenger_s << 112)


@internal
def _move(game: uint256, turn: uint256, level: uint256) -> Spot:
    """Refuses a move of the wrong side or at the wrong level, and charges the mover's clock."""
    operator: address = self._live(game)
    assert msg.sender == (operator if turn == 0 else self.challenges[game].challenger), "sender"
    s: Spot = self._unpack(self.spots[game])
    assert s.turn == turn, "turn"
    clock: uint256 = self.clocks[game]
    spent: uint256 = block.timestamp - ((clock >> 16) & (2 ** 64 - 1))
    left: uint256 = (clock >> (80 + 32 * turn)) & (2 ** 32 - 1)
    assert spent <= left, "late"
    left = min(left - spent + TERMS.increment_s, TERMS.clock_s)
    other: uint256 = (clock >> (112 - 32 * turn)) & (2 ** 32 - 1)
    if turn == 0:
        self._set_clock(game, OPEN, 1, block.timestamp, left, other)
    else:
        self._set_clock(game, OPEN, 1, block.timestamp, other, left)
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
    bits: uint256 = min(TERMS.arity_bits, s.height)
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
    s.size = staticcall Judge(self.challenges[game].judge).program_size(s.target, temperature)
    s.height = self._height(s.size)
    self._shown(s, children, root)
    self.challenges[game].operators = root
    self.nodes[game] = root
    s.turn = 1
    self.spots[game] = self._pack(s)


@view
@internal
def _claimed(game: uint256, claim: Claim):
    # The claim that was brought is the game's.
    assert keccak256(abi_encode(claim)) == self.challenges[game].claim, "claim"


@view
@internal
def _live(game: uint256) -> address:
    """The operator of a game that goes on."""
    self._status(game, OPEN)
    operator: address = self.batches[self.challenges[game].batch].operator
    assert not self.operators[operator].convicted, "moot"
    return operator


@view
@internal
def _trace(game: uint256) -> (uint256, uint256, uint256, uint256):
    return staticcall Judge(self.challenges[game].judge).trace_shape()


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
    judge: address = self.challenges[game].judge
    position: uint256 = 0
    layer: uint256 = 0
    position, layer = self._where(game, s)
    return staticcall Judge(judge).operator_shape(s.target, position, claim.temperature, s.operator)


@view
@internal
def _tile(game: uint256, s: Spot, claim: Claim, data: Bytes[2048]) -> (bool, uint256, uint256, uint256):
    """Checks that a published tile is the disputed one. Returns whether it is a piece of the trace, how many values it
    holds, in how many steps each is made, and how many values a whole tile holds."""
    self._claimed(game, claim)
    judge: address = self.challenges[game].judge
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


@internal
def _convict(game: uint256):
    batch: uint256 = self.challenges[game].batch
    name: address = self.batches[batch].operator
    o: Operator = self.operators[name]
    slashed: uint256 = o.stake * TERMS.slash_bps // BASIS
    reward: uint256 = slashed * TERMS.reward_bps // BASIS
    o.stake -= slashed
    o.convicted = True
    o.convicted_batch = batch
    o.convicted_index = self.challenges[game].index
    o.reward = reward
    o.best_game = game
    o.claims_until = block.timestamp + TERMS.claim_s
    self.operators[name] = o
    self.burnt += slashed - reward
    self._set_status(game, WON)
    log Convicted(operator=name, game=game, slashed=slashed, burnt=slashed - reward)
    self._end(game, True)


@internal
def _acquit(game: uint256):
    compensation: uint256 = TERMS.bond * TERMS.compensation_bps // BASIS
    batch: uint256 = self.challenges[game].batch
    self.burnt += TERMS.bond - compensation
    self.credits[self.batches[batch].operator] += compensation
    self._set_status(game, LOST)
    log Acquitted(game=game)
    self._end(game, False)


@internal
def _end(game: uint256, bond_back: bool):
    batch: uint256 = self.challenges[game].batch
    self.batches[batch].open_games -= 1
    self.operators[self.batches[batch].operator].open_games -= 1
    if bond_back:
        self.credits[self.challenges[game].challenger] += TERMS.bond


@pure
@internal
def _le(data: Bytes[2048], start: uint256) -> uint256:
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
