# pragma version 0.4.3
"""
@title Arbiter: accepts a statement that two attested keys have both signed
@notice The sealed variant of a dispute. TEEs of two other vendors get the disputed states sealed, judge them and sign the
        statement of game.py; neither ends a game alone (``duties.two_keys`` in Python). A ZK verifier would have the same
        interface.
"""

FIRST: immutable(address)
SECOND: immutable(address)
# Half the order of secp256k1: with s above it, every signature would have a second form.
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168


@deploy
def __init__(first: address, second: address):
    assert first != empty(address) and second != empty(address) and first != second, "keys"
    FIRST = first
    SECOND = second


@view
@external
def shows(statement: bytes32, proof: Bytes[4096]) -> bool:
    """The proof: the signatures r, s, v of the first key and of the second, one after the other."""
    if len(proof) != 130:
        return False
    return self._signed(statement, slice(proof, 0, 65), FIRST) and self._signed(statement, slice(proof, 65, 65), SECOND)


@pure
@internal
def _signed(statement: bytes32, signature: Bytes[65], key: address) -> bool:
    s: uint256 = convert(extract32(signature, 32), uint256)
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if s > HALF_ORDER or (v != 27 and v != 28):
        return False
    return ecrecover(statement, v, convert(extract32(signature, 0), uint256), s) == key
