# pragma version 0.4.3
# pragma optimize codesize
"""
@title Court: stakes, batches of receipts, escrow, challenges, rewards and finality
@notice Same rules, reasons and numbers as otr_core/dispute/court.py. Each function here does what the Python function of
        the same name does; see there for what a rule means and why a check exists. The games of opened challenges are
        played at the table (table.vy), which tells this contract how each ended.
"""

import shapes

interface Registry:
    def vouch(operator: address, order: shapes.Order, receipt: shapes.Receipt, signature: Bytes[65]) -> (bytes32, String[16], address): view

interface Table:
    def start(game: uint256, operator: address, challenger: address, judge: address, token: uint256, order: shapes.Order, receipt: shapes.Receipt): nonpayable
    def fall(operator: address): nonpayable

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

struct Challenge:
    challenger: address
    batch: uint256
    commitment: bytes32
    index: uint256
    state: uint256  # status | opened << 8 | time of commitment << 16

event Convicted:
    operator: indexed(address)
    game: uint256
    slashed: uint256
    burnt: uint256

event Acquitted:
    game: indexed(uint256)

# Status of a challenge, as in records.py.
COMMITTED: constant(uint256) = 1
OPEN: constant(uint256) = 2
WON: constant(uint256) = 3
LOST: constant(uint256) = 4
MOOT: constant(uint256) = 5

BASIS: constant(uint256) = 10000  # basis points in the whole
# Of the verdicts, as in state.py.
OPERATOR_LOSES: constant(uint256) = 1
WITHDRAWN: constant(uint256) = 3
OPENED: constant(uint256) = 1 << 8

TERMS: immutable(Terms)
REGISTRY: immutable(address)
TABLE: public(immutable(address))

operators: public(HashMap[address, Operator])
batches: public(HashMap[uint256, Batch])
batch_count: uint256
challenges: HashMap[uint256, Challenge]  # numbered from 1
challenge_count: uint256
credits: public(HashMap[address, uint256])
burnt: public(uint256)


@deploy
def __init__(terms: Terms, registry: address, table: address):
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
    TABLE = table


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
    self.challenges[game].state = COMMITTED | (block.timestamp << 16)


@external
def open(
    game: uint256, index: uint256, token: uint256, salt: bytes32, order: shapes.Order, receipt: shapes.Receipt,
    signature: Bytes[65], path: DynArray[bytes32, 32],
):
    self._status(game, COMMITTED)
    batch: uint256 = self.challenges[game].batch
    assert msg.sender == self.challenges[game].challenger, "sender"
    assert block.timestamp <= (self.challenges[game].state >> 16) + TERMS.reveal_s, "late"
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
        self._set_status(game, MOOT | OPENED)
        self._end(game, True)
        return
    if len(fault) > 0:
        self._set_status(game, COMMITTED | OPENED)
        self._convict(game)
        return
    self._set_status(game, OPEN | OPENED)
    # The table's address is fixed at deployment; it writes what it alone knows of the game, and calls nobody back.
    extcall Table(TABLE).start(game, operator, msg.sender, judge, token, order, receipt)


@external
def expire(game: uint256):
    self._status(game, COMMITTED)
    assert block.timestamp > (self.challenges[game].state >> 16) + TERMS.reveal_s, "early"
    self._acquit(game)


@external
def settle(game: uint256, verdict: uint256):
    """The table's verdict on a game, which ends the challenge."""
    assert msg.sender == TABLE, "sender"
    self._status(game, OPEN)
    if verdict == OPERATOR_LOSES:
        self._convict(game)
    elif verdict == WITHDRAWN:
        self._set_status(game, MOOT)
        self._end(game, True)
    else:
        self._acquit(game)


@external
def close(game: uint256):
    assert game >= 1 and game <= self.challenge_count, "challenge"
    status: uint256 = self.challenges[game].state & 255
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
    assert o.reward > 0 and self.challenges[game].state & OPENED > 0, "reward"
    assert batch == o.convicted_batch and self.challenges[game].index == o.convicted_index, "reward"
    assert self.challenges[game].state & 255 != LOST, "reward"
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
def challenge_state(game: uint256) -> uint256:
    """Status of a challenge, whether it was opened, and its time, as packed."""
    return self.challenges[game].state


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
    assert self.challenges[game].state & 255 == wanted, "opened"


@internal
def _set_status(game: uint256, status: uint256):
    # What was opened stays opened.
    state: uint256 = self.challenges[game].state
    self.challenges[game].state = ((state >> 16) << 16) | (state & OPENED) | status


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
    extcall Table(TABLE).fall(name)
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
