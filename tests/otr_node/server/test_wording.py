"""Requests are read strictly: what would change the answer is heeded or refused, never left out."""

from __future__ import annotations

import json

import pytest

from otr_core.errors import InputError, ServiceError
from otr_core.lane.sampling import Decoding
from otr_node.server.limits import ServerLimits
from otr_node.server.wording import SentOrder, decoding_asked, read_request
from tests.helpers.serving import own_order

PLAIN = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}


def read(**more):
    return read_request(json.dumps({**PLAIN, **more}).encode())


def refused(**more) -> str:
    with pytest.raises(ServiceError) as error:
        read(**more)
    assert error.value.status == 400
    return error.value.param or ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", True),
        ("top_p", 0.9),
        ("presence_penalty", 1),
        ("frequency_penalty", -1),
        ("logprobs", True),
        ("logprobs", 0),
        ("stop", "x"),
        ("tools", [{}]),
        ("logit_bias", {"1": 5}),
        ("response_format", {"type": "json_object"}),
        ("store", True),
        ("top_k", 5),
        ("functions", []),
        ("stream", "yes"),
        ("stream", 1),
        ("stream_options", {"include": True}),
        ("stream_options", {"include_usage": 1}),
        ("stream_options", []),
        ("temperature", -0.1),
        ("temperature", 5.1),
        ("temperature", True),
        ("temperature", "1"),
        ("seed", 1.5),
        ("seed", True),
        ("max_tokens", 1.0),
        ("max_tokens", True),
        ("max_completion_tokens", "9"),
        ("model", 5),
        ("messages", []),
        ("messages", "Why?"),
        ("messages", None),
    ],
)
def test_what_is_not_heeded_is_refused_by_name(name, value):
    assert refused(**{name: value}) == name


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": 5},
        {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
        {"role": "user", "content": [{"type": "text", "text": 5}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "cache": 1}]},
        {"role": "user", "content": ["x"]},
        {"role": "user", "content": "x", "name": "n"},
        {"role": "user", "content": "x", "tool_calls": []},
        "x",
    ],
)
def test_a_message_that_cannot_be_said_is_refused(message):
    assert refused(messages=[PLAIN["messages"][0], message]).startswith("messages[1]")


def test_a_number_beyond_all_is_no_temperature():
    with pytest.raises(ServiceError, match="temperature"):
        read_request(json.dumps(PLAIN).encode()[:-1] + b', "temperature": 1e400}')


def test_neutral_values_and_nulls_are_as_nothing():
    neutral = {"n": 1, "top_p": 1.0, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "stop": None}
    neutral |= {"tools": [], "logit_bias": {}, "response_format": {"type": "text"}, "store": False, "user": "u"}
    assert read(**neutral, metadata={"a": "b"}, temperature=None, seed=None) == read()


def test_what_is_heeded():
    found = read(
        max_completion_tokens=9, temperature=0.7004, seed=4, stream=True, stream_options={"include_usage": True}
    )
    assert (found.max_tokens, found.temperature_milli, found.seed) == (9, 700, 4)
    assert (found.stream, found.usage, found.sent) == (True, True, None)
    assert read(max_tokens=9, max_completion_tokens=9).max_tokens == 9
    assert refused(max_tokens=9, max_completion_tokens=8) == "max_tokens"


def test_the_answer_s_length_has_bounds():
    limits = ServerLimits(max_tokens=50, default_tokens=40)
    assert decoding_asked(read(), limits, 1000, 7) == Decoding(40, 7)
    assert decoding_asked(read(), limits, 30, 7) == Decoding(30, 7)
    assert decoding_asked(read(seed=0, temperature=1), limits, 30, 7) == Decoding(30, 0, 1000)
    for most in (0, -1, 51):
        with pytest.raises(ServiceError) as error:
            decoding_asked(read(max_tokens=most), limits, 1000, 7)
        assert error.value.param == "max_tokens"
    for seed in (-1, 2**53):
        with pytest.raises(ServiceError) as error:
            decoding_asked(read(seed=seed), limits, 1000, 7)
        assert error.value.param == "seed"


def test_an_order_is_read_as_it_was_sent():
    for placed in (own_order(bytes(32)), own_order(bytes(32), seal_to=b"\x09" + bytes(31))):
        sent = read_request(json.dumps({"otr_order": json.loads(placed.sent)}).encode()).sent
        assert sent == SentOrder(placed.order, placed.query)
        assert SentOrder.parse(placed.sent) == sent


@pytest.mark.parametrize("name", ["temperature", "seed", "max_tokens", "max_completion_tokens", "messages"])
def test_an_order_says_itself_what_is_answered_and_how(name):
    body = {"otr_order": json.loads(own_order(bytes(32)).sent), name: PLAIN["messages"] if name == "messages" else 1}
    with pytest.raises(ServiceError) as error:
        read_request(json.dumps(body).encode())
    assert error.value.param == name


def test_an_order_of_another_format_or_with_more_is_refused():
    document = json.loads(own_order(bytes(32)).sent)
    for change in ({"format": "otr-order/2"}, {"kept": {}}, {"more": 1}, {"order": {}}, {"query": {}}, None):
        with pytest.raises(ServiceError) as error:
            read_request(json.dumps({"otr_order": [] if change is None else document | change}).encode())
        assert (error.value.param, error.value.code) == ("otr_order", "invalid_order")


@pytest.mark.parametrize("name", [own for own in ServerLimits.__dataclass_fields__])
def test_limits_are_whole_numbers_from_one_on(name):
    for value in (0, -1, 1.5, True, 2**31):
        with pytest.raises(InputError, match=name):
            ServerLimits(**{name: value})
