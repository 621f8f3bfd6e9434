"""What a client does: it orders, keeps its order in a file, and opens what is meant for it alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from otr_core.encoding import canonical_json, tagged_hash
from otr_core.errors import InputError, ReceiptError, SealError
from otr_core.lane.sampling import Decoding
from otr_core.poea import OnceStore, check_answer, load_order, place_order
from otr_core.poea.client import open_response, query_info, response_info
from otr_core.poea.message import Message, Query, Response, pad
from otr_core.poea.sealing import derive_secret, hpke_public, open_sealed, seal
from otr_core.poea.trace import prompt_root
from otr_node.serve import open_query, trace_seed
from tests.helpers.receipts import ALLOW, ANSWER, CLIENT, DOMAIN, NOW, PROMPT, enclave, forged, ordered, reply, signed

PLAIN, SEALED = ordered(), ordered(sealed=True)
BOTH = pytest.mark.parametrize("placed", [PLAIN, SEALED], ids=["plain", "sealed"])


def failing(placed: Any, file: Any = None, **options: Any) -> str:
    with pytest.raises(ReceiptError) as caught:
        check_answer(file or signed(placed), placed, **({"policy": ALLOW, "as_of": NOW, "nonces": None} | options))
    return caught.value.check


@BOTH
def test_a_client_gets_its_answer_once(placed: Any) -> None:
    nonces, text = OnceStore(), {3: "Be", 4: "cause", 2: "."}
    options: Any = {"policy": ALLOW, "as_of": NOW, "nonces": nonces}
    checked = check_answer(signed(placed), placed, decode=lambda ids: "".join(text[each] for each in ids), **options)
    assert (checked.token_ids, checked.finish, checked.text) == (ANSWER, "stop", "Because.")
    shown = checked.verification
    assert (shown.order_from, shown.content, shown.simulated) == ("client", True, True)
    assert shown.signer == enclave().keys.address
    assert nonces.holds(placed.order.nonce)
    assert failing(placed, nonces=nonces) == "freshness"
    # without a store nothing is said about whether the answer is new, and no decoder makes no text
    assert check_answer(signed(placed), placed, policy=ALLOW, as_of=NOW, nonces=None).text is None


@BOTH
def test_the_order_is_what_the_client_said(placed: Any) -> None:
    order = placed.order
    assert order.prompt_root == prompt_root(PROMPT, placed.said.prompt_seed)
    assert (order.query_digest, order.domain, order.decoding) == (placed.query.digest, DOMAIN, Decoding(16, 5, 700))
    assert open_query(enclave(), order, placed.query) == placed.said


def test_no_two_orders_share_a_seed_or_a_key() -> None:
    def secrets(**changes: Any) -> set[bytes]:
        made = ordered(sealed=True, **changes)
        assert made.secret is not None
        assert made.query.sealed is not None
        return {made.said.prompt_seed, made.secret, made.query.sealed[:32]}

    assert len(secrets() | secrets(nonce=b"x" * 32) | secrets(client_secret=b"d" * 32)) == 9


def test_no_ephemeral_key_seals_two_messages() -> None:
    """Not even when a client uses a nonce twice: the order and the plaintext are in the key."""
    made = [
        ordered(sealed=True),
        ordered((5, 9, 12), sealed=True),
        ordered(sealed=True, decoding=Decoding(15, 5, 700)),
        ordered(sealed=True, job_id=b"j" * 32),
        ordered(sealed=True, domain=replace(DOMAIN, chain_id=1)),
        ordered(sealed=True, client_secret=b"d" * 32),
    ]
    encapsulated = {placed.query.sealed[:32] for placed in made if placed.query.sealed}
    assert len(encapsulated) == len(made)
    assert ordered(sealed=True).query == made[0].query  # and all of it follows from the secret


def test_the_plaintext_is_in_the_ephemeral_key_even_where_the_order_is_the_same(monkeypatch: Any) -> None:
    """Two prompts of one root cannot be made, so that the root is held still by force here."""
    monkeypatch.setattr("otr_core.poea.client.prompt_root", lambda ids, seed: b"r" * 32)
    first, second = ordered((5, 9, 11), sealed=True), ordered((5, 9, 12), sealed=True)
    assert first.order.sealed_part == second.order.sealed_part
    assert first.query.sealed is not None
    assert second.query.sealed is not None
    assert first.query.sealed[:32] != second.query.sealed[:32]


def test_the_clients_secret_is_in_the_ephemeral_key() -> None:
    """It is not to be computed from the order and the words, which the enclave knows as well."""
    known = SEALED.order.sealed_part + pad(SEALED.said, PROMPT)
    made = [hpke_public(derive_secret(tagged_hash("client-ephemeral", own + known))) for own in (CLIENT, b"")]
    assert SEALED.query.sealed is not None
    assert [each == SEALED.query.sealed[:32] for each in made] == [True, False]


def test_two_answers_under_one_order_are_sealed_under_two_keys() -> None:
    """An enclave that is asked again, and answers otherwise, must not seal twice under one key."""
    sealed = {signed(SEALED, ids=ids).response.sealed for ids in (ANSWER, (3, 5, 2), (3, 2))}
    assert len({(message or b"")[:32] for message in sealed}) == 3


SWAPS: dict[str, Any] = {
    "job_id": b"x" * 32,
    "nonce": b"x" * 32,
    "model_id": b"x" * 32,
    "prompt_root": b"x" * 32,
    "prompt_tokens": 4,
    "domain": replace(DOMAIN, court=b"x" * 20),
    **{f"max_tokens {n}": Decoding(n, 5, 700) for n in range(1, 11)},
    "seed": Decoding(16, 6, 700),
    "temperature": Decoding(16, 5, 0),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_a_sealed_query_does_not_open_under_another_order(swap: str) -> None:
    """An operator who serves one query with max_tokens 1, 2, … would read off each token's length."""
    named = ("job_id", "nonce", "model_id", "prompt_root", "prompt_tokens", "domain")
    name = swap.split()[0] if swap.split()[0] in named else "decoding"
    other = replace(SEALED.order, **{name: SWAPS[swap]})
    assert other.query_digest == SEALED.query.digest
    with pytest.raises(SealError):
        open_query(enclave(), other, SEALED.query)
    assert open_query(enclave(), SEALED.order, SEALED.query) == SEALED.said


