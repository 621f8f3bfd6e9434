# pragma version 0.4.3
# pragma optimize codesize
"""
@title Court: stakes, batches of receipts, escrow, challenges, duties, rewards and finality
@notice Same rules, reasons and numbers as otr_core/dispute/accounts.py, duties.py and court.py. Each function here does
        what the Python function of the same name does; see there for what a rule means and why a check exists. The games
        of opened challenges are played at the table (table.vy), which tells this contract how each ended. Every change
        of state is logged, so that whoever reads the logs knows the state.
"""

import shapes

interface Registry:
    def registrar() -> address: view
    def platforms(operator: address) -> bytes32: view
    def revoked(subject: bytes32) -> uint256: view
    def vouch(operator: address, order: shapes.Order, receipt: shapes.Receipt, signature: Bytes[65], at: uint256, platform: bytes32) -> (bytes32, String[16], address): view
    def signed(operator: address, receipt: shapes.Receipt, signature: Bytes[65]) -> (bytes32, bool): view

interface Table:
    def start(game: uint256, operator: address, challenger: address, judge: address, token: uint256, order: shapes.Order, receipt: shapes.Receipt): nonpayable
    def end(game: uint256): nonpayable

interface Arbiter:
    def shows(statement: bytes32, proof: Bytes[4096]) -> bool: view

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
    cap_bps: uint256
    duty_s: uint256
    spot_bps: uint256
    pause_s: uint256
    cost: uint256

# As stored: a word of storage costs as much as a move, so what changes together shares one. No number can reach into the
# next: stakes are bounded, times are of this age, and every game, batch or challenge costs gas of its own.
struct Operator:
    standing: uint256  # stake, 96 bits | convicted_at, 40 | exit_at, 40 | open_games, 24 | live_games, 24 | live_batches, 32
    in_flight: uint256
    due: uint256  # reward, 96 bits | costs, 96 | best_game, 64

struct KeptBatch:
    place: uint256  # operator, 160 bits | size, 40 | time, 40 | closed, 8
    root: bytes32
    platform: bytes32
    payment: uint256

struct Challenge:
    state: uint256  # status, 8 bits | opened, 1 | freezes, 7 | time of commitment, 80 | challenger, 160
    subject: bytes32  # the commitment; the batch, once an answer is challenged; else what is said to be wrong or due
    operator: address  # nobody until it is opened; of an answer the batch's
    batch: bytes32  # of an answer that the beacon drew

# The same as calls read them.
struct Standing:
    stake: uint256
    convicted_at: uint256
    exit_at: uint256
    open_games: uint256
    live_games: uint256
    live_batches: uint256

struct Batch:
    operator: address
    root: bytes32
    size: uint256
    time: uint256
    platform: bytes32
    closed: bool

# Where a leaf lies, as in duties.py.
struct LeafPlace:
    batch: bytes32
    at: uint256
    path: DynArray[bytes32, 32]

event Staked:
    operator: indexed(address)
    stake: uint256

event Committed:
    operator: indexed(address)
    batch: indexed(bytes32)
    root: bytes32
    size: uint256
    platform: bytes32

event Escrowed:
    batch: indexed(bytes32)
    payer: indexed(address)
    value: uint256

event Finalised:
    batch: indexed(bytes32)
    paid: uint256

event Refunded:
    batch: indexed(bytes32)
    payer: indexed(address)
    value: uint256

event Leaving:
    operator: indexed(address)

event Left:
    operator: indexed(address)
    stake: uint256

event Withdrawn:
    who: indexed(address)
    value: uint256

event Challenged:
    number: indexed(uint256)
    challenger: indexed(address)
    commitment: bytes32

event Opened:
    number: indexed(uint256)
    operator: indexed(address)
    subject: bytes32
    index: uint256
    token: uint256
    fault: String[16]

# A duty: its status says of which kind.
event Due:
    number: indexed(uint256)
    operator: indexed(address)
    challenger: address
    status: uint256
    subject: bytes32
    batch: bytes32
    index: uint256

event Ended:
    number: indexed(uint256)
    status: uint256

event Convicted:
    operator: indexed(address)
    game: uint256
    slashed: uint256
    reward: uint256
    costs: uint256
    burnt: uint256

event Repaid:
    number: indexed(uint256)
    value: uint256

