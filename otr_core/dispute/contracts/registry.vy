# pragma version 0.4.3
"""
@title Registry: models that may be served, and keys of appraised TEEs
@notice The registrar appraises evidence off chain (an appraisal on chain costs millions of gas) and names keys and models
        here. ``vouch`` says whether a receipt is a statement that its operator can be held to, with the conditions and
        names of otr_core/dispute/registry.py. Orders and receipts are typed data (EIP-712) of the court that asks.
"""

import shapes

interface Judge:
    def trace_shape() -> (uint256, uint256, uint256, uint256): view
    def lane() -> (bytes32, bytes32): view

struct Key:
    operator: address
    model_id: bytes32
    key: address
    platform: bytes32

event ModelRegistered:
    model_id: indexed(bytes32)
    judge: address

event KeyRegistered:
    key_id: indexed(bytes32)
    operator: indexed(address)
    model_id: bytes32
    key: address
    platform: bytes32

event Revoked:
    subject: indexed(bytes32)
    since: uint256

event HeirNamed:
    heir: indexed(address)
    since: uint256

event Inherited:
    registrar: indexed(address)

# Half the order of secp256k1: with s above it, every signature would have a second form.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

# The EIP-712 domain; chain and court complete it.
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME: constant(bytes32) = keccak256("Optimistic TEE-Rollup")
VERSION: constant(bytes32) = keccak256("2")
# How an answer ended: the most tokens ordered were chosen, or its last token is a stop token.
LENGTH: constant(uint256) = 0
STOP: constant(uint256) = 1

HEIR_S: immutable(uint256)
NOTICE_S: immutable(uint256)
ORDER_TYPE: immutable(bytes32)
RECEIPT_TYPE: immutable(bytes32)

judges: public(HashMap[bytes32, address])  # by model id: the contract that judges the model's disputes
keys: public(HashMap[bytes32, Key])  # by key id
revoked: public(HashMap[bytes32, uint256])  # from when on, by key id or class of platforms
platforms: public(HashMap[address, bytes32])  # by operator: class of its latest key's platform
registrar: public(address)
heir: address
heir_since: uint256


@deploy
def __init__(order_type: bytes32, receipt_type: bytes32, heir_s: uint256, notice_s: uint256):
    self.registrar = msg.sender
    HEIR_S = heir_s
    NOTICE_S = notice_s
    ORDER_TYPE = order_type
    RECEIPT_TYPE = receipt_type


@external
def register_model(model_id: bytes32, judge: address):
    assert msg.sender == self.registrar, "sender"
    assert self.judges[model_id] == empty(address) and judge != empty(address), "model"
    self.judges[model_id] = judge
    log ModelRegistered(model_id=model_id, judge=judge)


@external
def register_key(key_id: bytes32, operator: address, model_id: bytes32, key: address, platform: bytes32):
    assert msg.sender == self.registrar, "sender"
    assert self.keys[key_id].operator == empty(address) and self.revoked[key_id] == 0 and self.revoked[platform] == 0, "key"
    assert operator != empty(address) and key != empty(address), "key"
    # A batch is known by one class of platforms, that of all keys of its operator which are trusted.
    former: bytes32 = self.platforms[operator]
    if former != empty(bytes32) and former != platform:
        assert self.revoked[former] > 0 and block.timestamp > self.revoked[former], "platform"
    self.keys[key_id] = Key(operator=operator, model_id=model_id, key=key, platform=platform)
    self.platforms[operator] = platform
    log KeyRegistered(key_id=key_id, operator=operator, model_id=model_id, key=key, platform=platform)


@external
def revoke(subject: bytes32):
    assert msg.sender == self.registrar, "sender"
    assert self.revoked[subject] == 0, "revoked"
    self.revoked[subject] = block.timestamp + NOTICE_S
    log Revoked(subject=subject, since=block.timestamp + NOTICE_S)


@external
def name_heir(heir: address):
    assert msg.sender == self.registrar, "sender"
    self.heir = heir
    self.heir_since = block.timestamp + HEIR_S
    log HeirNamed(heir=heir, since=block.timestamp + HEIR_S)


@external
def inherit():
    assert msg.sender == self.heir, "sender"
    assert block.timestamp > self.heir_since, "early"
    self.registrar = msg.sender
    self.heir = empty(address)
    log Inherited(registrar=msg.sender)


