"""How long a server waits: for requests, for connections that ask for nothing, for its own answers."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otr_node.portable import PortableModel
from tests.helpers.serving import DEADLINE_S, HELD, LONG, Server, order_body, own_order

IDLE_S = 2
RUN = """
import json
from otr_node.lanes import load_model
from otr_node.server.limits import ServerLimits
from otr_node.server.program import ServerPlan, run_server
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
limits = ServerLimits(batch=1, queue=8, max_tokens=900, **json.loads(words["--limits"]))
plan = ServerPlan(Path(words["--state"]), port=0, limits=limits)
run_server(plan, lambda: load_model(words["--model"], lane="portable-1"), name=lambda model: "impatient")
raise SystemExit
"""
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"


def limited(folder: Path, state: Path, **limits: int) -> Server:
    """A server with these limits, whose model can be held up."""
    return Server(folder, state, ("--limits", json.dumps(limits)), f"{HELD}from pathlib import Path\n{RUN}")


@pytest.fixture(scope="module")
def impatient(roomy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little patience."""
    state = tmp_path_factory.mktemp("impatient") / "state"
    with limited(roomy, state, body_s=1, idle_s=IDLE_S, answer_s=1) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(roomy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with all the patience of the world and little room: whom it closes, it closes for want of room."""
    state = tmp_path_factory.mktemp("narrow") / "state"
    with limited(roomy, state, body_s=600, idle_s=600, queue_s=600, connections=12, body_bytes=5000) as running:
        yield running


def opened(server: Server) -> socket.socket:
    connection = server.connect()
    return socket.create_connection((connection.host, connection.port), timeout=DEADLINE_S)


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


def test_a_body_without_a_length_is_bounded_too(narrow: Server):
    with opened(narrow) as endless:
        endless.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(51):  # the last is too much: sent to a closed connection, more would end the reading as well
            endless.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert endless.recv(12) == b"HTTP/1.1 413"
    with opened(narrow) as liar:
        liar.sendall(HEAD + b"content-length: 5001\r\n\r\n")
        assert liar.recv(12) == b"HTTP/1.1 413"


@pytest.mark.parametrize("sent", [b"", HEAD])
def test_a_connection_that_asks_for_nothing_is_closed(impatient: Server, sent: bytes):
    """Also one that goes on sending pieces of a head; not before its time."""
    start = time.monotonic()
    with opened(impatient) as idle:
        with contextlib.suppress(ConnectionError):  # it is closed already where this process was held up
            idle.sendall(sent)
            for _ in range(5):
                time.sleep(0.3)
                idle.sendall(b"x-more: 1\r\n" if sent else b"")
        assert read_all(idle) == b""
    assert time.monotonic() - start > IDLE_S - 0.1


def test_an_answered_connection_that_trickles_is_closed(impatient: Server):
    connection = impatient.connect()
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    assert connection.sock is not None

    def trickle() -> None:
        for _ in range(4 * DEADLINE_S):
            connection.sock.sendall(b"x")
            time.sleep(0.25)

    with pytest.raises(ConnectionError):
        trickle()


def test_of_too_many_connections_the_oldest_idle_ones_go(narrow: Server, exact: PortableModel):
    placed = own_order(exact.manifest.model_id, most=60)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(opened(narrow)) for _ in range(12)]
        with narrow.holding():
            # one at work is not closed for newer ones
            body = json.dumps(order_body(placed)).encode()
            before = len(narrow.lines("taken"))
            held[5].sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            narrow.wait_for("taken", before + 1)
            newer = [stack.enter_context(opened(narrow)) for _ in range(6)]
            assert [read_all(each) for each in (*held[:5], held[6])] == [b""] * 6
            for each in (*held[7:], *newer):
                each.sendall(HEALTH)
                assert read_all(each).startswith(b"HTTP/1.1 200")
        assert read_all(held[5]).startswith(b"HTTP/1.1 200")


def test_an_answer_that_takes_too_long_is_fetched_later(impatient: Server, exact: PortableModel):
    """The client is told where."""
    placed = own_order(exact.manifest.model_id)
    with impatient.holding():
        status, reply, headers = impatient.chat(order_body(placed))
        assert (status, reply["error"]["code"]) == (504, "timeout")
        assert headers["otr-receipt-id"] == placed.order.id.hex()
        assert impatient.ask(f"/v1/receipts/{placed.order.id.hex()}")[0] == 202
    assert impatient.receipt(placed.order.id.hex())


def test_who_goes_away_while_waiting_has_ordered_nothing(narrow: Server, exact: PortableModel):
    """Behind another in the queue, which has the only place until it is known that the connection is gone."""
    slow, gone = own_order(exact.manifest.model_id, LONG, 900), own_order(exact.manifest.model_id, most=3)
    taken, answered = len(narrow.lines("taken")), len(narrow.lines("request"))
    connection = narrow.connect()
    with narrow.holding():
        head = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(order_body(slow)), head)
        narrow.wait_for("taken", taken + 1)
        body = json.dumps(order_body(gone)).encode()
        with opened(narrow) as leaving:
            leaving.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
            narrow.wait_for("taken", taken + 2)
        assert narrow.wait_for("request", answered + 1)["status"] == 499
        assert narrow.ask(f"/v1/receipts/{gone.order.id.hex()}")[0] == 404
    assert connection.getresponse().status == 200
    connection.close()
    assert narrow.chat(order_body(gone))[0] == 200


def test_they_have_lost_nothing_by_it(impatient: Server, narrow: Server, exact: PortableModel):
    """The impatient one may answer that its answer is late."""
    for server in (impatient, narrow):
        assert server.ask("/healthz")[0] == 200
        placed = own_order(exact.manifest.model_id)
        assert server.chat(order_body(placed))[0] in (200, 504)
        assert server.receipt(placed.order.id.hex())
