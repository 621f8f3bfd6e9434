"""drand rounds: a chain of our own to sign any round, and one rejecting twin per check."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_ecc.bls.point_compression import compress_G1, compress_G2
from py_ecc.optimized_bls12_381 import G1, G2, Z1, Z2, curve_order, multiply

from otr_core.errors import BeaconError, ParameterError
from otr_core.spotcheck import beacon
from otr_paper.benches.spotchecks import load_beacon

SECRET = 0x1234567890ABCDEF1234567890ABCDEF
OLD_DOMAIN = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_NUL_"


def g1_bytes(point) -> bytes:
    return int(compress_G1(point)).to_bytes(48, "big")


def g2_bytes(point) -> bytes:
    return b"".join(int(half).to_bytes(48, "big") for half in compress_G2(point))


CHAIN = {
    "schemeID": beacon.SCHEME,
    "public_key": g2_bytes(multiply(G2, SECRET)).hex(),
    "period": 3,
    "genesis_time": 1000,
}


def signed(number: int, domain: bytes = beacon.DOMAIN, secret: int = SECRET) -> bytes:
    return g1_bytes(multiply(beacon.hash_to_g1(beacon.round_message(number), domain), secret))


def refused(chain, number, signature) -> str:
    with pytest.raises(BeaconError) as failure:
        beacon.verify_round(chain, number, signature)
    return failure.value.check


def test_recorded_quicknet_rounds_verify_and_give_their_randomness(project):
    chain, rounds = load_beacon(project)
    assert set(rounds) == {2, 123}
    for number, signature in rounds.items():
        assert beacon.verify_round(chain, number, signature) == hashlib.sha256(signature).digest()


def test_a_chain_of_our_own_verifies():
    assert beacon.verify_round(CHAIN, 7, signed(7)) == hashlib.sha256(signed(7)).digest()


def test_each_check_refuses(project):
    quicknet, rounds = load_beacon(project)
    assert refused({**CHAIN, "schemeID": "pedersen-bls-chained"}, 7, signed(7)) == "scheme"
    assert refused({**CHAIN, "schemeID": "bls-unchained-on-g1"}, 7, signed(7)) == "scheme"
    assert refused({**CHAIN, "public_key": "00"}, 7, signed(7)) == "key"
    assert refused({**CHAIN, "public_key": g2_bytes(Z2).hex()}, 7, signed(7)) == "key"
    assert refused(CHAIN, 0, signed(7)) == "round"
    assert refused(CHAIN, 2**64, signed(7)) == "round"
    assert refused(CHAIN, True, signed(1)) == "round"
    assert refused(CHAIN, 8, signed(7)) == "signature"  # another round
    assert refused(quicknet, 7, signed(7)) == "signature"  # another chain
    assert refused(CHAIN, 2, rounds[2]) == "signature"
    # the tag of the scheme before RFC 9380
    assert refused(CHAIN, 7, signed(7, OLD_DOMAIN)) == "signature"
    assert refused(CHAIN, 7, signed(7, secret=SECRET + 1)) == "signature"


def test_points_that_are_not_canonical_or_not_of_the_group_are_refused():
    good = signed(7)
    assert refused(CHAIN, 7, g1_bytes(Z1)) == "signature group"
    assert refused(CHAIN, 7, good[:-1]) == "signature encoding"
    # swapped group: a point of G2
    assert refused(CHAIN, 7, g2_bytes(multiply(G2, 5))) == "signature encoding"
    assert refused({**CHAIN, "public_key": g1_bytes(multiply(G1, 5)).hex()}, 7, good) == "key"
    # uncompressed flag
    assert refused(CHAIN, 7, bytes([good[0] & 0x7F]) + good[1:]) == "signature encoding"
    modulus = 0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
    x = int.from_bytes(good, "big") % 2**381
    if x + modulus < 2**381:
        beyond = (x + modulus + (int.from_bytes(good, "big") >> 381 << 381)).to_bytes(48, "big")
        assert refused(CHAIN, 7, beyond) == "signature encoding"
    assert refused(CHAIN, 7, ((5 << 381) + modulus).to_bytes(48, "big")) == "signature encoding"
    # identity with a sign
    assert refused(CHAIN, 7, bytes([0xE0]) + bytes(47)) == "signature encoding"
    key = bytes.fromhex(CHAIN["public_key"])
    marked = key[:48] + bytes([key[48] | 0x80]) + key[49:]
    # the same point, flags in its second half
    assert refused({**CHAIN, "public_key": marked.hex()}, 7, good) == "key"


def test_a_point_on_the_curve_outside_the_subgroup_is_refused():
    from py_ecc.bls.point_compression import decompress_G1
    from py_ecc.optimized_bls12_381 import is_inf

    for x in range(1, 40):  # most x on the curve are not in the subgroup
        raw = ((4 << 381) + x).to_bytes(48, "big")
        try:
            point = decompress_G1(int.from_bytes(raw, "big"))
        except ValueError:
            continue
        if not is_inf(multiply(point, curve_order)):
            assert refused(CHAIN, 7, raw) == "signature group"
            return
    pytest.fail("no such point found")


@given(committed=st.integers(1000, 10**9), margin=st.integers(0, 100))
def test_the_round_is_the_first_strictly_later_than_the_commitment(committed, margin):
    number = beacon.round_after(CHAIN, committed, margin_s=margin)
    assert beacon.round_time(CHAIN, number) > committed + margin >= beacon.round_time(CHAIN, number - 1)


def test_commitments_before_the_chain_and_negative_margins_are_refused():
    with pytest.raises(BeaconError):
        beacon.round_after(CHAIN, 999)
    with pytest.raises(ParameterError):
        beacon.round_after(CHAIN, 2000, margin_s=-1)


def test_a_round_is_read_from_records_or_from_a_fetch_and_verified_either_way():
    assert beacon.read_round(CHAIN, 7, {7: signed(7)}) == beacon.read_round(CHAIN, 7, {}, fetch=signed)
    with pytest.raises(BeaconError, match="no signature"):
        beacon.read_round(CHAIN, 7, {})
    with pytest.raises(BeaconError, match="signature"):
        beacon.read_round(CHAIN, 7, {}, fetch=lambda number: signed(number + 1))
