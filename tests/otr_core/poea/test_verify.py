"""Each check of ``verify_receipt`` and ``check_answer`` has rejecting twins: the frauds by name, as
signed by an operator who holds the attested key and chooses everything himself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.errors import InputError, ModelError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import CHECKS, CONTENT_CHECKS, Message, OnceStore, check_answer, load_receipt_file, verify_receipt
from otr_core.poea.document import ReceiptFile
from otr_core.poea.message import Response
from otr_core.poea.receipt import FINISHES
from otr_core.poea.trace import token_leaves
from otr_core.poea.verify import FRESHNESS
from otr_node.serve import serve, sign_answer, trace_seed
from tests.helpers.receipts import (
    ALLOW,
    ANSWER,
    CONFIGURATION,
    DOMAIN,
    MANIFEST,
    MODEL,
    NOW,
    PROMPT,
    answer,
    enclave,
    forged,
    ordered,
    reply,
    resigned,
    signed,
)

PLAIN, SEALED = ordered(), ordered(sealed=True)
FILE = signed(PLAIN)
LONG = (*range(8, 8 + 39), 2)  # 40 tokens
BOTH = pytest.mark.parametrize("placed", [PLAIN, SEALED], ids=["plain", "sealed"])


def check_of(file: ReceiptFile, placed: Any = PLAIN, **options: Any) -> str:
    """The check that rejects an answer to its client's order."""
    with pytest.raises(ReceiptError) as caught:
        check_answer(file, placed, **({"policy": ALLOW, "as_of": NOW, "nonces": None} | options))
    assert caught.value.check in {**CHECKS, **CONTENT_CHECKS, **FRESHNESS}
    return caught.value.check


@BOTH
def test_an_honest_receipt_is_accepted(placed: Any) -> None:
    file = signed(placed)
    result = verify_receipt(file, policy=ALLOW, as_of=NOW, order=placed.order)
    assert (result.simulated, result.signer, result.order_from) == (True, enclave().keys.address, "client")
    assert result.content is (placed is PLAIN)  # what is sealed, only the client can read


# Frauds that a signed receipt passed before: what was wrong with it, and the check that now says so.
FRAUDS: dict[str, tuple[str, Callable[[Any], ReceiptFile]]] = {
    "40 tokens for 16 ordered": ("length", lambda o: forged(o, ids=LONG)),
    "17 tokens for 16 ordered": ("length", lambda o: forged(o, ids=(*range(8, 24), 2))),
    "'length' after 2 of 16": ("finish", lambda o: forged(o, ids=(3, 4))),
    "'length' after 16 that end with a stop token": (
        "stop",
        lambda o: forged(o, ids=(*range(8, 23), 2), statement={"finish": "length"}),
    ),
    "'stop' without a stop token": ("stop", lambda o: forged(o, ids=(3, 4), statement={"finish": "stop"})),
    "a stop token in the middle": ("stop", lambda o: forged(o, ids=(3, 7, 2))),
    "more than fits the model's context": (
        "length",
        lambda o: forged(o, prompt=(*PROMPT, *[1] * 60), statement={"prompt_tokens": 63}),
    ),
    "a trace of one layer": ("trace-shape", lambda o: forged(o, statement={"layers": 1})),
    "a trace of 1 x 1 bytes": (
        "trace-shape",
        lambda o: forged(o, statement={"layers": 1, "output_bytes": 1, "kv_bytes": 1}),
    ),
    "key rows of another width": ("trace-shape", lambda o: forged(o, statement={"kv_bytes": 64})),
    "rows in another number format": ("trace-shape", lambda o: forged(o, statement={"output_bytes": 32})),
    "the configuration of the other lane": (
        "lane",
        lambda o: forged(o, configuration={**CONFIGURATION, "lane": "portable-1"}),
    ),
    "a configuration without a lane": ("lane", lambda o: forged(o, configuration={"threads": 1})),
    "the other lane's receipt": ("lane", lambda o: forged(o, statement={"lane": "portable-1"})),
    "the other lane in receipt and configuration": (
        "lane",
        lambda o: forged(o, statement={"lane": "portable-1"}, configuration={**CONFIGURATION, "lane": "portable-1"}),
    ),
    "another prompt answered": ("prompt", lambda o: forged(o, prompt=(5, 9, 12))),
    "a word of the prompt left out": ("prompt", lambda o: forged(o, prompt=(5, 11))),
    "a word more in the prompt": ("prompt", lambda o: forged(o, prompt=(*PROMPT, 12))),
    "the prompt's last word counted as the answer's first": (
        "prompt",
        lambda o: forged(o, prompt=PROMPT[:2], ids=(PROMPT[2], *ANSWER)),
    ),
    "the prompt under other salts": ("prompt", lambda o: forged(o, seeds=(b"p" * 32, b"t" * 32))),
    "an empty answer, said in one token": ("response", lambda o: forged(o, response=empty(o))),
    "fewer token ids than the receipt says": ("answer-tokens", lambda o: forged(o, response=said(o, (4, 2)))),
    "more token ids than the receipt says": ("answer-tokens", lambda o: forged(o, response=said(o, (3, 3, 4, 2)))),
    "other token ids than were committed": ("tokens-root", lambda o: forged(o, response=said(o, (3, 5, 2)))),
    "a token outside the vocabulary": ("answer-tokens", lambda o: forged(o, ids=(3, MODEL.vocab, 2))),
    "another seed than was committed": ("trace-seed", lambda o: forged(o, response=Response(ANSWER, b"t" * 32))),
    "a seed that was committed, and not used": (
        "tokens-root",
        lambda o: forged(o, seeds=(o.said.prompt_seed, b"t" * 32), tree=leaves(o, trace_seed(enclave(), o.order))),
    ),
    "chosen tokens under the prompt's salts": (
        "tokens-root",
        lambda o: forged(o, tree=leaves(o, o.said.prompt_seed)),
    ),
    "an answer sealed to a plain query, or the other way round": ("response-digest", lambda o: other_way(o)),
    "an answer to an order of another number": ("order", lambda o: forged(o, order=ordered(number=2).order)),
    "an answer whose receipt names another order": ("order", lambda o: forged(o, statement={"order_id": b"x" * 32})),
    "signed for another court": ("signature", lambda o: elsewhere(o)),
    "signed by another key of the operator": ("signature", lambda o: resigned(forged(o), enclave(secret=b"t" * 32))),
    "keys of another enclave": ("keys-bound", lambda o: forged(o, tee=enclave(secret=b"t" * 32), evidence=EVIDENCE)),
}
EVIDENCE = enclave().evidence()