def test_a_query_opens_for_its_enclave_only_and_is_the_one_ordered() -> None:
    with pytest.raises(SealError):
        open_query(enclave(secret=b"t" * 32), SEALED.order, SEALED.query)
    with pytest.raises(InputError, match="query: found digest"):
        open_query(enclave(), SEALED.order, ordered((5, 9, 12), sealed=True).query)
    # ids that are not the prompt ordered, sealed by a client that says one thing and orders another
    for said in (replace(SEALED.said, prompt_ids=(5, 9)), replace(SEALED.said, prompt_seed=bytes(32))):
        sealed = seal(
            enclave().keys.hpke, pad(said, said.prompt_ids), info=query_info(SEALED.order), ephemeral=bytes(32)
        )
        query = Message("query", sealed=sealed)
        with pytest.raises(InputError, match=r"query prompt_ids: found (2|root)"):
            open_query(enclave(), replace(SEALED.order, query_digest=query.digest), query)
    for text in (b'{"prompt": "Why?"}', b"[]", b"{}"):
        padded = (len(text).to_bytes(4, "big") + text).ljust(256, b"\0")
        query = Message(
            "query", sealed=seal(enclave().keys.hpke, padded, info=query_info(SEALED.order), ephemeral=bytes(32))
        )
        with pytest.raises(InputError, match="query: found"):
            open_query(enclave(), replace(SEALED.order, query_digest=query.digest), query)