event Rewarded:
    operator: indexed(address)
    number: uint256
    value: uint256
    burnt: uint256

event Fused:
    platform: indexed(bytes32)

event Drawn:
    draw: indexed(uint256)
    beacon: bytes32

event Paused:
    until: uint256

# Status of a challenge, as in records.py.
COMMITTED: constant(uint256) = 1
OPEN: constant(uint256) = 2
WON: constant(uint256) = 3
LOST: constant(uint256) = 4
MOOT: constant(uint256) = 5
DEMAND: constant(uint256) = 6
SPOT: constant(uint256) = 7
OPENED: constant(uint256) = 1 << 8
FREEZES: constant(uint256) = 1 << 9
# Of the words of storage: numbers of 96 and of 40 bits, where numbers lie, and one of what is counted.
LOW96: constant(uint256) = 2 ** 96 - 1
LOW40: constant(uint256) = 2 ** 40 - 1
CONVICTED_AT: constant(uint256) = 96
EXIT_AT: constant(uint256) = 136
GAME: constant(uint256) = 1 << 176
LIVE_GAME: constant(uint256) = 1 << 200
LIVE_BATCH: constant(uint256) = 1 << 224
CLOSED: constant(uint256) = 1 << 240
BURNT: constant(uint256) = 64
SEED: constant(uint256) = 2 ** 32 - 2  # in the place of a token's number: only the seed is demanded yet

# Verdicts, as in state.py.
OPERATOR_LOSES: constant(uint256) = 1
CHALLENGER_LOSES: constant(uint256) = 2
WITHDRAWN: constant(uint256) = 3

BASIS: constant(uint256) = 10000  # basis points in the whole
# Limits, as in records.py and accounts.py.
LEAST_S: constant(uint256) = 60
SLOT_S: constant(uint256) = 12
MOST_REPAID: constant(uint256) = 8
PAUSE_REST: constant(uint256) = 4
# In the place of a token's number, as in duties.py.
TWO_ANSWERS: constant(uint256) = 2 ** 64
TWO_PLACES: constant(uint256) = 2 ** 64 + 1

TERMS: immutable(Terms)
REGISTRY: immutable(address)
TABLE: public(immutable(address))
ARBITER: immutable(address)

operators: public(HashMap[address, Operator])
batches: public(HashMap[bytes32, KeptBatch])  # by operator and root: ``_batch_id``
payments: public(HashMap[bytes32, HashMap[address, uint256]])  # by batch and payer
challenges: public(HashMap[uint256, Challenge])  # numbered from 1
books: uint256  # number of the next challenge, 64 bits | burnt, 192: never nothing, so that no dispute pays for a new word
fuses: public(HashMap[bytes32, uint256])  # by class of platforms
draws: HashMap[uint256, bytes32]
draw_times: HashMap[uint256, uint256]
draw_count: uint256
drawn: HashMap[bytes32, bool]
credits: public(HashMap[address, uint256])
pause: public(uint256)  # from | until << 64


@deploy
def __init__(terms: Terms, registry: address, table: address, arbiter: address):
    assert terms.arity_bits >= 1 and terms.arity_bits <= 6, "arity_bits"
    for seconds: uint256 in [terms.window_s, terms.reveal_s, terms.clock_s, terms.claim_s, terms.exit_s, terms.duty_s, terms.pause_s]:
        assert seconds >= LEAST_S and seconds <= 2 ** 31, "seconds"
    assert terms.increment_s >= SLOT_S and terms.increment_s <= terms.clock_s, "increment_s"
    assert min(terms.least_stake, terms.bond) >= 1 and max(terms.least_stake, terms.bond) <= 2 ** 96, "wei"
    assert terms.cost <= terms.bond, "cost"
    assert terms.slash_bps >= 1 and terms.slash_bps <= BASIS, "slash_bps"
    assert terms.reward_bps < BASIS and terms.compensation_bps < BASIS, "burn"
    assert terms.cap_bps <= 100 * BASIS and terms.spot_bps <= BASIS, "bps"
    assert terms.claim_s >= terms.reveal_s, "claim_s"
    assert terms.exit_s > terms.window_s + terms.reveal_s, "exit_s"
    self.books = 1
    TERMS = terms
    REGISTRY = registry
    TABLE = table
    ARBITER = arbiter


# --- stakes, batches, escrow

