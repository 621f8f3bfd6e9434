# pragma version 0.4.3
"""
@title Registry: models that may be served, and keys of appraised TEEs
@notice The registrar appraises evidence off chain (an appraisal on chain costs millions of gas) and names keys and models
        here. ``vouch`` says whether a receipt is signed by a registered key of its operator, for the model it names.
"""

interface Judge:
    def trace_shape() -> (uint256, uint256, uint256, uint256): view

struct Receipt:
    job_id: bytes32
    nonce: bytes32
    model_id: bytes32
    query_digest: bytes32
    max_tokens: uint256
    seed: uint256
    temperature: uint256
    response_digest: bytes32
    positions: uint256
    layers: uint256
    output_bytes: uint256
    kv_bytes: uint256
    trace_root: bytes32
    configuration_digest: bytes32
    key_id: bytes32

struct Key:
    operator: address
    model_id: bytes32
    key: address

# Half the order of secp256k1: with s above it, every signature would have a second form.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168

REGISTRAR: immutable(address)
TYPE_HASH: immutable(bytes32)
DOMAIN: immutable(bytes32)

judges: public(HashMap[bytes32, address])  # by model id: the contract that judges the model's disputes
keys: public(HashMap[bytes32, Key])  # by key id


@deploy
def __init__(type_hash: bytes32, domain: bytes32):
    REGISTRAR = msg.sender
    TYPE_HASH = type_hash
    DOMAIN = domain


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
def vouch(operator: address, receipt: Receipt, signature: Bytes[65]) -> (bytes32, bool, address):
    """The receipt's EIP-712 hash, whether it is vouched for, and the judge of its model."""
    digest: bytes32 = keccak256(concat(x"1901", DOMAIN, keccak256(concat(TYPE_HASH, abi_encode(receipt)))))
    judge: address = self.judges[receipt.model_id]
    return digest, self._vouched(operator, receipt, digest, signature, judge), judge


@view
@internal
def _vouched(operator: address, receipt: Receipt, digest: bytes32, signature: Bytes[65], judge: address) -> bool:
    # The key is registered, for this operator and this model.
    key: Key = self.keys[receipt.key_id]
    if judge == empty(address) or key.operator != operator or key.model_id != receipt.model_id:
        return False
    # The trace has the model's shape: one of another shape has no program that it could be judged by.
    layers: uint256 = 0
    output_bytes: uint256 = 0
    kv_bytes: uint256 = 0
    context: uint256 = 0
    layers, output_bytes, kv_bytes, context = staticcall Judge(judge).trace_shape()
    if receipt.layers != layers or receipt.output_bytes != output_bytes or receipt.kv_bytes != kv_bytes:
        return False
    if receipt.positions == 0 or receipt.positions > context:
        return False
    # The signature is in its one canonical form, and the key's.
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s == 0 or s > HALF_ORDER or (v != 27 and v != 28):
        return False
    return ecrecover(digest, v, convert(extract32(signature, 0), uint256), s) == key.key
