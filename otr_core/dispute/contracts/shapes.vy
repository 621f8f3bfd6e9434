# pragma version 0.4.3
"""
@title Structs that more than one contract takes
"""

# A leaf's data and its path to a root; through two trees, both paths one after the other.
struct Opening:
    data: Bytes[2048]
    proof: DynArray[bytes32, 64]

# As in otr_core/lane/element.py.
struct Place:
    target: uint256
    position: uint256
    layer: uint256
    operator: uint256
    element: uint256
    step: uint256
    piece: uint256
    token_step: uint256
    value: int256

# What openings lead to, and what draws depend on; the accumulators before and after the step, each with its index.
struct Roots:
    states: bytes32
    tokens: bytes32
    operators: bytes32
    before: int256
    before_index: int256
    after: int256
    after_index: int256
    positions: uint256
    order_id: bytes32
    seed: uint256
    temperature: uint256

# Order and Receipt have the members of the typed data, in order, as words (otr_core/poea/order.py and receipt.py).
struct Order:
    job_id: bytes32
    nonce: bytes32
    model_id: bytes32
    prompt_root: bytes32
    prompt_tokens: uint256
    query_digest: bytes32
    max_tokens: uint256
    seed: uint256
    temperature: uint256

struct Receipt:
    order_id: bytes32
    prompt_tokens: uint256
    answer_tokens: uint256
    finish: uint256
    states: bytes32
    tokens: bytes32
    seed_hash: bytes32
    response_digest: bytes32
    lane: bytes32  # hash of its name
    layers: uint256
    output_bytes: uint256
    kv_bytes: uint256
    configuration_digest: bytes32
    key_id: bytes32
