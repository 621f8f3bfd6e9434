"""Orders: every field is in the id, the id is that of EIP-712 by an implementation of others, and a
document has one way to be written."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import InputError
from otr_core.lane.sampling import Decoding, draw
from otr_core.poea import Domain, Order, Receipt
from otr_core.poea.order import NAME, VERSION, keccak256, type_hash, typed_words
from otr_core.poea.receipt import FINISHES, recover_signer, sign_receipt
from tests.helpers.receipts import DOMAIN, ordered, signed

ORDER, RECEIPT = ordered().order, signed().receipt
BYTES32, UINT32 = st.binary(min_size=32, max_size=32), st.integers(1, 2**32 - 1)
DOMAINS = st.builds(Domain, st.integers(0, 2**53 - 1), st.binary(min_size=20, max_size=20))
DECODINGS = st.builds(Decoding, st.integers(1, 2**31 - 1), st.integers(0, 2**53 - 1), st.integers(0, 5000))
ORDERS = st.builds(Order, DOMAINS, *[BYTES32] * 4, UINT32, BYTES32, DECODINGS)
RECEIPTS = st.builds(
    Receipt,
    *(BYTES32, UINT32, UINT32, st.sampled_from(FINISHES), BYTES32, BYTES32, BYTES32, BYTES32),
    *(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), UINT32, UINT32, UINT32, BYTES32, BYTES32),
)


def typed_data(name: str, value: Order | Receipt, domain: Domain) -> Any:
    """The value as eth_account takes it, with the domain that a wallet would show."""
    types = {
        "EIP712Domain": [
            {"name": member, "type": kind}
            for member, kind in (
                ("name", "string"),
                ("version", "string"),
                ("chainId", "uint256"),
                ("verifyingContract", "address"),
            )
        ],
        name: [{"name": member, "type": kind} for member, kind, _ in value.members],
    }
    message = {}
    for member, _, path in value.members:
        found: Any = value
        for part in path.split("."):
            found = getattr(found, part)
        message[member] = found
    contract = "0x" + domain.court.hex()
    shown = {"name": NAME, "version": VERSION, "chainId": domain.chain_id, "verifyingContract": contract}
    document = {"types": types, "primaryType": name, "domain": shown, "message": message}
    return encode_typed_data(full_message=document)


@given(ORDERS)
def test_eth_account_agrees_on_the_id_of_any_order(order: Order) -> None:
    assert _hash_eip191_message(typed_data("Order", order, order.domain)) == order.id


@given(ORDERS, RECEIPTS, st.integers(1, 2**255))
def test_eth_account_agrees_on_hash_and_signature_of_any_receipt(order: Order, receipt: Receipt, secret: int) -> None:
    message = typed_data("Receipt", receipt, order.domain)
    assert _hash_eip191_message(message) == receipt.signing_hash(order.domain)
    key = secret.to_bytes(32, "big")
    made, address = sign_receipt(key, order, receipt), bytes.fromhex(Account.from_key(key).address[2:])
    assert bytes(Account.sign_message(message, key).signature) == made.signature
    assert bytes.fromhex(Account.recover_message(message, signature=made.signature)[2:]) == address
    assert recover_signer(order.domain, receipt, made.signature) == address
    elsewhere = replace(order.domain, chain_id=(order.domain.chain_id + 1) % 2**53)
    assert recover_signer(elsewhere, receipt, made.signature) != address


@given(st.binary(max_size=300))
def test_keccak_is_that_of_ethereum(data: bytes) -> None:
    assert keccak256(data) == keccak(data)


def test_the_type_is_the_text_that_a_contract_would_hold() -> None:
    text = (
        "Order(bytes32 jobId,bytes32 nonce,bytes32 modelId,bytes32 promptRoot,uint32 promptTokens,bytes32 queryDigest,"
        "uint32 maxTokens,uint64 seed,uint32 temperatureMilli)"
    )
    assert type_hash("Order", Order.members) == keccak(text.encode())
    text = (
        "Receipt(bytes32 orderId,uint32 promptTokens,uint32 answerTokens,uint8 finish,bytes32 statesRoot,"
        "bytes32 tokensRoot,bytes32 seedHash,bytes32 responseDigest,string lane,uint32 layers,uint32 outputBytes,"
        "uint32 kvBytes,bytes32 configurationDigest,bytes32 keyId)"
    )
    assert type_hash("Receipt", Receipt.members) == keccak(text.encode())
    assert [len(each) for each in typed_words(ORDER)] == [32] * 9


def test_chain_and_court_are_in_every_id() -> None:
    domains = [DOMAIN, replace(DOMAIN, chain_id=1), replace(DOMAIN, court=b"\x01" * 20), Domain()]
    assert len({domain.separator for domain in domains}) == 4
    assert len({replace(ORDER, domain=domain).id for domain in domains}) == 4
    assert len({RECEIPT.signing_hash(domain) for domain in domains}) == 4


def changes(value: Any) -> dict[str, Any]:
    """For each field another value of its form."""
    others: dict[str, Any] = {}
    for own in fields(value):
        found = getattr(value, own.name)
        if isinstance(found, bytes):
            others[own.name] = bytes([found[0] ^ 1]) + found[1:]
        elif isinstance(found, int):
            others[own.name] = found + 1
        elif isinstance(found, str):
            others[own.name] = "length" if found == "stop" else found + "x"
    return others


def test_every_field_of_an_order_is_in_its_id() -> None:
    others = [replace(ORDER, **{name: value}) for name, value in changes(ORDER).items()]
    others += [replace(ORDER, decoding=replace(ORDER.decoding, **{n: v})) for n, v in changes(ORDER.decoding).items()]
    others += [replace(ORDER, domain=replace(ORDER.domain, **{n: v})) for n, v in changes(ORDER.domain).items()]
    assert len(others) == 6 + 3 + 2
    assert len({order.id for order in [ORDER, *others]}) == len(others) + 1
    assert len({order.sealed_part for order in [ORDER, *others]}) == len(others)  # all but the query's digest
    assert replace(ORDER, query_digest=bytes(32)).sealed_part == ORDER.sealed_part


def test_every_field_of_a_receipt_is_signed() -> None:
    others = [replace(RECEIPT, **{name: value}) for name, value in changes(RECEIPT).items()]
    assert len(others) == 14
    assert len({receipt.signing_hash(DOMAIN) for receipt in [RECEIPT, *others]}) == 15


@given(ORDERS, RECEIPTS)
def test_documents_read_back(order: Order, receipt: Receipt) -> None:
    assert Order.from_json(json.loads(json.dumps(order.to_json()))) == order
    assert Receipt.from_json(json.loads(json.dumps(receipt.to_json()))) == receipt


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: replace(ORDER, job_id=bytes(31)), "order job_id: found 31 bytes, expected 32 bytes"),
        (lambda: replace(ORDER, nonce="00" * 32), "order nonce: found str"),
        (lambda: replace(ORDER, model_id=bytearray(32)), "order model_id: found bytearray"),
        (lambda: Domain(2**53), "domain chain_id: found 9007199254740992"),
        (lambda: Domain(-1), "domain chain_id: found -1"),
        (lambda: Domain(True), "domain chain_id: found True"),
        (lambda: Domain(1.0), "domain chain_id: found 1.0"),
        (lambda: Domain(1, bytes(32)), "domain court: found 32 bytes, expected 20 bytes"),
        (lambda: replace(RECEIPT, layers=2**32), "receipt layers: found 4294967296"),
        (lambda: replace(RECEIPT, layers=0), "receipt layers: found 0, expected at least 1"),
        (lambda: replace(RECEIPT, prompt_tokens=0), "receipt prompt_tokens: found 0"),
        (lambda: replace(RECEIPT, answer_tokens=0), "receipt answer_tokens: found 0"),
        (lambda: replace(RECEIPT, output_bytes=0), "receipt output_bytes: found 0"),
        (lambda: replace(RECEIPT, kv_bytes=0), "receipt kv_bytes: found 0"),
        (lambda: replace(RECEIPT, finish="tool"), "receipt finish: found 'tool'"),
        (lambda: replace(RECEIPT, lane=1), "receipt lane: found int, expected a text"),
        (lambda: Order.from_json({**ORDER.to_json(), "decoding": {"max_tokens": 1}}), "order decoding: found"),
        (
            lambda: Order.from_json({**ORDER.to_json(), "decoding": {**ORDER.decoding.to_json(), "seed": -1}}),
            "order decoding: seed: found -1",
        ),
        (lambda: Order.from_json({**ORDER.to_json(), "domain": {"chain_id": 1}}), "domain: found"),
        (lambda: Order.from_json([]), "order: found list"),
    ],
)
def test_what_is_not_of_its_form_is_named(made: Any, named: str) -> None:
    with pytest.raises(InputError) as caught:
        made()
    assert str(caught.value).startswith(named)


def test_no_two_orders_share_their_draws() -> None:
    """Whoever chooses seed 0, as everybody does, gets the numbers of his own order."""
    other = ordered(number=2).order
    assert other.decoding == ORDER.decoding
    own = [draw(ORDER.decoding.seed, step, ORDER.id) for step in range(50)]
    assert not set(own) & {draw(ORDER.decoding.seed, step, other.id) for step in range(50)}
    # nor does another seed or step give the same number, nor leaving the order out
    assert len({*own, *(draw(6, step, ORDER.id) for step in range(50)), *(draw(5, step) for step in range(50))}) == 150