@view
@external
def signed(operator: address, receipt: shapes.Receipt, signature: Bytes[65]) -> (bytes32, bool):
    """The receipt's EIP-712 hash under the domain of the court that asks, and whether a key of the operator that is
    trusted now has signed it."""
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, msg.sender))
    digest: bytes32 = self._typed(domain, keccak256(concat(RECEIPT_TYPE, abi_encode(receipt))))
    key: Key = self.keys[receipt.key_id]
    trusted: bool = key.operator == operator and not self._revoked(receipt.key_id, key, block.timestamp)
    return digest, trusted and self._recovered(digest, signature) == key.key


@view
@external
def vouch(operator: address, order: shapes.Order, receipt: shapes.Receipt, signature: Bytes[65], at: uint256, platform: bytes32) -> (bytes32, String[16], address):
    """The receipt's EIP-712 hash under the domain of the court that asks, the name of the condition that it breaks (""
    if none), and the judge of the ordered model. Reverts for another order than the one that the receipt names. Keys
    count that were not revoked at time ``at``, when the batch was committed, and of the class that it was committed under."""
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, msg.sender))
    order_id: bytes32 = self._typed(domain, keccak256(concat(ORDER_TYPE, abi_encode(order))))
    assert receipt.order_id == order_id, "order"
    digest: bytes32 = self._typed(domain, keccak256(concat(RECEIPT_TYPE, abi_encode(receipt))))
    judge: address = self.judges[order.model_id]
    return digest, self._fault(operator, order, receipt, digest, signature, judge, at, platform), judge


@pure
@internal
def _typed(domain: bytes32, struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", domain, struct_hash))


@view
@internal
def _fault(
    operator: address, order: shapes.Order, receipt: shapes.Receipt, digest: bytes32, signature: Bytes[65], judge: address,
    at: uint256, platform: bytes32,
) -> String[16]:
    if judge == empty(address):
        return "model"
    key: Key = self.keys[receipt.key_id]
    if key.operator != operator:
        return "key"
    if self._revoked(receipt.key_id, key, at):
        return "revoked"
    if key.platform != empty(bytes32) and key.platform != platform:
        return "platform"
    if key.model_id != order.model_id:
        return "measured-model"
    lane: bytes32 = empty(bytes32)
    configuration: bytes32 = empty(bytes32)
    lane, configuration = staticcall Judge(judge).lane()
    if receipt.lane != lane:
        return "lane"
    layers: uint256 = 0
    output_bytes: uint256 = 0
    kv_bytes: uint256 = 0
    context: uint256 = 0
    layers, output_bytes, kv_bytes, context = staticcall Judge(judge).trace_shape()
    if receipt.layers != layers or receipt.output_bytes != output_bytes or receipt.kv_bytes != kv_bytes:
        return "trace-shape"
    if receipt.configuration_digest != configuration:
        return "configuration"
    if receipt.prompt_tokens != order.prompt_tokens:
        return "prompt"
    if receipt.prompt_tokens < 1 or receipt.answer_tokens < 1 or receipt.answer_tokens > order.max_tokens:
        return "length"
    # Calldata may hold numbers whose sum no word holds.
    if receipt.prompt_tokens > context or receipt.answer_tokens > context - receipt.prompt_tokens:
        return "length"
    if receipt.finish > STOP or (receipt.finish == LENGTH and receipt.answer_tokens != order.max_tokens):
        return "finish"
    if self._recovered(digest, signature) != key.key:
        return "signature"
    return ""


@view
@internal
def _revoked(key_id: bytes32, key: Key, at: uint256) -> bool:
    # The key, or the class of its platform, was revoked before ``at``.
    for since: uint256 in [self.revoked[key_id], self.revoked[key.platform]]:
        if since > 0 and at > since:
            return True
    return False


@pure
@internal
def _recovered(digest: bytes32, signature: Bytes[65]) -> address:
    # Who has signed, in canonical form; nobody whose key is registered otherwise.
    if len(signature) != 65:
        return empty(address)
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s > HALF_ORDER:
        return empty(address)
    return ecrecover(digest, v, convert(extract32(signature, 0), uint256), s)
