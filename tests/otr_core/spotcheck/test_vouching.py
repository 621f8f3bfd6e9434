"""Statements of commitments: whose word is taken, and who can be shown to have said two things."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import AnswerProofError, InputError, OtrError, ParameterError, ReceiptError
from otr_core.poea.order import NAME, VERSION, Domain, keccak256
from otr_core.poea.receipt import GROUP_ORDER
from otr_core.spotcheck.proof.committed import REACH, ModelCommitment
from otr_core.spotcheck.proof.vouching import (
    CommitmentStatement,
    SignedStatement,
    VouchPolicy,
    check_contradiction,
    read_contradiction,
)

KEYS = tuple(bytes([at]) * 32 for at in (1, 2, 3))
ADDRESSES = tuple(keccak256(PrivateKey(key).public_key.format(compressed=False)[1:])[12:] for key in KEYS)
LANE, DATE = "portable-1", 1_766_448_000
DOMAIN = Domain(31337, b"\x05" * 20)
COMMITTED = ModelCommitment(b"\x07" * 32, b"\x08" * 32, (30, 30), dict.fromkeys(REACH, 40))
STATED = CommitmentStatement(DOMAIN, COMMITTED.model_id, COMMITTED.digest, LANE, DATE)


def signed(key: int = 0, **changes) -> SignedStatement:
    return SignedStatement.by(KEYS[key], replace(STATED, **changes))


def vouched(*statements: SignedStatement, keys=ADDRESSES[:2], least=1, **other) -> tuple[bytes, ...]:
    given = {"lane": LANE, "domain": DOMAIN, "as_of": DATE} | other
    own, lane, domain, as_of = COMMITTED, given["lane"], given["domain"], given["as_of"]
    policy = VouchPolicy(keys, least, frozenset(other.get("left_out", ())))
    return policy.check(own, lane, domain, statements, as_of)


def refused(*statements: SignedStatement, **other) -> str:
    with pytest.raises(AnswerProofError) as caught:
        vouched(*statements, **other)
    return caught.value.check


def test_a_key_of_the_policy_is_taken_at_its_word():
    assert vouched(signed()) == (ADDRESSES[0],)
    assert vouched(signed(0), signed(1), least=2) == tuple(sorted(ADDRESSES[:2]))
    assert vouched(signed(0), signed(2)) == (ADDRESSES[0],)  # who is not asked counts for nothing


def test_enough_different_keys_must_have_signed():
    assert refused() == "vouched keys"
    assert refused(signed(2)) == "vouched keys"
    assert refused(signed(0), signed(0), least=2) == "vouched keys"
    assert refused(signed(0), signed(0, date=DATE - 1), least=2) == "vouched keys"  # one key, twice


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"model_id": bytes(32)}, "model"),
        ({"lane": "h100-bf16"}, "lane"),
        ({"domain": replace(DOMAIN, chain_id=1)}, "domain"),
        ({"domain": replace(DOMAIN, court=bytes(20))}, "domain"),
        ({"commitment": bytes(32)}, "commitment"),
        ({"date": DATE + 1}, "date"),
    ],
)
def test_what_a_key_says_of_something_else_is_refused(changes, check):
    assert refused(signed(**changes)) == f"vouched {check}"
    assert refused(signed(1), signed(0, **changes)) == f"vouched {check}"  # even beside another's good word
    assert vouched(signed(0), signed(2, **changes)) == (ADDRESSES[0],)


def test_what_a_signer_writes_stays_on_one_line_and_moves_no_terminal():
    with pytest.raises(AnswerProofError) as caught:
        vouched(signed(lane="x\naccepted: all\x1b[2J\u202e"))
    assert r"x\naccepted: all\x1b[2J\u202e" in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_verifiers_own_lane_court_and_clock_decide():
    assert refused(signed(), lane="h100-bf16") == "vouched lane"
    assert refused(signed(), domain=Domain()) == "vouched domain"
    assert refused(signed(), as_of=DATE - 1) == "vouched date"


def test_a_key_that_has_said_two_things_is_not_taken_at_its_word():
    other = signed(commitment=bytes(32))
    assert refused(signed(), other) == "vouched contradiction"
    assert refused(other, signed()) == "vouched contradiction"
    # of two models it may have said two things: what is wrong then is the model
    assert refused(signed(), signed(commitment=bytes(32), model_id=bytes(32))) == "vouched model"
    assert check_contradiction(signed(), other) == ADDRESSES[0]
    assert check_contradiction(other, signed(date=DATE + 5)) == ADDRESSES[0]


@pytest.mark.parametrize(
    ("second", "check"),
    [
        (signed(1, commitment=bytes(32)), "signature"),
        (signed(), "statement"),
        (signed(date=DATE + 1), "statement"),
        (signed(commitment=bytes(32), model_id=bytes(32)), "statement"),
        (signed(commitment=bytes(32), lane="h100-bf16"), "statement"),
        (signed(commitment=bytes(32), domain=Domain()), "statement"),
    ],
)
def test_what_is_no_contradiction_convicts_nobody(second, check):
    with pytest.raises(ReceiptError) as caught:
        check_contradiction(signed(), second)
    assert caught.value.check == check


def test_a_key_that_is_left_out_counts_for_nothing_and_against_nothing():
    out = ADDRESSES[:1]
    assert refused(signed(0), left_out=out) == "vouched keys"
    assert refused(signed(0), signed(1), least=2, left_out=out) == "vouched keys"  # no fewer are asked
    for other in (signed(0, commitment=bytes(32)), signed(0, lane="h100-bf16"), signed(0, date=DATE + 1)):
        assert vouched(signed(0), other, signed(1), left_out=out) == (ADDRESSES[1],)
    assert vouched(signed(1), left_out=ADDRESSES[2:]) == (ADDRESSES[1],)
    with pytest.raises(
        AnswerProofError, match=r"0 of 2 keys, expected at least 1"
    ):  # of others, none is told as left out
        vouched(left_out=ADDRESSES[2:])
    with pytest.raises(AnswerProofError, match=r"0 of 2 keys \(1 left out\), expected"):
        vouched(left_out=[ADDRESSES[0], ADDRESSES[2]])


def test_evidence_is_a_file_that_is_checked_and_not_believed(tmp_path):
    path, own, other = tmp_path / "evidence", signed(), signed(commitment=bytes(32))
    for both in ((own, other), (other, own)):
        path.write_bytes(both[0].dump() + both[1].dump())
        assert {each.signer for each in read_contradiction(path)} == {ADDRESSES[0]}
    raw = own.dump() + other.dump()
    for bad, kind in (
        (own.dump() + own.dump(), ReceiptError),
        (own.dump() + signed(1, commitment=bytes(32)).dump(), ReceiptError),
        (own.dump() + replace(other, signature=own.signature).dump(), ReceiptError),  # nobody's word, or another's
        (own.dump() + signed(commitment=bytes(32), domain=Domain()).dump(), ReceiptError),
        (raw[:-1], InputError),
        (raw + b"\n", InputError),
        (raw + own.dump(), InputError),
        (own.dump(), InputError),
        (b"", InputError),
        (raw + b" " * 2**17, InputError),
    ):
        path.write_bytes(bad)
        with pytest.raises(kind) as caught:
            read_contradiction(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "least"),
    [((), 1), ((), 0), (ADDRESSES[:1] * 2, 1), ((b"short",), 1), (ADDRESSES[:2], 0), (ADDRESSES[:2], 3),
     (ADDRESSES[:2], True)],
)  # fmt: skip
def test_an_empty_policy_or_one_that_cannot_be_met_is_none(keys, least):
    with pytest.raises(ParameterError):
        VouchPolicy(keys, least)


def test_what_is_signed_is_typed_data_that_a_wallet_signs():
    """A second opinion on hash and signature by another library."""
    document = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "ModelCommitment": [
                {"name": "modelId", "type": "bytes32"},
                {"name": "commitment", "type": "bytes32"},
                {"name": "lane", "type": "string"},
                {"name": "date", "type": "uint64"},
            ],
        },
        "primaryType": "ModelCommitment",
        "domain": {"name": NAME, "version": VERSION, "chainId": 31337, "verifyingContract": "0x" + "05" * 20},
        "message": {"modelId": STATED.model_id, "commitment": STATED.commitment, "lane": LANE, "date": DATE},
    }
    theirs = Account.sign_message(encode_typed_data(full_message=document), KEYS[0])
    assert signed().signature == bytes(theirs.signature)
    assert signed().signer.hex() == Account.from_key(KEYS[0]).address[2:].lower()


def test_a_twin_of_a_signature_is_none():
    own = signed()
    s = GROUP_ORDER - int.from_bytes(own.signature[32:64], "big")
    twin = own.signature[:32] + s.to_bytes(32, "big") + bytes([55 - own.signature[64]])
    with pytest.raises(ReceiptError) as caught:
        vouched(replace(own, signature=twin))
    assert caught.value.check == "signature"


def test_a_statement_travels_as_a_file_of_one_form(tmp_path):
    own = signed()
    assert SignedStatement.load(own.dump()) == own
    document = json.loads(own.dump())

    def told(**changes) -> bytes:
        return json.dumps({**document, **changes}, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    assert told() == own.dump()
    stated = document["statement"]
    for bad in (
        b"",
        own.dump()[:-1],
        own.dump() + b"\n",
        told(format="otr-commitment-statement/2"),
        told(more=1),
        told(signature="00" * 64),
        told(signature=document["signature"].upper()),
        told(statement=[]),
        told(statement={**stated, "more": 1}),
        told(statement={**stated, "date": 2**40}),
        told(statement={**stated, "date": -1}),
        told(statement={**stated, "date": True}),
        told(statement={**stated, "lane": 3}),
        told(statement={**stated, "commitment": "00"}),
        told(statement={**stated, "domain": {"chain_id": 1}}),
    ):
        with pytest.raises(InputError):
            SignedStatement.load(bad)
    path = tmp_path / "statement"
    path.write_bytes(own.dump() + b" " * 2**16)
    with pytest.raises(InputError, match="of at most 65536 bytes"):
        SignedStatement.read(path)
    path.write_bytes(own.dump()[:-1])
    with pytest.raises(InputError) as caught:
        SignedStatement.read(path)
    assert str(caught.value).startswith(f"{path}: ")


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_file_never_vouches(place, bit):
    raw = bytearray(signed().dump())
    raw[place % len(raw)] ^= 1 << bit
    with pytest.raises(OtrError):
        vouched(SignedStatement.load(bytes(raw)))