@external
def pause_clocks():
    assert msg.sender == staticcall Registry(REGISTRY).registrar(), "sender"
    last: uint256 = self.pause >> 64
    rest: uint256 = max(max(PAUSE_REST * TERMS.pause_s, TERMS.exit_s), max(max(TERMS.clock_s, TERMS.claim_s), TERMS.duty_s))
    assert last == 0 or block.timestamp > last + rest, "early"
    self.pause = block.timestamp | ((block.timestamp + TERMS.pause_s) << 64)
    log Paused(until=block.timestamp + TERMS.pause_s)


@payable
@external
def register():
    s: Standing = self._standing(msg.sender)
    assert s.convicted_at == 0 and s.exit_at == 0, "standing"
    stake: uint256 = s.stake + msg.value
    assert stake >= TERMS.least_stake and stake <= LOW96, "stake"
    self.operators[msg.sender].standing += msg.value
    log Staked(operator=msg.sender, stake=stake)


@external
def commit_batch(root: bytes32, size: uint256):
    s: Standing = self._standing(msg.sender)
    assert s.convicted_at == 0 and s.exit_at == 0 and s.stake >= TERMS.least_stake, "standing"
    assert s.live_games == 0, "frozen"
    assert size >= 1 and size <= 2 ** 32, "size"
    self._new_batch(msg.sender, root, size)


@payable
@external
def escrow(batch: bytes32):
    b: Batch = self._batch(batch)
    s: Standing = self._standing(b.operator)
    assert not b.closed and s.convicted_at == 0 and msg.value > 0, "escrow"
    in_flight: uint256 = self.operators[b.operator].in_flight + msg.value
    assert in_flight <= s.stake * TERMS.cap_bps // BASIS, "cap"
    self.batches[batch].payment += msg.value
    self.operators[b.operator].in_flight = in_flight
    self.payments[batch][msg.sender] += msg.value
    log Escrowed(batch=batch, payer=msg.sender, value=msg.value)


@external
def finalise(batch: bytes32):
    b: Batch = self._live_batch(batch)
    assert self._passed(block.timestamp, self._window_start(b), TERMS.window_s + TERMS.reveal_s), "early"
    assert self._standing(b.operator).open_games == 0, "frozen"
    payment: uint256 = self.batches[batch].payment
    self.batches[batch].place |= CLOSED
    self.operators[b.operator].standing -= LIVE_BATCH
    self.operators[b.operator].in_flight -= payment
    self.credits[b.operator] += payment
    log Finalised(batch=batch, paid=payment)


@external
def refund(batch: bytes32):
    b: Batch = self._batch(batch)
    assert not b.closed and self._standing(b.operator).convicted_at > 0, "void"
    paid: uint256 = self.payments[batch][msg.sender]
    assert paid > 0, "credit"
    self.batches[batch].payment -= paid
    self.payments[batch][msg.sender] = 0
    self.credits[msg.sender] += paid
    log Refunded(batch=batch, payer=msg.sender, value=paid)


@external
def request_exit():
    s: Standing = self._known(msg.sender)
    assert s.exit_at == 0, "exit"
    self.operators[msg.sender].standing |= block.timestamp << EXIT_AT
    log Leaving(operator=msg.sender)


@external
def withdraw_stake():
    s: Standing = self._known(msg.sender)
    assert s.exit_at > 0 and self._passed(block.timestamp, s.exit_at, TERMS.exit_s) and s.open_games == 0, "exit"
    assert s.live_batches == 0 or s.convicted_at > 0, "exit"
    self.operators[msg.sender].standing -= s.stake
    self.credits[msg.sender] += s.stake
    log Left(operator=msg.sender, stake=s.stake)


@nonreentrant
@external
def withdraw():
    # Safe: what is owed is zero before its owner hears of it, and a refusal undoes all.
    amount: uint256 = self.credits[msg.sender]
    assert amount > 0, "credit"
    self.credits[msg.sender] = 0
    log Withdrawn(who=msg.sender, value=amount)
    assert raw_call(msg.sender, b"", value=amount, revert_on_failure=False), "transfer"


# --- challenges

@payable
@external
def challenge(commitment: bytes32):
    assert msg.value == TERMS.bond, "bond"
    number: uint256 = self._numbered_new(COMMITTED, msg.sender, commitment)
    log Challenged(number=number, challenger=msg.sender, commitment=commitment)


