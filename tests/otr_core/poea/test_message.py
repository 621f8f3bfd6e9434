"""Queries and responses carry token ids and nothing beside them, and hide how long they are written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.encoding import canonical_json
from otr_core.errors import InputError
from otr_core.poea import Message
from otr_core.poea.message import Query, Response, pad, token_ids, unpad

SEED = b"\x5e" * 32
IDS = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=200)


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


@pytest.mark.parametrize(
    "document",
    [{}, {"plain": 1}, {"plain": []}, {"sealed": "zz"}, {"sealed": "AA"}, {"plain": {}, "sealed": ""}, [], None],
)
def test_what_is_no_message_is_named(document: Any) -> None:
    with pytest.raises(InputError, match="query"):
        Message.from_json("query", document)


def test_a_message_is_plain_or_sealed_and_has_a_role() -> None:
    for fields in ({"role": "q", "sealed": b""}, {"role": "query"}, {"role": "query", "plain": {}, "sealed": b""}):
        with pytest.raises(InputError, match=r"found 'q'|either a plain document or sealed bytes"):
            Message(**fields)


def test_a_response_has_no_place_for_a_text_unlike_its_tokens() -> None:
    """Text is what the ordered model's tokenizer makes of the ids: there is none to be changed."""
    says = Response((3, 4, 2), SEED).to_json()
    assert says.keys() == {"token_ids", "trace_seed"}
    for more in ({"text": "No."}, {"finish": "stop"}, {"answer": "No."}):
        with pytest.raises(InputError, match="response: found"):
            Response.from_json({**says, **more})


@pytest.mark.parametrize(
    ("ids", "named"),
    [
        ([], "found list, expected a list of at least one token id"),
        ((1, 2), "found tuple"),
        ("12", "found str"),
        (None, "found NoneType"),
        ([1, -1], "found -1 at 1"),
        ([2**32], "found 4294967296 at 0"),
        ([1.0], "found 1.0 at 0"),
        ([True], "found True at 0"),
        (["1"], "found '1' at 0"),
    ],
)
def test_token_ids_are_integers(ids: Any, named: str) -> None:
    with pytest.raises(InputError, match=f"^what: {named}"):
        token_ids(ids, what="what")
    for read in (
        lambda: Query.from_json({"prompt_ids": ids, "prompt_seed": SEED.hex()}, sealed=False),
        lambda: Response.from_json({"token_ids": ids, "trace_seed": SEED.hex()}),
    ):
        with pytest.raises(InputError, match=r"(prompt|token)_ids: "):
            read()


def test_only_a_sealed_query_says_where_to_reply_to() -> None:
    plain, sealed = Query((1,), SEED), Query((1,), SEED, b"r" * 32)
    assert Query.from_json(plain.to_json(), sealed=False) == plain
    assert Query.from_json(sealed.to_json(), sealed=True) == sealed
    for query, is_sealed in ((plain, True), (sealed, False)):
        with pytest.raises(InputError, match="query: found"):
            Query.from_json(query.to_json(), sealed=is_sealed)
    for name in ("prompt_seed", "reply_to"):
        for bad in ("00" * 31, "AB" * 32, 1, None):
            with pytest.raises(InputError, match=f"query {name}"):
                Query.from_json({**sealed.to_json(), name: bad}, sealed=True)


@given(IDS, st.booleans())
def test_what_is_padded_reads_back_and_its_length_tells_the_number_of_tokens_alone(ids: list[int], ask: bool) -> None:
    def said(ids: list[int]) -> Query | Response:
        return Query(tuple(ids), SEED, b"r" * 32) if ask else Response(tuple(ids), SEED)

    padded = pad(said(ids), ids)
    assert unpad(padded, what="message") == said(ids).to_json()
    for others in ([0] * len(ids), [2**32 - 1] * len(ids)):
        assert len(pad(said(others), others)) == len(padded)
    assert len(padded) % 256 == 0


@pytest.mark.parametrize(
    "padded",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\x03{}",  # says more than there is
        b"\xff\xff\xff\xff{}",
        b"\0\0\0\x02{}\x01",  # something behind
        b"\0\0\0\x01{}",
        b"\0\0\0\x02{]",
        b"\0\0\0\x00",
    ],
)
def test_what_is_not_padded_so_is_refused(padded: bytes) -> None:
    with pytest.raises(InputError, match=r"^response: "):
        unpad(padded, what="response")
