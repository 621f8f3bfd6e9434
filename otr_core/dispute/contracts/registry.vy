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

struct Key:
    operator: address
    model_id: bytes32
    key: address

# Half the order of secp256k1: with s above it, every signature would have a second form.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

# The EIP-712 domain; chain and court complete it.
DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
NAME: constant(bytes32) = keccak256("Optimistic TEE-Rollup")
VERSION: constant(bytes32) = keccak256("2")
# The lane whose steps a judge judges.
LANE: constant(bytes32) = keccak256("portable-1")
# How an answer ended: the most tokens ordered were chosen, or its last token is a stop token.
LENGTH: constant(uint256) = 0
STOP: constant(uint256) = 1

REGISTRAR: immutable(address)
ORDER_TYPE: immutable(bytes32)
RECEIPT_TYPE: immutable(bytes32)
CONFIGURATION: immutable(bytes32)  # digest of the lane's only configuration

judges: public(HashMap[bytes32, address])  # by model id: the contract that judges the model's disputes
keys: public(HashMap[bytes32, Key])  # by key id


@deploy
def __init__(order_type: bytes32, receipt_type: bytes32, configuration: bytes32):
    REGISTRAR = msg.sender
    ORDER_TYPE = order_type
    RECEIPT_TYPE = receipt_type
    CONFIGURATION = configuration


@external
def register_model(model_id: bytes32, judge: address):
    assert msg.sender == REGISTRAR, "sender"
    self.judges[model_id] = judge


@external
def register_key(key_id: bytes32, operator: address, model_id: bytes32, key: address):
    assert msg.sender == REGISTRAR, "sender"
    assert self.keys[key_id].operator == empty(address), "key"
    self.keys[key_id] = Key(operator=operator, model_id=model_id, key=key)


@view
@external
def vouch(operator: address, order: shapes.Order, receipt: shapes.Receipt, signature: Bytes[65]) -> (bytes32, String[16], address):
    """The receipt's EIP-712 hash under the domain of the court that asks, the name of the condition that it breaks (""
    if none), and the judge of the ordered model. Reverts for another order than the one that the receipt names."""
    domain: bytes32 = keccak256(abi_encode(DOMAIN_TYPE, NAME, VERSION, chain.id, msg.sender))
    order_id: bytes32 = self._typed(domain, keccak256(concat(ORDER_TYPE, abi_encode(order))))
    assert receipt.order_id == order_id, "order"
    digest: bytes32 = self._typed(domain, keccak256(concat(RECEIPT_TYPE, abi_encode(receipt))))
    judge: address = self.judges[order.model_id]
    return digest, self._fault(operator, order, receipt, digest, signature, judge), judge


@pure
@internal
def _typed(domain: bytes32, struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", domain, struct_hash))


@view
@internal
def _fault(
    operator: address, order: shapes.Order, receipt: shapes.Receipt, digest: bytes32, signature: Bytes[65], judge: address
) -> String[16]:
    if judge == empty(address):
        return "model"
    key: Key = self.keys[receipt.key_id]
    if key.operator != operator:
        return "key"
    if key.model_id != order.model_id:
        return "measured-model"
    if receipt.lane != LANE:
        return "lane"
    layers: uint256 = 0
    output_bytes: uint256 = 0
    kv_bytes: uint256 = 0
    context: uint256 = 0
    layers, output_bytes, kv_bytes, context = staticcall Judge(judge).trace_shape()
    if receipt.layers != layers or receipt.output_bytes != output_bytes or receipt.kv_bytes != kv_bytes:
        return "trace-shape"
    if receipt.configuration_digest != CONFIGURATION:
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
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s > HALF_ORDER or ecrecover(digest, v, convert(extract32(signature, 0), uint256), s) != key.key:
        return "signature"
    return ""
