from __future__ import annotations

from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_keys import keys
from eth_keys.constants import SECPK1_N
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from otr_core.encoding import canonical_json
from otr_core.errors import InputError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import Job, Message, Receipt
from otr_core.poea.receipt import (
    DOMAIN,
    TYPED_FIELDS,
    AttestedKeys,
    issue_receipt,
    keccak256,
    recover_signer,
    sign_receipt,
)
from tests.helpers.receipts import answer, enclave, signed

FILE = signed()
RECEIPT = FILE.receipt


def signer_or_none(signature: bytes) -> bytes | None:
    try:
        return recover_signer(RECEIPT, signature)
    except ReceiptError:
        return None


def test_eth_account_agrees_on_hash_signature_and_signer() -> None:
    types = {
        "EIP712Domain": [{"name": name, "type": "string"} for name in DOMAIN],
        "Receipt": [{"name": name, "type": kind} for name, kind, _ in TYPED_FIELDS],
    }
    document = {"types": types, "primaryType": "Receipt", "domain": DOMAIN, "message": RECEIPT.typed_values()}
    message = encode_typed_data(full_message=document)
    assert _hash_eip191_message(message) == RECEIPT.signing_hash()
    account = Account.from_key(enclave().signing_key)
    assert bytes.fromhex(account.address[2:]) == FILE.keys.address == recover_signer(RECEIPT, FILE.signature)
    assert Account.sign_message(message, account.key).signature == FILE.signature
    assert Account.recover_message(message, signature=FILE.signature) == account.address


def test_cryptography_agrees_on_the_signature() -> None:
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), FILE.keys.signing)
    r, s = int.from_bytes(FILE.signature[:32]), int.from_bytes(FILE.signature[32:64])
    # only its length matters: the hash is Keccak
    prehashed = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    public.verify(utils.encode_dss_signature(r, s), RECEIPT.signing_hash(), prehashed)


@given(st.binary(max_size=300))
def test_keccak_is_that_of_ethereum(data: bytes) -> None:
    assert keccak256(data) == keccak(data)


def test_malleable_and_odd_signatures_are_refused() -> None:
    r, s, v = FILE.signature[:32], int.from_bytes(FILE.signature[32:64]), FILE.signature[64]
    mirrored = r + (SECPK1_N - s).to_bytes(32, "big") + bytes([55 - v])
    zero = bytes(32)
    for odd in (
        mirrored,
        FILE.signature[:64],
        FILE.signature + b"\0",
        FILE.signature[:64] + bytes([v - 27]),
        FILE.signature[:64] + bytes([v + 2]),
        zero + FILE.signature[32:],
        r + zero + bytes([v]),
        b"\xff" * 32 + FILE.signature[32:],
    ):
        with pytest.raises(ReceiptError) as caught:
            recover_signer(RECEIPT, odd)
        assert caught.value.check == "signature"
    assert signer_or_none(FILE.signature[:64] + bytes([55 - v])) != FILE.keys.address


@given(st.integers(0, 63), st.integers(1, 255))
def test_an_altered_signature_never_gives_the_signer(at: int, flip: int) -> None:
    altered = bytearray(FILE.signature)
    altered[at] ^= flip
    assert signer_or_none(bytes(altered)) != FILE.keys.address


def variants() -> list[Receipt]:
    """RECEIPT with one field changed, every field in turn."""
    result = []
    for field in fields(Receipt):
        value = getattr(RECEIPT, field.name)
        if isinstance(value, bytes):
            result.append(replace(RECEIPT, **{field.name: bytes([value[0] ^ 1]) + value[1:]}))
        else:
            result += [
                replace(RECEIPT, **{field.name: replace(value, **{part.name: getattr(value, part.name) + 1})})
                for part in fields(value)
            ]
    return result


def test_every_field_is_signed_and_in_the_json() -> None:
    others = variants()
    assert len(others) == 8 + 3 + 4
    assert len({receipt.signing_hash() for receipt in [RECEIPT, *others]}) == len(others) + 1
    assert len({canonical_json(receipt.to_json()) for receipt in [RECEIPT, *others]}) == len(others) + 1
    for receipt in others:
        assert Receipt.from_json(receipt.to_json()) == receipt
        assert recover_signer(receipt, FILE.signature) != FILE.keys.address


def test_issue_is_deterministic_and_says_what_was_done() -> None:
    tee = enclave()
    trace = answer().trace
    first = issue_receipt(tee.signing_key, tee.keys, FILE.job, FILE.response, trace, FILE.configuration)
    assert first == issue_receipt(tee.signing_key, tee.keys, FILE.job, FILE.response, trace, FILE.configuration)
    assert (first.receipt, first.signature) == (RECEIPT, FILE.signature)
    assert sign_receipt(keys.PrivateKey(tee.signing_key), RECEIPT).signature == FILE.signature


def test_messages_digest_their_bytes_and_say_whether_sealed() -> None:
    plain = Message("query", plain={"prompt": "Why?"})
    raw = canonical_json(plain.plain)
    digests = {
        plain.digest,
        Message("query", plain={"prompt": "Why!"}).digest,
        Message("query", sealed=raw).digest,
        Message("response", plain={"prompt": "Why?"}).digest,
        Message("response", sealed=raw).digest,
    }
    assert len(digests) == 5
    for message in (plain, Message("query", sealed=raw)):
        assert Message.from_json("query", message.to_json()) == message
    for bad in ({}, {"plain": 1}, {"sealed": "zz"}, {"plain": {}, "sealed": ""}, [], None):
        with pytest.raises(InputError):
            Message.from_json("query", bad)
    for fields_ in ({"role": "q", "sealed": b""}, {"role": "query"}, {"role": "query", "plain": {}, "sealed": b""}):
        with pytest.raises(InputError):
            Message(**fields_)


def test_wrong_lengths_are_refused_when_built() -> None:
    with pytest.raises(InputError, match="nonce"):
        replace(RECEIPT, nonce=bytes(31))
    with pytest.raises(InputError, match="job_id"):
        Job(b"", bytes(32), bytes(32), bytes(32), Decoding(1))
    with pytest.raises(InputError, match="signing key"):
        AttestedKeys(bytes(65), bytes(32))
    with pytest.raises(InputError, match="HPKE key"):
        AttestedKeys(FILE.keys.signing, bytes(31))
    for bad in ({}, [], {"signing": "00"}):
        with pytest.raises(InputError):
            AttestedKeys.from_json(bad)
