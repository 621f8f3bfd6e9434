"""How long a server waits: for requests, for connections that ask for nothing, for its own answers."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otr_node.portable import PortableModel
from tests.helpers.serving import LONG, Server, order_body, own_order, request

NAME = "impatient"
RUN = """
import sys
from pathlib import Path
from otr_node.lanes import load_model
from otr_node.server.limits import ServerLimits
from otr_node.server.program import ServerPlan, run_server
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
limits = ServerLimits(batch=1, queue=8, max_tokens=900, body_s=1, idle_s=2, connections=12, answer_s=1, body_bytes=5000)
plan = ServerPlan(Path(words["--state"]), port=0, limits=limits)
run_server(plan, lambda: load_model(words["--model"], lane="portable-1"), name=lambda model: "impatient")
raise SystemExit
"""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"


@pytest.fixture(scope="module")
def impatient(roomy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    with Server(roomy, tmp_path_factory.mktemp("impatient") / "state", (), RUN) as running:
        yield running


def opened(server: Server) -> socket.socket:
    connection = server.connect()
    return socket.create_connection((connection.host, connection.port), timeout=20)


def read_all(each: socket.socket) -> bytes:
    parts = []
    try:
        while part := each.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_body_that_does_not_come_is_not_waited_for(impatient: Server):
    with opened(impatient) as slow:
        slow.sendall(HEAD + b"content-length: 100\r\n\r\n{")
        assert slow.recv(12) == b"HTTP/1.1 408"


def test_a_body_without_a_length_is_bounded_too(impatient: Server):
    with opened(impatient) as endless:
        endless.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(60):
            endless.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert endless.recv(12) == b"HTTP/1.1 413"
    with opened(impatient) as liar:
        liar.sendall(HEAD + b"content-length: 5001\r\n\r\n")
        assert liar.recv(12) == b"HTTP/1.1 413"


@pytest.mark.parametrize("sent", [b"", HEAD])
def test_a_connection_that_asks_for_nothing_is_closed(impatient: Server, sent: bytes):
    """Also one that goes on sending pieces of a head, and one that has been answered before."""
    with opened(impatient) as idle:
        start = time.monotonic()
        idle.sendall(sent)
        for _ in range(5):
            time.sleep(0.3)
            idle.sendall(b"x-more: 1\r\n" if sent else b"")
        assert read_all(idle) == b""
        assert 1 < time.monotonic() - start < 60


def test_an_answered_connection_that_trickles_is_closed(impatient: Server):
    connection = impatient.connect()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    start = time.monotonic()
    assert connection.sock is not None
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - start < 60:
            connection.sock.sendall(b"x")
            time.sleep(0.3)
    assert time.monotonic() - start < 60


def test_of_too_many_connections_the_oldest_idle_one_goes(impatient: Server, exact: PortableModel):
    placed = own_order(exact.manifest.model_id, most=60)
    held = [opened(impatient) for _ in range(12)]
    try:
        # one at work is not closed for newer ones
        body = json.dumps(order_body(placed)).encode()
        before = len(impatient.lines("taken"))
        held[5].sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        impatient.wait_for("taken", before + 1)
        newer = [opened(impatient) for _ in range(6)]
        assert read_all(held[5]).startswith(b"HTTP/1.1 200")
        assert [read_all(each) for each in held[:5]] == [b""] * 5
        status, _, _ = impatient.ask("/healthz")
        assert status == 200
        for each in newer:
            each.close()
    finally:
        for each in held:
            each.close()


def test_an_answer_that_takes_too_long_is_fetched_later(impatient: Server, exact: PortableModel):
    """The client is told where. One place and long answers, so that the last has to wait for the others."""
    late = 0
    for _ in range(5):
        orders = [own_order(exact.manifest.model_id, LONG, 900) for _ in range(5)]
        with ThreadPoolExecutor(5) as pool:
            replies = list(pool.map(lambda placed: impatient.chat(order_body(placed)), orders))
        for placed, (status, reply, headers) in zip(orders, replies, strict=True):
            if status == 504:
                late += 1
                assert reply["error"]["code"] == "timeout"
                assert headers["otr-receipt-id"] == placed.order.id.hex()
            else:
                assert status == 200
            assert impatient.receipt(placed.order.id.hex())
        if late:
            break
    assert late


def test_who_goes_away_while_waiting_has_ordered_nothing(impatient: Server, exact: PortableModel):
    """Behind others in the queue, so that the connection is gone before there is a place."""
    slow = [own_order(exact.manifest.model_id, LONG, 900) for _ in range(2)]
    gone = own_order(exact.manifest.model_id, most=3)
    held = [impatient.connect() for _ in slow]
    for connection, placed in zip(held, slow, strict=True):
        head = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(order_body(placed)), head)
    before = len(impatient.lines("taken"))
    body = json.dumps(order_body(gone)).encode()
    with opened(impatient) as leaving:
        leaving.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        while len(impatient.lines("taken")) == before:
            time.sleep(0.005)
    for connection in held:
        connection.getresponse().read()
        connection.close()
    time.sleep(0.3)
    status, _, _ = impatient.ask(f"/v1/receipts/{gone.order.id.hex()}")
    if status == 404:
        assert impatient.chat(order_body(gone))[0] == 200
    else:  # there was a place before the connection was seen to be gone
        assert impatient.receipt(gone.order.id.hex())


def test_it_has_lost_nothing_by_it(impatient: Server):
    assert impatient.ask("/healthz")[0] == 200
    assert impatient.chat(request(NAME, max_tokens=3))[0] == 200
