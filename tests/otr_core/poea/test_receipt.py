"""Signing a statement and recovering its signer, against two implementations of others; and two
answers under one order as evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from eth_keys import keys
from eth_keys.constants import SECPK1_N
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import InputError, ReceiptError
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.receipt import GROUP_ORDER, AttestedKeys, SignedReceipt, make_receipt, recover_signer, sign_receipt
from tests.helpers.receipts import DOMAIN, answer, enclave, forged, ordered, signed

PLACED = ordered()
FILE = signed(PLACED)
RECEIPT = FILE.receipt


def signer_or_none(signature: bytes) -> bytes | None:
    try:
        return recover_signer(DOMAIN, RECEIPT, signature)
    except ReceiptError:
        return None


def test_eth_keys_and_cryptography_agree_on_the_signature() -> None:
    digest = RECEIPT.signing_hash(DOMAIN)
    raw = FILE.signature[:64] + bytes([FILE.signature[64] - 27])
    assert keys.Signature(raw).recover_public_key_from_msg_hash(digest).to_bytes() == FILE.keys.signing[1:]
    assert keys.PrivateKey(enclave().signing_key).sign_msg_hash(digest).to_bytes() == raw
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), FILE.keys.signing)
    r, s = int.from_bytes(FILE.signature[:32]), int.from_bytes(FILE.signature[32:64])
    # only its length matters: the hash is Keccak
    prehashed = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    public.verify(utils.encode_dss_signature(r, s), digest, prehashed)
    assert GROUP_ORDER == SECPK1_N


def test_malleable_and_odd_signatures_are_refused() -> None:
    r, s, v = FILE.signature[:32], int.from_bytes(FILE.signature[32:64]), FILE.signature[64]
    twin = r + (GROUP_ORDER - s).to_bytes(32, "big") + bytes([55 - v])
    assert (
        keys.Signature(twin[:64] + bytes([twin[64] - 27]))
        .recover_public_key_from_msg_hash(RECEIPT.signing_hash(DOMAIN))
        .to_bytes()
        == FILE.keys.signing[1:]
    )  # it is valid, and a second form of the same
    for odd in (
        twin,
        FILE.signature[:64],
        FILE.signature + b"\0",
        b"",
        FILE.signature[:64] + bytes([v - 27]),
        FILE.signature[:64] + bytes([v + 2]),
        bytes(32) + FILE.signature[32:],
        r + bytes(32) + bytes([v]),
        b"\xff" * 32 + FILE.signature[32:],
        GROUP_ORDER.to_bytes(32, "big") + FILE.signature[32:],
        r + (GROUP_ORDER // 2 + 1).to_bytes(32, "big") + bytes([v]),
        (5).to_bytes(32, "big") + FILE.signature[32:],  # no point of the curve has 5 as its abscissa
    ):
        with pytest.raises(ReceiptError) as caught:
            recover_signer(DOMAIN, RECEIPT, odd)
        assert caught.value.check == "signature"
    assert signer_or_none(FILE.signature[:64] + bytes([55 - v])) != FILE.keys.address
    for other in (0, 1, 26, 29, 30, 255):  # 29 and 30 are known to libraries and to no contract
        with pytest.raises(ReceiptError, match=f"v {other} or s out of range"):
            recover_signer(DOMAIN, RECEIPT, FILE.signature[:64] + bytes([other]))


@given(st.integers(0, 63), st.integers(1, 255))
def test_an_altered_signature_never_gives_the_signer(at: int, flip: int) -> None:
    altered = bytearray(FILE.signature)
    altered[at] ^= flip
    assert signer_or_none(bytes(altered)) != FILE.keys.address


def test_signing_is_deterministic_and_says_what_was_done() -> None:
    tee, said = enclave(), PLACED.said
    trace = answer(PLACED.order, said).committed
    made = make_receipt(
        PLACED.order,
        trace,
        prompt_tokens=3,
        finish="stop",
        response=FILE.response,
        configuration=FILE.configuration,
        keys=tee.keys,
    )
    assert made == RECEIPT
    assert (made.trace, made.trace_root, made.positions) == (trace.shape, trace.root, 5)
    assert sign_receipt(tee.signing_key, PLACED.order, made) == SignedReceipt(PLACED.order, made, FILE.signature)


def test_wrong_keys_are_refused_when_built() -> None:
    with pytest.raises(InputError, match="keys signing: found a first byte 0, expected 4"):
        AttestedKeys(bytes(65), bytes(32))
    with pytest.raises(InputError, match="keys hpke: found 31 bytes"):
        AttestedKeys(FILE.keys.signing, bytes(31))
    with pytest.raises(InputError, match="keys signing: found 33 bytes, expected 65"):
        AttestedKeys(b"\x02" + FILE.keys.signing[1:33], bytes(32))
    for bad in ({}, [], {"signing": "00"}):
        with pytest.raises(InputError, match="keys: found"):
            AttestedKeys.from_json(bad)


def statement(file) -> SignedReceipt:
    return SignedReceipt(file.order, file.receipt, file.signature)


def refusal(first: SignedReceipt, second: SignedReceipt, *, keys: tuple[bytes, bytes] | None = None) -> str:
    with pytest.raises(ReceiptError) as caught:
        Equivocation(first, second).check(keys or (FILE.keys.address,) * 2)
    return caught.value.check


def test_several_signed_answers_under_one_order_convict() -> None:
    own = statement(FILE)
    others = [
        forged(PLACED, ids=(3, 5, 2)),
        forged(PLACED, ids=(3, 2)),
        forged(PLACED, statement={"states_root": b"\x55" * 32}),
        forged(PLACED, configuration={**FILE.configuration, "threads": 2}),
    ]
    for other in others:
        Equivocation(own, statement(other)).check((FILE.keys.address,) * 2)
        Equivocation(statement(other), own).check((FILE.keys.address,) * 2)
    Equivocation(*map(statement, others[:2])).check((FILE.keys.address,) * 2)
    # two enclaves of one operator, each with its key
    second = enclave(secret=b"t" * 32)
    twice = statement(forged(PLACED, ids=(3, 5, 2), tee=second))
    Equivocation(own, twice).check((FILE.keys.address, second.keys.address))
    assert refusal(own, twice) == "signature"
    assert refusal(own, twice, keys=(second.keys.address, FILE.keys.address)) == "signature"


def test_an_honest_operator_is_not_convicted() -> None:
    own, other = statement(FILE), ordered(number=2)
    assert refusal(own, own) == "statement"
    assert refusal(own, replace(own)) == "statement"
    assert refusal(own, statement(signed(other))) == "order"
    assert refusal(statement(signed(other)), own) == "order"
    # an answer to another order, shown beside this one
    assert refusal(own, replace(statement(signed(other)), order=PLACED.order)) == "order"
    # the same job and prompt in another court: two orders
    elsewhere = ordered(domain=replace(DOMAIN, chain_id=1))
    assert refusal(own, statement(signed(elsewhere))) == "order"
    assert refusal(own, replace(statement(signed(elsewhere)), order=PLACED.order)) == "order"
    # somebody else's key, a changed statement, a cut signature
    stranger = statement(forged(PLACED, ids=(3, 5, 2), tee=enclave(secret=b"x" * 32)))
    assert refusal(own, stranger) == "signature"
    assert refusal(own, replace(own, receipt=replace(RECEIPT, states_root=bytes(32)))) == "signature"
    assert refusal(own, replace(own, signature=own.signature[:64])) == "signature"
    # whoever mirrors an honest signature has no second answer
    assert refusal(own, replace(own, signature=own.signature[:64] + bytes([55 - own.signature[64]]))) == "signature"


def test_conviction_takes_two_addresses() -> None:
    with pytest.raises(ValueError, match="zip"):
        Equivocation(statement(FILE), statement(FILE)).check((FILE.keys.address,))  # type: ignore[arg-type]
