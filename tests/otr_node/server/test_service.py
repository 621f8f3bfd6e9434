"""The routes, called without a network: what each says in every state that it can meet."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from otr_core.errors import JournalError, RecorderError
from otr_node.portable import PortableModel
from otr_node.server.app import Service, make_app
from otr_node.server.desk import Clerk, Desk, Task
from otr_node.server.engine import MOST_RESTARTS, Done, Engine, Failed
from otr_node.server.journal import Journal
from otr_node.server.observe import Metrics, Reporter
from tests.helpers.serving import LONG, order_body, own_order, request
from tests.otr_node.server.test_engine import LIMITS, Failing, desk, desk_of, job_of, journal

__all__ = ["desk", "journal"]  # fixtures
JSON = {"content-type": "application/json"}


@dataclass
class Said:
    """What a client was sent."""

    messages: list[Any] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def raw(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def code(self) -> str:
        return str(json.loads(self.raw)["error"]["code"])

    @property
    def events(self) -> list[Any]:
        said = [line.removeprefix(b"data: ") for line in self.raw.split(b"\n\n") if line]
        return [each if each == b"[DONE]" else json.loads(each) for each in said]


@dataclass
class Called:
    """A service as its clients see it."""

    service: Service
    engine: Engine
    failures: list[str]

    def __post_init__(self) -> None:
        self.app = make_app(self.service, hosts=("*",))

    async def asked(
        self,
        path: str = "/v1/chat/completions",
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] = JSON,
        parts: Sequence[bytes] | None = None,
        gone: Callable[[], bool] = lambda: False,
    ) -> Said:
        """One request. parts: of a body that does not end. gone: whether its client goes away now."""
        said, left = Said(), [body or b""] if parts is None else list(parts)
        shown = [(name.encode(), value.encode()) for name, value in headers.items()]

        async def receive() -> Any:
            if left:
                return {"type": "http.request", "body": left.pop(0), "more_body": parts is not None}
            while not gone():
                await asyncio.sleep(0.01)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            said.messages.append(message)

        method = "GET" if body is None and parts is None else "POST"
        about = {"http_version": "1.1", "scheme": "http", "query_string": b"", "root_path": "", "state": {}}
        await self.app({"type": "http", "method": method, "path": path, "headers": shown, **about}, receive, send)
        return said

    def ask(self, path: str = "/v1/chat/completions", body: Any = None, **more: Any) -> Said:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(self.asked(path, raw, **more))


@contextmanager
def called(
    desk: Desk, clerk: Clerk | None = None, *, start: bool = True, keys: Sequence[str] = (), **limits: int
) -> Iterator[Called]:
    desk.limits = replace(LIMITS, **limits)
    failures: list[str] = []
    engine = Engine(desk.model, clerk or desk, desk.limits, report=lambda event, **facts: failures.append(event))
    metrics = Metrics()
    hashed = frozenset(hashlib.sha256(key.encode()).digest() for key in keys)
    reporter = Reporter(logging.getLogger("silent"), metrics)
    bare = type(clerk) is Clerk
    if start:
        engine.start()
    yield Called(Service(desk, engine, metrics, reporter, keys=hashed, receipts=not bare), engine, failures)
    engine.close(20)


@pytest.mark.parametrize("ending", ["", "/leaves"])
def test_what_became_of_an_order_has_its_status(desk: Desk, ending: str):
    with called(desk, start=False) as server:

        def found(order_id: bytes) -> tuple[int, str, str | None]:
            said = server.ask(f"/v1/receipts/{order_id.hex()}{ending}")
            document = json.loads(said.raw)
            return (
                said.status,
                document.get("status") or document["error"]["code"],
                said.headers.get("retry-after"),
            )

        assert found(bytes(32)) == (404, "not_found", None)
        assert found(bytes(31)) == (404, "not_found", None)
        waiting, begun, other = (job_of(desk)[0] for _ in range(3))
        server.engine.submit(waiting)
        assert found(waiting.order_id) == (202, "running", "1")
        desk.begin(begun.task).result()
        assert found(begun.order_id) == (503, "not_answered", "30")
        desk.journal.begin(other.order_id, other.task.sent, bytes(32)).result()
        assert found(other.order_id) == (410, "given_up", None)
        desk.journal.add_receipt(begun.order_id, b"receipt", b"hashes").result()
        said = server.ask(f"/v1/receipts/{begun.order_id.hex()}{ending}")
        kind = "application/octet-stream" if ending else "application/json"
        assert (said.status, said.raw, said.headers["content-type"]) == (200, b"hashes" if ending else b"receipt", kind)
        desk.journal.add_receipt(other.order_id, b"receipt").result()
        if ending:
            assert found(other.order_id) == (404, "no_leaves", None)


@pytest.mark.parametrize("last_attempt", [False, True])
def test_an_answer_that_ends_while_its_receipt_is_asked_for_is_found(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, last_attempt: bool
):
    """It ends just after the journal said that it was begun, and before the engine is asked."""
    clerk, (job, heard) = Standing(desk, "issue"), job_of(desk)
    asked = desk.state

    def state(order_id: bytes) -> tuple[str, bytes]:
        found = asked(order_id)
        if found[0] != "answered":
            clerk.let_go.set_result(True)
            assert isinstance(heard.last, Done)
        return found

    with called(desk, clerk) as server:
        server.engine.submit(job)
        while job.begun is None or not job.begun.done():
            time.sleep(0.01)
        if last_attempt:
            monkeypatch.setattr("otr_node.server.desk.MOST_ATTEMPTS", 1)
        monkeypatch.setattr(desk, "state", state)
        said = server.ask(f"/v1/receipts/{job.order_id.hex()}")
    assert (said.status, said.raw) == (200, desk.journal.receipt(job.order_id))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/attestation", "/v1/receipts/x/leaves"])
def test_only_those_with_a_key_are_told(desk: Desk, path: str):
    body = {} if path.startswith("/v1/chat") else None
    with called(desk, start=False, keys=("k" * 16, "l" * 16)) as server:
        for shown in ("", "k" * 16, "Basic " + "k" * 16, "Bearer", "Bearer " + "m" * 16, "Bearer " + "k" * 15):
            said = server.ask(path, body, headers=JSON | {"authorization": shown})
            assert (said.status, said.code) == (401, "invalid_api_key")
        for shown in ("Bearer " + "k" * 16, "bearer  " + "l" * 16):
            assert server.ask(path, body, headers=JSON | {"authorization": shown}).status != 401
        assert server.ask("/metrics").status == 200
    with called(desk, start=False) as server:
        assert server.ask(path, body, headers=JSON | {"authorization": "Bearer wrong"}).status != 401


def test_a_body_is_bounded_in_kind_size_and_time(desk: Desk):
    with called(desk, start=False, body_bytes=50, body_s=1) as server:
        for headers, parts, status, code in (
            ({}, [b"{}"], 415, "unsupported_media_type"),
            ({"content-type": "text/plain"}, [b"{}"], 415, "unsupported_media_type"),
            (JSON | {"content-length": "51"}, [], 413, "request_too_large"),
            (JSON, [b"x" * 26] * 2, 413, "request_too_large"),
            (JSON | {"content-length": "some"}, [], 400, "invalid_header"),
            (JSON | {"content-length": "50"}, [b"x" * 25], 408, "timeout"),
        ):
            said = server.ask(headers=headers, parts=parts)
            assert (said.status, said.code) == (status, code)
        said = server.ask(body=b"x" * 50, headers={"content-type": "Application/JSON; charset=utf-8"})
        assert (said.status, said.code) == (400, "invalid_json")


def test_no_more_requests_are_looked_at_than_the_limits_say(desk: Desk):
    async def crowd(server: Called, most: int) -> list[Said]:
        slow = [asyncio.create_task(server.asked(parts=[b"{"])) for _ in range(most)]
        await asyncio.sleep(0.1)
        refused = await server.asked(body=b"{}")
        later = await asyncio.gather(*slow)
        return [refused, *later, await server.asked(body=b"{")]

    with called(desk, start=False, batch=1, queue=1, body_s=1) as server:
        refused, *later, last = asyncio.run(crowd(server, desk.limits.requests))
        assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "overloaded", "1")
        assert {said.status for said in later} == {408}
        assert last.code == "invalid_json"  # there is a place again


def test_a_service_says_how_it_is(exact: PortableModel, tmp_path: Path):
    desk = desk_of(exact, Journal(tmp_path))
    parts = {"engine": True, "journal": True, "taking orders": True}

    def shown(server: Called) -> tuple[int, Any]:
        said = server.ask("/healthz")
        return said.status, json.loads(said.raw)

    with called(desk, start=False) as server:
        assert shown(server) == (503, {"status": "failing", **parts, "engine": False})
        server.engine.start()
        assert shown(server) == (200, {"status": "ok", **parts})
        server.service.refuse_new()
        assert shown(server) == (503, {"status": "failing", **parts, "taking orders": False})
        said = server.ask(body=b"no JSON")
        assert (said.status, said.code, said.headers["retry-after"]) == (503, "stopping", "5")
        asyncio.run(server.service.close())
        failing = {"engine": False, "journal": False, "taking orders": False}
        assert shown(server) == (503, {"status": "failing", **failing})


def test_a_service_that_closes_tells_who_waits_and_leaves_no_thread(exact: PortableModel, tmp_path: Path):
    before = set(threading.enumerate())
    desk = desk_of(exact, Journal(tmp_path))
    with called(desk, start=False) as server:
        assert server.ask(body=b"{").code == "invalid_json"
        waiting, heard = job_of(desk)
        server.engine.submit(waiting)
        asyncio.run(server.service.close())
        assert isinstance(heard.last, Failed)
        assert server.ask(body=b"{").code == "stopping"
        assert not [each for each in set(threading.enumerate()) - before if each.name.startswith("otr-")]


def test_a_service_that_takes_no_more_tells_who_waits(desk: Desk):
    with called(desk, start=False) as server:
        waiting, heard = job_of(desk)
        server.engine.submit(waiting)
        server.service.refuse_new()
        assert isinstance(heard.last, Failed)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("what", "status", "code"), [("refused", 409, "order_taken"), ("unwritable", 503, "journal_unavailable")]
)
def test_what_is_not_written_down_is_refused_before_anything_is_said(
    desk: Desk, what: str, status: int, code: str, stream: bool
):
    with called(desk, Failing(desk, what, 0, JournalError("full"))) as server:
        said = server.ask(body=order_body(own_order(desk.model.manifest.model_id, LONG, 30), stream=stream))
        assert (said.status, said.code) == (status, code)


@dataclass
class Standing(Clerk):
    """A desk whose journal, or whose signing, stands still until it is let go."""

    desk: Desk
    what: str
    let_go: Future[bool] = field(default_factory=Future)

    def begin(self, task: Task) -> Future[bool]:
        return self.let_go if self.what == "begin" else self.desk.begin(task)

    def recorder(self, task: Task) -> Any:
        return self.desk.recorder(task)

    def issue(self, *args: Any) -> Any:
        assert self.let_go.result(60)
        return self.desk.issue(*args)

    def keep(self, *args: Any) -> None:
        self.desk.keep(*args)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("what", ["begin", "issue"])
def test_nobody_waits_for_ever(desk: Desk, what: str, stream: bool):
    """The client is told where its answer will be; that its loop is gone then hinders nobody."""
    clerk, placed = Standing(desk, what), own_order(desk.model.manifest.model_id, LONG, 20)
    with called(desk, clerk, answer_s=1) as server:
        start = time.monotonic()
        said = server.ask(body=order_body(placed, stream=stream))
        assert 1 <= time.monotonic() - start < 60
        if what == "issue" and stream:  # its tokens were sent before
            assert said.events[-1]["error"]["code"] == "timeout"
        else:
            assert (said.status, said.code) == (504, "timeout")
        assert said.headers["otr-receipt-id"] == placed.order.id.hex()
        if what == "begin":
            desk.journal.begin(placed.order.id, placed.sent, desk.identity).result()
        clerk.let_go.set_result(True)
        assert server.engine.close(60)
        assert not server.failures
        assert server.service.metrics.registry.get_sample_value("otr_answers_total", {"finish": "length"}) == 1
        assert desk.journal.receipt(placed.order.id)


def test_who_waits_too_long_or_goes_away_has_ordered_nothing(desk: Desk):
    placed = own_order(desk.model.manifest.model_id)
    with called(desk, start=False, queue_s=1) as server:
        start = time.monotonic()
        said = server.ask(body=order_body(placed))
        assert (said.status, said.code, said.headers["retry-after"]) == (503, "queue_timeout", "1")
        assert 1 <= time.monotonic() - start < 60
        assert server.engine.load == (0, 0)
    with called(desk, start=False) as server:
        assert server.ask(body=order_body(placed), gone=lambda: server.engine.load == (1, 0)).status == 499
        assert server.engine.load == (0, 0)
    with called(desk) as server:
        assert server.ask(body=order_body(placed)).status == 200


def test_who_goes_away_in_the_middle_is_answered_all_the_same(desk: Desk):
    clerk, placed = Standing(desk, "issue"), own_order(desk.model.manifest.model_id, LONG, 30)

    later = threading.Timer(0.2, clerk.let_go.set_result, (True,))

    def gone() -> bool:
        """Once it is begun; its receipt is made only after that."""
        begun = desk.journal.begun(placed.order.id) is not None
        if begun and later.ident is None:
            later.start()
        return begun

    with called(desk, clerk) as server:
        assert server.ask(body=order_body(placed), gone=gone).status == 200
    assert desk.journal.receipt(placed.order.id)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_said_beside_an_answer(desk: Desk, stream: bool):
    """The order, where the server wrote it; the receipt's id, where there is a receipt."""
    own = own_order(desk.model.manifest.model_id)
    for clerk, body, members in (
        (None, request("m", max_tokens=4, stream=stream), {"model_id", "receipt_id", "order"}),
        (None, order_body(own, stream=stream), {"model_id", "receipt_id"}),
        (Clerk(), request("m", max_tokens=4, stream=stream), {"model_id"}),
    ):
        with called(desk_of(desk.model, desk.journal, secret=os.urandom), clerk) as server:
            said = server.ask(body=body)
            first = said.events[0] if stream else json.loads(said.raw)
            assert first["otr"].keys() == members
            assert said.headers["otr-model-id"] == desk.model.manifest.model_id.hex()
            if stream:
                assert said.events[-1] == b"[DONE]"
                assert all(each["choices"] for each in said.events[:-1])  # no counts: nobody asked


def test_a_stream_counts_where_it_is_asked_to(desk: Desk):
    with called(desk) as server:
        body = order_body(own_order(desk.model.manifest.model_id, LONG, 9), stream=True)
        *_, last, counts, end = server.ask(body=body | {"stream_options": {"include_usage": True}}).events
        assert (last["choices"][0]["finish_reason"], counts["choices"], end) == ("length", [], b"[DONE]")
        assert counts["usage"] == {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}


def test_a_stream_whose_receipt_cannot_be_made_ends_with_the_error(desk: Desk):
    with called(desk, Failing(desk, "issue", MOST_RESTARTS + 1, RecorderError("gone"))) as server:
        events = server.ask(body=order_body(own_order(desk.model.manifest.model_id, LONG, 9), stream=True)).events
        assert events[-1]["error"]["code"] == "internal_error"
        assert not [each for each in events[:-1] if each["choices"][0]["finish_reason"]]