@external
def open(
    number: uint256, batch: bytes32, index: uint256, token: uint256, salt: bytes32, order: shapes.Order,
    receipt: shapes.Receipt, signature: Bytes[65], path: DynArray[bytes32, 32],
):
    time: uint256 = self._committed(number, batch, index, token, salt)
    b: Batch = self._batch(batch)
    assert b.time <= time and not self._passed(time, self._window_start(b), TERMS.window_s), "window"
    assert not b.closed, "void"
    self._timely(time, b.operator)
    digest: bytes32 = empty(bytes32)
    fault: String[16] = ""
    judge: address = empty(address)
    assert len(signature) == 65, "path"
    # The registry says by which judge the model's disputes are judged, and what the receipt alone shows to be false. Safe:
    # it is fixed at deployment and called statically, as below.
    digest, fault, judge = staticcall Registry(REGISTRY).vouch(b.operator, order, receipt, signature, b.time, b.platform)
    self._under(sha256(concat(x"00", digest, signature)), index, b.size, path, b.root)
    log Opened(number=number, operator=b.operator, subject=batch, index=index, token=token, fault=fault)
    self._join(number, b.operator, batch)
    if len(fault) > 0:
        self._convict(number, empty(bytes32))
        return
    self._set_status(number, OPEN)
    if token != SEED:
        self._freeze(number)
    # Safe: the table's address is fixed at deployment; it writes what it alone knows of the game, and calls nobody.
    extcall Table(TABLE).start(number, b.operator, msg.sender, judge, token, order, receipt)


@external
def expire(number: uint256):
    self._status(number, COMMITTED, "opened")
    assert self._passed(block.timestamp, self._time(number), TERMS.reveal_s), "early"
    self._burn(TERMS.bond)
    self._set_status(number, LOST)
    log Ended(number=number, status=LOST)


@external
def close(number: uint256):
    state: uint256 = self.challenges[number].state
    assert state > 0, "challenge"
    assert msg.sender == self._challenger(number), "sender"
    assert state & 255 == OPEN, "over"
    assert self._standing(self._opponent(number)).convicted_at > 0, "over"
    self._end(number, MOOT)
    extcall Table(TABLE).end(number)


@external
def freeze(number: uint256):
    """The table says that a game has come to a dispute."""
    assert msg.sender == TABLE, "sender"
    self._freeze(number)


@external
def settle(number: uint256, verdict: uint256):
    """The table's verdict on a game, which ends the challenge."""
    assert msg.sender == TABLE, "sender"
    if verdict == OPERATOR_LOSES:
        self._convict(number, self.batches[self.challenges[number].subject].platform)
    elif verdict == WITHDRAWN:
        self._end(number, MOOT)
    else:
        self._acquit(number)


# --- offences that need no game

@external
def equivocation(
    number: uint256, operator: address, first: shapes.Receipt, signature: Bytes[65], second: shapes.Receipt,
    signature2: Bytes[65], salt: bytes32,
):
    self._timely(self._committed(number, first.order_id, 0, TWO_ANSWERS, salt), operator)
    assert second.order_id == first.order_id, "order"
    assert keccak256(abi_encode(first)) != keccak256(abi_encode(second)), "statement"
    digest: bytes32 = empty(bytes32)
    good: bool = False
    digest, good = staticcall Registry(REGISTRY).signed(operator, first, signature)
    assert good, "signature"
    digest, good = staticcall Registry(REGISTRY).signed(operator, second, signature2)
    assert good, "signature"
    log Opened(number=number, operator=operator, subject=first.order_id, index=0, token=TWO_ANSWERS, fault="")
    self.challenges[number].operator = operator
    self._join(number, operator, first.order_id)
    self._convict(number, empty(bytes32))


@external
def two_places(number: uint256, leaf: bytes32, first: LeafPlace, second: LeafPlace, salt: bytes32):
    a: Batch = self._batch(first.batch)
    b: Batch = self._batch(second.batch)
    assert a.operator == b.operator, "batch"
    self._timely(self._committed(number, leaf, 0, TWO_PLACES, salt), a.operator)
    assert first.batch != second.batch or first.at != second.at, "place"
    self._under(leaf, first.at, a.size, first.path, a.root)
    self._under(leaf, second.at, b.size, second.path, b.root)
    log Opened(number=number, operator=a.operator, subject=leaf, index=0, token=TWO_PLACES, fault="")
    self.challenges[number].operator = a.operator
    self._join(number, a.operator, leaf)
    self._convict(number, empty(bytes32))