def test_a_sealed_answer_opens_for_its_client_and_order_only() -> None:
    file = signed(SEALED)
    assert open_response(file, SEALED) == Response(ANSWER, trace_seed(enclave(), SEALED.order))
    for other in (
        replace(SEALED, secret=derive_secret(b"d" * 32)),
        replace(SEALED, order=replace(SEALED.order, nonce=b"x" * 32)),
        replace(SEALED, order=replace(SEALED.order, decoding=Decoding(15, 5, 700))),
        replace(SEALED, order=replace(SEALED.order, query_digest=b"x" * 32)),
        replace(SEALED, secret=None),
    ):
        with pytest.raises(ReceiptError) as caught:
            open_response(file, other)
        assert caught.value.check == "response"
    # by the library alone: the order's id is in the seal, and nothing else opens it
    assert SEALED.secret is not None
    assert file.response.sealed is not None
    assert open_sealed(SEALED.secret, file.response.sealed, info=response_info(SEALED.order))
    with pytest.raises(SealError):
        open_sealed(SEALED.secret, file.response.sealed, info=b"otr/2/response")


def test_query_and_response_are_sealed_under_names_of_their_own() -> None:
    assert query_info(SEALED.order) == b"otr/2/query" + SEALED.order.sealed_part
    assert response_info(SEALED.order) == b"otr/2/response" + SEALED.order.id


def test_an_answer_to_another_order_of_the_same_client_is_not_taken() -> None:
    """Sealed to the same key and signed as the answer to this order: it does not open."""
    other = replace(SEALED.order, nonce=b"x" * 32)
    says = Response(ANSWER, trace_seed(enclave(), SEALED.order))
    lie = forged(SEALED, response=reply(SEALED, says, other))
    assert failing(SEALED, lie) == "response"
    check_answer(forged(SEALED, response=reply(SEALED, says)), SEALED, policy=ALLOW, as_of=NOW, nonces=None)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"token_ids":[3,4,2]}',
        b'{"token_ids":[],"trace_seed":"' + b"00" * 32 + b'"}',
        b'{"token_ids":[3,4,2.5],"trace_seed":"' + b"00" * 32 + b'"}',
        b'{"text":"No.","token_ids":[3,4,2],"trace_seed":"' + b"00" * 32 + b'"}',
        b'{"token_ids":[3,4,2],"trace_seed":"' + b"AB" * 32 + b'"}',
        b'{"token_ids":[3,4,2],"token_ids":[3,4,2],"trace_seed":"' + b"00" * 32 + b'"}',
    ],
)
def test_a_sealed_answer_that_is_no_response_is_refused(text: bytes) -> None:
    padded = (len(text).to_bytes(4, "big") + text).ljust(256, b"\0")
    assert failing(SEALED, forged(SEALED, response=reply(SEALED, padded))) == "response"


@pytest.mark.parametrize(
    "other", [(3, 2), (99, 98, 2), (10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 2)]
)
def test_sealed_answers_of_equal_token_counts_have_equal_lengths(other: tuple[int, ...]) -> None:
    """Lengths tell what the receipt says in the open, and nothing of what was written."""
    low = (*range(8, 7 + len(other)), 2)
    sizes = {len(signed(SEALED, ids=ids).response.sealed or b"") for ids in (other, low[: len(other)])}
    assert len(sizes) == 1
    prompts = [ordered(prompt, sealed=True) for prompt in ((0, 1, 2), (97, 98, 99))]
    assert len({len(placed.query.sealed or b"") for placed in prompts}) == 1


@BOTH
def test_order_files_read_back(placed: Any) -> None:
    assert load_order(placed.dump()) == placed
    if placed.secret is None:
        assert load_order(placed.sent) == placed
        assert placed.sent == placed.dump()
    else:
        # what the operator gets has neither the prompt nor the key, and is no client's copy
        assert placed.secret.hex().encode() not in placed.sent
        assert placed.said.prompt_seed.hex().encode() not in placed.sent
        with pytest.raises(InputError, match="order file kept: found null"):
            load_order(placed.sent)