def said(placed: Any, ids: tuple[int, ...]) -> Response:
    return Response(ids, trace_seed(enclave(), placed.order))


def empty(placed: Any) -> Any:
    text = b'{"token_ids":[],"trace_seed":"' + b"00" * 32 + b'"}'
    padded = (len(text).to_bytes(4, "big") + text).ljust(256, b"\0")
    plain = Message("response", plain={"token_ids": [], "trace_seed": "00" * 32})
    return plain if placed.secret is None else reply(placed, padded)


def leaves(placed: Any, seed: bytes) -> list[bytes]:
    return token_leaves(PROMPT, placed.said.prompt_seed, ANSWER, seed)


def other_way(placed: Any) -> ReceiptFile:
    message = Message("response", sealed=b"s" * 300) if placed.secret is None else Message("response", plain={})
    return forged(placed, response=message)


def elsewhere(placed: Any) -> ReceiptFile:
    """The receipt signed for another court, so that no slash of this one reaches the key."""
    other = replace(placed.order, domain=replace(DOMAIN, court=b"\x01" * 20))
    return replace(forged(placed), signature=resigned(replace(forged(placed), order=other)).signature)


@BOTH
@pytest.mark.parametrize("fraud", FRAUDS)
def test_a_signed_fraud_is_rejected_by_name(fraud: str, placed: Any) -> None:
    check, make = FRAUDS[fraud]
    assert check_of(make(placed), placed) == check


@pytest.mark.parametrize("fraud", [name for name, (check, _) in FRAUDS.items() if check in CONTENT_CHECKS])
def test_what_is_in_the_open_is_checked_for_whoever_reads_it(fraud: str) -> None:
    check, make = FRAUDS[fraud]
    for options in ({"order": PLAIN.order}, {"order_from": "file"}):
        with pytest.raises(ReceiptError) as caught:
            verify_receipt(make(PLAIN), policy=ALLOW, as_of=NOW, **options)  # type: ignore[arg-type]
        assert caught.value.check == check


def test_every_check_of_the_statement_has_a_fraud() -> None:
    """The others are about evidence and digests, and stand in the tests below."""
    own = {check for check, _ in FRAUDS.values()}
    below = {"appraisal", "gpu-nonce-bound", "measured-model", "query-digest", "configuration-digest", "prompt-tokens"}
    assert own | below == {*CHECKS, *CONTENT_CHECKS}


@BOTH
@pytest.mark.parametrize("finish", FINISHES)
def test_answers_of_every_length_that_was_ordered_are_accepted(placed: Any, finish: str) -> None:
    for count in range(1, 17) if finish == "stop" else (16,):
        ids = (*range(8, 8 + count - 1), 2 if finish == "stop" else 50)
        checked = check_answer(forged(placed, ids=ids), placed, policy=ALLOW, as_of=NOW, nonces=None)
        assert (checked.token_ids, checked.finish) == (ids, finish)