# --- duties

@payable
@external
def demand(operator: address, receipt: shapes.Receipt, signature: Bytes[65]):
    assert msg.value == TERMS.bond, "bond"
    assert self._known(operator).convicted_at == 0, "standing"
    digest: bytes32 = empty(bytes32)
    good: bool = False
    digest, good = staticcall Registry(REGISTRY).signed(operator, receipt, signature)
    assert good, "signature"
    self._due(DEMAND, operator, sha256(concat(x"00", digest, signature)), empty(bytes32), 0)


@external
def show(number: uint256, place: LeafPlace):
    self._due_now(number, DEMAND)
    b: Batch = self._batch(place.batch)
    assert b.operator == self.challenges[number].operator, "batch"
    self._under(self.challenges[number].subject, place.at, b.size, place.path, b.root)
    if b.time <= self._time(number):
        self._acquit(number)
    else:
        self._end(number, MOOT)


@external
def publish_receipt(number: uint256):
    self._due_now(number, DEMAND)
    assert msg.sender == self.challenges[number].operator, "sender"
    assert self._standing(msg.sender).convicted_at == 0, "standing"
    self._new_batch(msg.sender, self.challenges[number].subject, 1)
    self._end(number, MOOT)


@external
def post_draw(beacon: bytes32):
    assert msg.sender == staticcall Registry(REGISTRY).registrar(), "sender"
    draw: uint256 = self.draw_count
    self.draws[draw] = beacon
    self.draw_times[draw] = block.timestamp
    self.draw_count = draw + 1
    log Drawn(draw=draw, beacon=beacon)


@external
def summon(batch: bytes32, index: uint256, draw: uint256):
    b: Batch = self._live_batch(batch)
    assert ARBITER != empty(address), "arbiter"
    assert not self._passed(block.timestamp, self._window_start(b), TERMS.window_s), "window"
    assert index < b.size, "index"
    subject: bytes32 = sha256(concat(b"otr/1/spot-check", batch, convert(index, bytes32)))
    assert draw < self.draw_count and self.draw_times[draw] > b.time, "draw"
    assert draw == 0 or self.draw_times[draw - 1] <= b.time, "draw"
    chance: uint256 = convert(sha256(concat(self.draws[draw], subject)), uint256) % BASIS
    assert chance < TERMS.spot_bps, "draw"
    assert not self.drawn[subject], "drawn"
    self.drawn[subject] = True
    self._due(SPOT, b.operator, subject, batch, index)


@external
def attest(number: uint256, verdict: uint256, proof: Bytes[4096]):
    self._due_now(number, SPOT)
    assert verdict == OPERATOR_LOSES or verdict == CHALLENGER_LOSES, "proof"
    statement: bytes32 = sha256(
        concat(
            b"otr/1/spot-verdict", convert(chain.id, bytes32), convert(self, bytes20), self.challenges[number].subject,
            convert(convert(verdict, uint8), bytes1),
        )
    )
    assert staticcall Arbiter(ARBITER).shows(statement, proof), "proof"
    if verdict == OPERATOR_LOSES:
        self._convict(number, self.batches[self.challenges[number].batch].platform)
    else:
        self._acquit(number)


@external
def lapse(number: uint256):
    assert self.challenges[number].state > 0, "challenge"
    status: uint256 = self.challenges[number].state & 255
    assert status == DEMAND or status == SPOT, "duty"
    assert self._passed(block.timestamp, self._time(number), TERMS.duty_s), "early"
    self._convict(number, self.batches[self.challenges[number].batch].platform)


# --- rewards

@external
def pay_reward(name: address):
    s: Standing = self._known(name)
    due: uint256 = self.operators[name].due
    reward: uint256 = due & LOW96
    costs: uint256 = (due >> 96) & LOW96
    best: uint256 = due >> 192
    assert reward > 0, "reward"
    assert self._passed(block.timestamp, s.convicted_at, TERMS.claim_s), "early"
    assert s.open_games == 0, "frozen"
    self.operators[name].due = best << 192
    self._burn(costs)
    self.credits[self._challenger(best)] += reward
    log Rewarded(operator=name, number=best, value=reward, burnt=costs)