def order_file(placed: Any, **changes: Any) -> bytes:
    return canonical_json({**json.loads(placed.dump()), **changes}) + b"\n"


def test_what_is_no_order_file_is_named() -> None:
    other = json.loads(ordered((5, 9, 12), sealed=True).dump())
    kept = json.loads(SEALED.dump())["kept"]
    for raw, named in (
        (b"", "order file: not readable"),
        (order_file(PLAIN, format="otr-order/0"), "order file: found format 'otr-order/0'"),
        (order_file(PLAIN, more=1), "order file: found"),
        (order_file(PLAIN)[:-1], "order file: found another encoding"),
        (order_file(PLAIN, kept=kept), "order file kept: found something"),
        (order_file(PLAIN, query=other["query"]), "order file query: found digest"),
        (order_file(SEALED, query=other["query"]), "order file query: found digest"),
        (order_file(PLAIN, order=other["order"]), "order file query: found digest"),
        (
            order_file(PLAIN, order=replace(PLAIN.order, prompt_root=bytes(32)).to_json()),
            "order file query: found ids of another prompt",
        ),
        (order_file(PLAIN, order=None), "order: found NoneType"),
        (order_file(PLAIN, query=None), "query: expected"),
        (order_file(SEALED, kept=[]), "order file kept: found list"),
        (order_file(SEALED, kept={**kept, "more": 1}), "order file kept: found"),
        (order_file(SEALED, kept={**kept, "secret": "00"}), "order file secret: found 1 bytes"),
        (order_file(SEALED, kept={**kept, "secret": "AB" * 32}), "order file secret: found 'AB"),
        (order_file(SEALED, kept={**kept, "query": {}}), "query: found"),
    ):
        with pytest.raises(InputError) as caught:
            load_order(raw)
        assert str(caught.value).startswith(named)


def test_a_clients_copy_that_contradicts_itself_is_refused() -> None:
    """A copy edited by somebody would make the client hold answers against another prompt or key."""
    kept = json.loads(SEALED.dump())["kept"]
    other = Query((5, 9, 12), SEALED.said.prompt_seed, SEALED.said.reply_to)
    for changed, named in (
        ({**kept, "query": other.to_json()}, "prompt"),
        ({**kept, "query": replace(SEALED.said, reply_to=hpke_public(b"k" * 32)).to_json()}, "secret"),
        ({**kept, "secret": (b"k" * 32).hex()}, "secret"),
    ):
        with pytest.raises(InputError, match=named):
            load_order(order_file(SEALED, kept=changed))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"job_id": b""}, "order job_id: found 0 bytes"),
        ({"nonce": bytes(31)}, "order nonce: found 31 bytes"),
        ({"model_id": bytes(33)}, "order model_id: found 33 bytes"),
        ({"client_secret": bytes(31)}, "client secret: found 31 bytes"),
        ({"seal_to": bytes(31)}, "HPKE public key"),
        ({"prompt": ()}, "prompt_ids: found list, expected a list of at least one"),
        ({"prompt": (-1,)}, "prompt_ids: found -1 at 0"),
        ({"prompt": (2**32,)}, "prompt_ids: found 4294967296 at 0"),
        ({"prompt": ("a",)}, "prompt_ids: found 'a' at 0"),
    ],
)
def test_an_order_that_cannot_be_placed_is_named(changes: dict[str, Any], named: str) -> None:
    options: dict[str, Any] = {"model_id": bytes(32), "decoding": Decoding(1), "job_id": bytes(32), "nonce": bytes(32)}
    options |= {"prompt": PROMPT, "client_secret": CLIENT} | changes
    with pytest.raises(InputError) as caught:
        place_order(options.pop("prompt"), **options)
    assert str(caught.value).startswith(named)
