# pragma version 0.4.3
"""
@title Pledges: what whoever vouches for a commitment to a model has to lose
@notice Same rules, reasons and numbers as otr_core/spotcheck/proof/pledges.py; each function here does what the Python
        function of the same name does. A statement is typed data (EIP-712) of one court on this chain. Nobody has a say
        here but by signatures: there is no owner, and the arbiter is fixed at deployment.
"""

interface Arbiter:
    def shows(statement: bytes32, proof: Bytes[4096]) -> bool: view

struct Pledge:
    value: uint256
    asked_at: uint256  # 0: it was not asked back
    lost_at: uint256  # 0: it was not lost

# What a statement says beside its model and lane, and who has signed it.
struct Word:
    commitment: bytes32
    date: uint256
    signature: Bytes[65]

event Pledged:
    signer: indexed(address)
    value: uint256

event AskedBack:
    signer: indexed(address)

event TakenBack:
    signer: indexed(address)
    value: uint256

event Lost:
    signer: indexed(address)
    catcher: indexed(address)
    reward: uint256
    burnt: uint256

event Withdrawn:
    who: indexed(address)
    value: uint256

BASIS: constant(uint256) = 10_000
# Half the order of secp256k1: with s above it, every signature would have a second form.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME: constant(bytes32) = keccak256("Optimistic TEE-Rollup")
VERSION: constant(bytes32) = keccak256("2")

COURT: immutable(address)
ARBITER: immutable(address)
NOTICE_S: immutable(uint256)
REWARD_BPS: immutable(uint256)
STATEMENT_TYPE: immutable(bytes32)

pledges: public(HashMap[address, Pledge])
announced: HashMap[bytes32, uint256]  # when, by what is announced
credits: public(HashMap[address, uint256])
burnt: public(uint256)


@deploy
def __init__(court: address, arbiter: address, notice_s: uint256, reward_bps: uint256, statement_type: bytes32):
    assert notice_s > 0, "notice"
    assert reward_bps <= BASIS // 2, "burn"
    COURT = court
    ARBITER = arbiter
    NOTICE_S = notice_s
    REWARD_BPS = reward_bps
    STATEMENT_TYPE = statement_type


@payable
@external
def put():
    pledge: Pledge = self.pledges[msg.sender]
    assert pledge.lost_at == 0, "lost"
    assert pledge.asked_at == 0, "notice"
    assert msg.value > 0, "value"
    self.pledges[msg.sender].value = pledge.value + msg.value
    log Pledged(signer=msg.sender, value=pledge.value + msg.value)


@external
def ask_back():
    pledge: Pledge = self.pledges[msg.sender]
    assert pledge.value > 0, "pledge"
    assert pledge.asked_at == 0, "notice"
    self.pledges[msg.sender].asked_at = block.timestamp
    log AskedBack(signer=msg.sender)


@external
def take_back():
    pledge: Pledge = self.pledges[msg.sender]
    assert pledge.value > 0, "pledge"
    assert pledge.asked_at > 0 and block.timestamp > pledge.asked_at + NOTICE_S, "notice"
    self.pledges[msg.sender] = empty(Pledge)
    self.credits[msg.sender] += pledge.value
    log TakenBack(signer=msg.sender, value=pledge.value)


@external
def announce(digest: bytes32):
    # Whoever copies it on its way has announced it for its author, whose address is in it; the first time stays.
    if self.announced[digest] == 0:
        self.announced[digest] = block.timestamp


@external
def contradict(model_id: bytes32, lane: String[64], first: Word, second: Word, salt: bytes32):
    assert first.commitment != second.commitment, "statement"
    digests: bytes32[2] = [self._digest(model_id, lane, first), self._digest(model_id, lane, second)]
    signer: address = self._signer(digests[0], first.signature)
    assert signer != empty(address) and self._signer(digests[1], second.signature) == signer, "signature"
    time: uint256 = self.announced[sha256(concat(convert(msg.sender, bytes20), digests[0], digests[1], salt))]
    assert time > 0 and block.timestamp > time, "announced"
    self._lose(signer)


@external
def refute(model_id: bytes32, lane: String[64], word: Word, proof: Bytes[4096]):
    digest: bytes32 = self._digest(model_id, lane, word)
    signer: address = self._signer(digest, word.signature)
    assert signer != empty(address), "signature"
    assert ARBITER != empty(address), "arbiter"
    statement: bytes32 = sha256(concat(b"otr/1/refuted", digest, convert(msg.sender, bytes20)))
    # Safe: the arbiter is fixed at deployment and called statically.
    assert staticcall Arbiter(ARBITER).shows(statement, proof), "proof"
    self._lose(signer)


@nonreentrant
@external
def withdraw():
    # Safe: what is owed is zero before its owner hears of it, and a refusal undoes all.
    amount: uint256 = self.credits[msg.sender]
    assert amount > 0, "credit"
    self.credits[msg.sender] = 0
    log Withdrawn(who=msg.sender, value=amount)
    assert raw_call(msg.sender, b"", value=amount, revert_on_failure=False), "transfer"


@view
@internal
def _digest(model_id: bytes32, lane: String[64], word: Word) -> bytes32:
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, COURT))
    said: bytes32 = keccak256(abi_encode(STATEMENT_TYPE, model_id, word.commitment, keccak256(lane), word.date))
    return keccak256(concat(x"1901", domain, said))


@pure
@internal
def _signer(digest: bytes32, signature: Bytes[65]) -> address:
    # Who has signed, in canonical form; nobody otherwise.
    if len(signature) != 65:
        return empty(address)
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s > HALF_ORDER:
        return empty(address)
    return ecrecover(digest, v, convert(extract32(signature, 0), uint256), s)


@internal
def _lose(signer: address):
    value: uint256 = self.pledges[signer].value
    assert value > 0, "pledge"
    reward: uint256 = value * REWARD_BPS // BASIS
    self.pledges[signer] = Pledge(value=0, asked_at=0, lost_at=block.timestamp)
    self.credits[msg.sender] += reward
    self.burnt += value - reward
    log Lost(signer=signer, catcher=msg.sender, reward=reward, burnt=value - reward)