# --- views

@view
@external
def passed(start: uint256, seconds: uint256) -> bool:
    """Whether more than so many seconds have gone by, the last pause apart."""
    return self._passed(block.timestamp, start, seconds)


@view
@external
def burnt() -> uint256:
    return self.books >> BURNT


# --- inside

@view
@internal
def _passed(at: uint256, start: uint256, seconds: uint256) -> bool:
    if at <= start + seconds:
        return False
    since: uint256 = max(start, self.pause & (2 ** 64 - 1))
    until: uint256 = min(at, self.pause >> 64)
    still: uint256 = until - since if until > since else 0
    return at - start - still > seconds


@view
@internal
def _window_start(b: Batch) -> uint256:
    last: uint256 = b.time + TERMS.window_s + TERMS.reveal_s
    start: uint256 = b.time
    # Safe: the registry is fixed at deployment.
    for again: uint256 in [staticcall Registry(REGISTRY).revoked(b.platform), self.fuses[b.platform]]:
        if again <= last:
            start = max(start, again)
    return start


@internal
def _new_batch(operator: address, root: bytes32, size: uint256):
    batch: bytes32 = sha256(concat(convert(operator, bytes32), root))
    assert self.batches[batch].place == 0, "batch"
    platform: bytes32 = staticcall Registry(REGISTRY).platforms(operator)
    self.batches[batch].place = convert(operator, uint256) | (size << 160) | (block.timestamp << 200)
    self.batches[batch].root = root
    self.batches[batch].platform = platform
    self.operators[operator].standing += LIVE_BATCH
    log Committed(operator=operator, batch=batch, root=root, size=size, platform=platform)


@pure
@internal
def _address(word: uint256) -> address:
    # The address in the lowest bits.
    return convert(word & (2 ** 160 - 1), address)