def test_a_prompt_outside_the_vocabulary_is_named() -> None:
    placed = ordered((5, MODEL.vocab, 11))
    assert check_of(forged(placed), placed) == "answer-tokens"


@pytest.mark.parametrize("sealed", [False, True])
def test_a_prompt_of_two_tokens_is_not_counted_as_one(sealed: bool) -> None:
    """The proof that it begins the tree is the same as of one leaf in two: only the count differs."""
    placed = ordered((5, 9), sealed=sealed)
    lie = forged(placed, ids=(2,), statement={"prompt_tokens": 1})
    assert check_of(lie, placed) == "prompt"
    check_answer(forged(placed, ids=(2,)), placed, policy=ALLOW, as_of=NOW, nonces=None)
    # an order that says so itself is not one of this query
    placed = replace(placed, order=replace(placed.order, prompt_tokens=1))
    assert check_of(forged(placed, ids=(2,), statement={"prompt_tokens": 1}), placed) == "prompt-tokens"


ORDERS: dict[str, dict[str, Any]] = {
    "job id": {"job_id": b"x" * 32},
    "nonce": {"nonce": b"x" * 32},
    "max_tokens": {"decoding": Decoding(15, 5, 700)},
    "seed": {"decoding": Decoding(16, 6, 700)},
    "temperature": {"decoding": Decoding(16, 5, 0)},
    "prompt root": {"prompt_root": b"x" * 32},
    "prompt count": {"prompt_tokens": 2},
    "query digest": {"query_digest": b"x" * 32},
    "chain": {"domain": replace(DOMAIN, chain_id=1)},
    "court": {"domain": replace(DOMAIN, court=b"x" * 20)},
}


@BOTH
@pytest.mark.parametrize("what", ORDERS)
def test_another_order_in_the_file_is_rejected_whatever_the_receipt_says(placed: Any, what: str) -> None:
    other = replace(placed.order, **ORDERS[what])
    assert check_of(forged(placed, order=other), placed) == "order"  # answered, signed and shown
    assert check_of(replace(signed(placed), order=other), placed) == "order"  # shown alone
    # shown as ordered, and answered otherwise
    assert check_of(replace(forged(placed, order=other), order=placed.order), placed) == "order"


def test_another_model_is_not_the_one_ordered() -> None:
    cheap = replace(MANIFEST, weights_root="d5" * 32)
    tee = enclave(model_id=cheap.model_id)
    assert tee.keys == enclave().keys
    for placed in (PLAIN, SEALED):
        assert check_of(forged(placed, tee=tee, model=cheap), placed) == "measured-model"
        assert check_of(forged(placed, tee=tee), placed) == "measured-model"
        assert check_of(forged(placed, model=cheap), placed) == "measured-model"
        other = replace(placed.order, model_id=cheap.model_id)
        assert check_of(forged(placed, tee=tee, model=cheap, order=other), placed) == "measured-model"
    # ordered by a client who wants another model than the enclave measured
    assert check_of(FILE, replace(PLAIN, order=replace(PLAIN.order, model_id=cheap.model_id))) == "measured-model"


def test_no_order_is_taken_from_the_file_unless_that_is_said() -> None:
    common: dict[str, Any] = {"policy": ALLOW, "as_of": NOW}
    for options in (
        {},
        {"order_from": "client"},
        {"order": PLAIN.order, "order_from": "file"},
        {"order_from": "File"},
        {"order_from": ""},
        {"order": PLAIN.order, "order_from": None},
    ):
        with pytest.raises(InputError, match="order: found"):
            verify_receipt(FILE, **common, **options)
    taken = verify_receipt(FILE, order_from="file", **common)
    assert (taken.order_from, taken.content) == ("file", True)
    # an order that nobody gave is believed then, and the result says that it is the file's
    other = ordered((5, 9, 12), 7)
    assert verify_receipt(signed(other), order_from="file", **common).order_from == "file"
    assert check_of(signed(other)) == "order"


def test_digests_over_the_bytes() -> None:
    for placed in (PLAIN, SEALED):
        file, other = signed(placed), ordered((5, 9, 12), 2, sealed=placed is SEALED)
        assert check_of(replace(file, query=other.query), placed) == "query-digest"
        assert check_of(replace(file, response=signed(other).response), placed) == "response-digest"
    cut = Message("response", sealed=(signed(SEALED).response.sealed or b"")[:-1])
    assert check_of(replace(signed(SEALED), response=cut), SEALED) == "response-digest"
    assert check_of(replace(FILE, configuration={**CONFIGURATION, "threads": 2})) == "configuration-digest"


