"""Streams end: with the answer, with its failure, or with the patience of the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from otr_node.server import wire
from otr_node.server.wire import EventStream

PIECES: list[Mapping[str, Any]] = [{"a": 1}, {"b": 2}]
ERROR = {"error": {"code": "x"}}


async def documents(*given: Mapping[str, Any], then: float = 0) -> AsyncIterator[Mapping[str, Any]]:
    for each in given:
        yield each
    await asyncio.sleep(then)


def sent(stream: EventStream, *, blocks_after: int | None = None) -> list[Any]:
    """What goes to a client, which may stop reading after so many messages."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        if blocks_after is not None and len(messages) >= blocks_after:
            await asyncio.sleep(600)
        messages.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    asyncio.run(stream({"type": "http"}, receive, send))
    return messages


def events(messages: list[Any]) -> list[Any]:
    lines = b"".join(message.get("body", b"") for message in messages).decode().split("\n\n")
    said = [line.removeprefix("data: ") for line in lines if line]
    return [each if each == "[DONE]" else json.loads(each) for each in said]


def test_a_whole_answer_ends_as_the_api_says():
    messages = sent(EventStream(documents(*PIECES), {"x-own": "1"}, time.monotonic() + 60))
    headers = dict(messages[0]["headers"])
    assert headers[b"x-own"] == b"1"
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"content-length" not in headers
    assert events(messages) == [*PIECES, "[DONE]"]
    assert [message.get("more_body") for message in messages[1:]] == [True, True, True, False]


def test_a_failed_answer_ends_with_its_error():
    assert events(sent(EventStream(documents(*PIECES, ERROR), {}, time.monotonic() + 60))) == [*PIECES, ERROR]


def test_an_answer_that_does_not_come_ends_with_where_to_find_it():
    messages = sent(EventStream(documents(*PIECES, then=60), {}, time.monotonic() + 0.2))
    *pieces, last = events(messages)
    assert pieces == PIECES
    assert last["error"]["code"] == "timeout"
    assert messages[-1]["more_body"] is False


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_a_client_that_does_not_read_is_left(monkeypatch, after: int):
    monkeypatch.setattr(wire, "LAST_S", 0.2)
    start = time.monotonic()
    messages = sent(EventStream(documents(*PIECES), {}, time.monotonic() + 0.2), blocks_after=after)
    assert len(messages) == after
    assert messages[-1].get("more_body") in (None, True)  # so that the connection is closed
    assert time.monotonic() - start < 60  # and not 600