@view
@internal
def _standing(name: address) -> Standing:
    word: uint256 = self.operators[name].standing
    return Standing(
        stake=word & LOW96, convicted_at=(word >> CONVICTED_AT) & LOW40, exit_at=(word >> EXIT_AT) & LOW40,
        open_games=(word // GAME) & (2 ** 24 - 1), live_games=(word // LIVE_GAME) & (2 ** 24 - 1), live_batches=word // LIVE_BATCH,
    )


@view
@internal
def _batch(batch: bytes32) -> Batch:
    place: uint256 = self.batches[batch].place
    assert place > 0, "batch"
    return Batch(
        operator=self._address(place), root=self.batches[batch].root, size=(place >> 160) & LOW40,
        time=(place >> 200) & LOW40, platform=self.batches[batch].platform, closed=place >= CLOSED,
    )


@view
@internal
def _live_batch(batch: bytes32) -> Batch:
    b: Batch = self._batch(batch)
    assert not b.closed and self._standing(b.operator).convicted_at == 0, "void"
    return b


@view
@internal
def _known(name: address) -> Standing:
    s: Standing = self._standing(name)
    assert s.stake > 0 or s.convicted_at > 0 or s.exit_at > 0, "standing"
    return s


@internal
def _burn(amount: uint256):
    self.books += amount << BURNT


@internal
def _numbered_new(status: uint256, challenger: address, subject: bytes32) -> uint256:
    books: uint256 = self.books
    self.books = books + 1
    number: uint256 = books & (2 ** BURNT - 1)
    self.challenges[number].state = status | (block.timestamp << 16) | (convert(challenger, uint256) << 96)
    self.challenges[number].subject = subject
    return number


@view
@internal
def _challenger(number: uint256) -> address:
    return self._address(self.challenges[number].state >> 96)


@view
@internal
def _opponent(number: uint256) -> address:
    """The operator that a challenge or duty is against."""
    operator: address = self.challenges[number].operator
    if operator == empty(address):
        operator = self._address(self.batches[self.challenges[number].subject].place)
    return operator


@internal
def _due(status: uint256, operator: address, subject: bytes32, batch: bytes32, index: uint256):
    number: uint256 = self._numbered_new(status | OPENED, msg.sender, subject)
    self.challenges[number].operator = operator
    if batch != empty(bytes32):
        self.challenges[number].batch = batch
    self.operators[operator].standing += GAME
    log Due(
        number=number, operator=operator, challenger=msg.sender, status=status, subject=subject, batch=batch, index=index
    )


@view
@internal
def _status(number: uint256, wanted: uint256, reason: String[8]):
    state: uint256 = self.challenges[number].state
    assert state > 0, "challenge"
    assert state & 255 == wanted, reason


@view
@internal
def _due_now(number: uint256, wanted: uint256):
    """The duty may still be done."""
    self._status(number, wanted, "duty")
    assert not self._passed(block.timestamp, self._time(number), TERMS.duty_s), "late"


@view
@internal
def _time(number: uint256) -> uint256:
    return (self.challenges[number].state >> 16) & LOW40


@view
@internal
def _committed(number: uint256, subject: bytes32, index: uint256, token: uint256, salt: bytes32) -> uint256:
    """The time of a challenge that its owner may open now, as committed."""
    self._status(number, COMMITTED, "opened")
    assert msg.sender == self._challenger(number), "sender"
    time: uint256 = self._time(number)
    assert not self._passed(block.timestamp, time, TERMS.reveal_s), "late"
    committed: bytes32 = sha256(
        concat(convert(msg.sender, bytes32), subject, convert(index, bytes32), convert(token, bytes32), salt)
    )
    assert committed == self.challenges[number].subject, "commitment"
    return time


@view
@internal
def _timely(time: uint256, operator: address):
    convicted_at: uint256 = self._known(operator).convicted_at
    assert convicted_at == 0 or time <= convicted_at, "void"


@internal
def _join(number: uint256, operator: address, subject: bytes32):
    # The challenge is opened, against this operator.
    self.challenges[number].subject = subject
    self.challenges[number].state |= OPENED
    self.operators[operator].standing += GAME


@internal
def _freeze(number: uint256):
    self.challenges[number].state |= FREEZES
    self.operators[self._opponent(number)].standing += LIVE_GAME


@internal
def _set_status(number: uint256, status: uint256):
    self.challenges[number].state = ((self.challenges[number].state >> 8) << 8) | status


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
def _convict(number: uint256, platform: bytes32):
    # ``platform``: class of the platform whose trusted key has signed something false; nothing where no answer was judged.
    name: address = self._opponent(number)
    s: Standing = self._standing(name)
    if s.convicted_at > 0:
        due: uint256 = self.operators[name].due
        costs: uint256 = (due >> 96) & LOW96
        paid: uint256 = min(TERMS.cost, costs)
        best: uint256 = due >> 192
        other: uint256 = max(best, number)
        self.operators[name].due = (due & LOW96) | ((costs - paid) << 96) | (min(best, number) << 192)
        self.credits[self._challenger(other)] += paid
        log Repaid(number=other, value=paid)
    else:
        slashed: uint256 = s.stake * TERMS.slash_bps // BASIS
        reward: uint256 = slashed * TERMS.reward_bps // BASIS
        costs: uint256 = min(MOST_REPAID * TERMS.cost, slashed - reward)
        self.operators[name].standing = (self.operators[name].standing - slashed) | (block.timestamp << CONVICTED_AT)
        self.operators[name].due = reward | (costs << 96) | (number << 192)
        burnt: uint256 = slashed - reward - costs
        self._burn(burnt)
        log Convicted(operator=name, game=number, slashed=slashed, reward=reward, costs=costs, burnt=burnt)
        if platform != empty(bytes32) and self.fuses[platform] == 0:
            self.fuses[platform] = block.timestamp
            log Fused(platform=platform)
    self._end(number, WON)


@internal
def _acquit(number: uint256):
    if self.challenges[number].state & 255 != SPOT:
        compensation: uint256 = TERMS.bond * TERMS.compensation_bps // BASIS
        self._burn(TERMS.bond - compensation)
        self.credits[self._opponent(number)] += compensation
    self._end(number, LOST)


@internal
def _end(number: uint256, status: uint256):
    state: uint256 = self.challenges[number].state
    self.operators[self._opponent(number)].standing -= GAME + (LIVE_GAME if state & FREEZES > 0 else 0)
    self._set_status(number, status)
    if status != LOST and state & 255 != SPOT:
        self.credits[self._challenger(number)] += TERMS.bond
    log Ended(number=number, status=status)