@BOTH
def test_a_client_who_keeps_other_words_than_it_ordered_is_told(placed: Any) -> None:
    for other in (replace(placed.said, prompt_ids=(5, 9)), replace(placed.said, prompt_ids=(5, 9, 12))):
        assert check_of(signed(placed), replace(placed, said=other)) in ("prompt-tokens",)
    assert (
        check_of(signed(placed), replace(placed, said=replace(placed.said, prompt_seed=bytes(32)))) == "prompt-tokens"
    )


def test_a_plain_query_that_is_none_is_refused() -> None:
    for document in ({}, {"prompt_ids": [5]}, {"prompt_ids": [], "prompt_seed": "00" * 32}, {"prompt": "Why?"}):
        query = Message("query", plain=document)
        order = replace(PLAIN.order, query_digest=query.digest)
        file = forged(PLAIN, order=order, query=query)
        with pytest.raises(ReceiptError) as caught:
            verify_receipt(file, policy=ALLOW, as_of=NOW, order=order)
        assert caught.value.check == "response"
        assert "query" in str(caught.value)


def test_a_nonce_is_accepted_once() -> None:
    nonces = OnceStore()
    options: dict[str, Any] = {"policy": ALLOW, "as_of": NOW, "order": PLAIN.order, "nonces": nonces}
    verify_receipt(FILE, **options)
    with pytest.raises(ReceiptError) as caught:
        verify_receipt(FILE, **options)
    assert caught.value.check == "freshness"
    assert check_of(FILE, nonces=nonces) == "freshness"
    # another answer under the same order, and another order under the same nonce, are as late
    assert check_of(forged(PLAIN, ids=(3, 2)), nonces=nonces) == "freshness"
    again = ordered(job_id=b"x" * 32)
    assert check_of(signed(again), again, nonces=nonces) == "freshness"
    other = ordered(number=2)
    check_answer(signed(other), other, policy=ALLOW, as_of=NOW, nonces=nonces)


def test_signature() -> None:
    assert check_of(replace(FILE, signature=bytes(65))) == "signature"
    assert check_of(replace(FILE, signature=signed(ordered(number=2)).signature)) == "signature"
    assert check_of(replace(FILE, receipt=replace(FILE.receipt, states_root=bytes(32)))) == "signature"


def test_serving_refuses_what_was_not_ordered_and_a_second_time() -> None:
    tee, served = enclave(), OnceStore()
    model: Any = SimpleNamespace(manifest=MANIFEST, architecture=MODEL)
    order = SEALED.order
    for wrong in (replace(order, model_id=b"d" * 32), replace(ordered().order, model_id=b"d" * 32)):
        with pytest.raises(ModelError, match="model: found"):
            serve(tee, model, wrong, SEALED.query, served=served)
    with pytest.raises(ModelError, match="model: found"):
        serve(enclave(model_id=b"d" * 32), model, replace(order, model_id=b"d" * 32), SEALED.query, served=served)
    with pytest.raises(InputError, match="query: found digest"):
        serve(tee, model, replace(order, query_digest=bytes(32)), SEALED.query, served=served)
    assert not served.holds(order.id)
    served.claim(order.id)
    with pytest.raises(ReceiptError) as caught:
        serve(tee, model, order, SEALED.query, served=served)
    assert caught.value.check == "served"


def test_an_answer_without_trace_is_not_signed() -> None:
    model: Any = SimpleNamespace(manifest=MANIFEST)
    made = replace(answer(PLAIN.order, PLAIN.said), trace=None)
    with pytest.raises(InputError, match="trace"):
        sign_answer(enclave(), model, PLAIN.order, PLAIN.query, PLAIN.said, made)


def test_importing_poea_loads_no_heavy_library() -> None:
    code = (
        "import sys, otr_core.poea; "
        "heavy = {'torch', 'transformers', 'eth_account', 'eth_keys', 'tokenizers'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


RAW = {placed.secret is None: signed(placed).dump() for placed in (PLAIN, SEALED)}


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.data())
def test_any_altered_byte_is_unreadable_or_named(plain: bool, data: st.DataObject) -> None:
    """A file with one byte changed, cut, doubled or left out ends in a named error: none is free."""
    raw = RAW[plain]
    at, byte = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
    altered = data.draw(
        st.sampled_from(
            [raw[:at] + bytes([byte]) + raw[at + 1 :], raw[:at] + raw[at + 1 :], raw[:at], raw[: at + 1] + raw[at:]]
        )
    )
    if altered == raw:
        return
    with pytest.raises((InputError, ReceiptError)):
        check_answer(load_receipt_file(altered), PLAIN if plain else SEALED, policy=ALLOW, as_of=NOW, nonces=None)
