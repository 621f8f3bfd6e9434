# pragma version 0.4.3
"""
@title Arbiter: accepts a statement signed by one attested key
@notice The sealed variant of a dispute. A TEE of another vendor gets the disputed states sealed, judges them and signs
        the statement of game.py. A ZK verifier would have the same interface.
"""

KEY: immutable(address)
# Half the order of secp256k1: with s above it, every signature would have a second form.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168


@deploy
def __init__(key: address):
    KEY = key


@view
@external
def shows(statement: bytes32, proof: Bytes[4096]) -> bool:
    if len(proof) != 65:
        return False
    s: uint256 = convert(extract32(proof, 32), uint256)
    v: uint256 = convert(slice(proof, 64, 1), uint256)
    if s > HALF_ORDER or (v != 27 and v != 28):
        return False
    return ecrecover(statement, v, convert(extract32(proof, 0), uint256), s) == KEY
