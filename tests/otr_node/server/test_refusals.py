"""What a server refuses, with which status; that it says nothing of it in its log; that it goes on."""

from __future__ import annotations

import json
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otr_core.poea import Domain, PlacedOrder
from otr_node.portable import PortableModel
from tests.helpers.command_line import otr
from tests.helpers.serving import DEADLINE_S, HELD, LONG, Server, order_body, own_order, request

NAME = "roomy@portable-1"
SECRET = "w41 w42 w43 w44"
MESSAGE = {"role": "user", "content": SECRET}


def answered(server: Server) -> None:
    """It still answers."""
    status, reply, _ = server.chat(request(NAME, max_tokens=3))
    assert status == 200, reply


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b"\xff\xfe\xfd", 400, "invalid_json"),
        (b'{"model": "a", "model": "b"}', 400, "invalid_json"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json"),
        (b'{"temperature": NaN}', 400, "invalid_json"),
        (b'{"model": "' + b"x" * 2**21 + b'"}', 413, "request_too_large"),
        ({"messages": [MESSAGE]}, 400, "missing_parameter"),
        (request("roomy@native-float32", SECRET), 404, "model_not_found"),
        (request("gpt-4", SECRET), 404, "model_not_found"),
        (request(NAME, "w5 " * 350_000), 400, "context_length_exceeded"),
        (request(NAME, "w5 " * 300), 400, "context_length_exceeded"),
        (request(NAME, SECRET, max_tokens=901), 400, "invalid_value"),
        (request(NAME, SECRET, max_tokens=0), 400, "invalid_value"),
        (request(NAME, "\ud800"), 400, "invalid_value"),
        (request(NAME, SECRET, wishes=1), 400, "unknown_parameter"),
        ({"otr_order": {"format": "otr-order/1"}}, 400, "invalid_order"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str | int) else "body",
)
def test_a_request_that_cannot_be_answered_has_its_status(server: Server, body, status, code):
    found, reply, _ = server.chat(body)
    assert (found, reply["error"]["code"]) == (status, code)
    assert len(json.dumps(reply)) < 1000
    answered(server)


def test_orders_that_are_not_for_this_server_are_refused(server: Server, exact: PortableModel):
    good = own_order(exact.manifest.model_id)
    kept = {**json.loads(good.sent), "kept": {"query": {}, "secret": "00" * 32}}
    other_model, other_court = own_order(bytes(32)), own_order(exact.manifest.model_id, domain=Domain(1, b"c" * 20))
    swapped = {**json.loads(good.sent), "query": json.loads(own_order(exact.manifest.model_id).sent)["query"]}
    sealed_elsewhere = own_order(exact.manifest.model_id, seal_to=b"\x09" + bytes(31))
    key = bytes.fromhex(server.ask("/v1/attestation")[1]["keys"]["hpke"])
    sealed = own_order(exact.manifest.model_id, seal_to=key)
    for body, status, code in (
        ({"otr_order": kept}, 400, "invalid_order"),
        (order_body(other_model), 404, "model_not_found"),
        (order_body(other_court), 400, "invalid_order"),
        ({"otr_order": swapped}, 400, "invalid_order"),
        (order_body(sealed_elsewhere), 400, "invalid_order"),
        (order_body(sealed, stream=True), 400, "invalid_value"),
        (order_body(good, temperature=1), 400, "invalid_value"),
        (order_body(good, messages=[MESSAGE]), 400, "invalid_value"),
        (order_body(own_order(exact.manifest.model_id, most=901)), 400, "invalid_value"),
        (order_body(own_order(exact.manifest.model_id, (5,) * 201)), 400, "context_length_exceeded"),
        (order_body(own_order(exact.manifest.model_id, (5, 64))), 400, "context_length_exceeded"),
    ):
        found, reply, _ = server.chat(body)
        assert (found, reply["error"]["code"]) == (status, code), reply
    # nothing of it was begun: the good ones are still answered
    assert server.chat(order_body(good, messages=[]))[0] == 200
    assert server.chat(order_body(sealed))[0] == 200


def test_routes_and_methods_that_are_not_there(server: Server):
    for path, body, status in (
        ("/", None, 404),
        ("/v1/nothing", None, 404),
        ("/v1/models", {}, 405),
        ("/v1/receipts/" + "00" * 32, None, 404),
        ("/v1/receipts/xyz", None, 404),
        ("/v1/receipts/" + "00" * 32 + "/leaves", None, 404),
        ("/v1/chat/completions", None, 405),
    ):
        found, reply, _ = server.ask(path, body)
        assert found == status
        assert reply["error"]["code"] in ("not_found", "method_not_allowed")


def test_a_page_of_somebody_else_cannot_ask(server: Server):
    """What a browser sends without asking, and a name that leads here from outside."""
    assert server.chat(request(NAME), content_type="text/plain")[0] == 415
    assert server.chat(request(NAME), host="rebound.example")[0] == 400


def test_bytes_that_are_no_http_are_refused(server: Server):
    connection = server.connect()
    connection.connect()
    connection.sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert connection.sock.recv(100).startswith(b"HTTP/1.1 400")
    answered(server)


def test_five_hundred_connections_do_not_keep_others_out(server: Server):
    place = (server.connect().host, server.connect().port)
    held = [socket.create_connection(place, timeout=10) for _ in range(500)]
    try:
        for each in held[::2]:
            each.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        shown = server.ask("/metrics")[1].decode()  # first of all: they are closed after 15 s
        (connections,) = [line for line in shown.splitlines() if line.startswith("otr_connections ")]
        assert float(connections.split()[1]) > 400
        answered(server)
    finally:
        for each in held:
            each.close()
    answered(server)


def test_metrics_count_what_was_done(server: Server):
    def numbers():
        lines = [line for line in server.ask("/metrics")[1].decode().splitlines() if line[0] != "#"]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    before = numbers()
    reply = server.chat(request(NAME, max_tokens=5))[1]
    server.chat(b"{")
    after = numbers()

    def grown(name):
        return after[name] - before.get(name, 0)

    route = 'otr_requests_total{route="/v1/chat/completions",status='
    assert (grown(route + '"200"}'), grown(route + '"400"}')) == (1, 1)
    assert grown('otr_tokens_total{kind="chosen"}') == reply["usage"]["completion_tokens"] == 5
    assert grown('otr_tokens_total{kind="prompt"}') == reply["usage"]["prompt_tokens"]
    for name in ("first", "answer"):
        assert grown(f"otr_{name}_seconds_count") == 1
    assert grown("otr_commit_seconds_count") == 2  # the order, then its receipt
    assert (after["otr_running"], after["otr_waiting"]) == (0, 0)


KEY = "sk-" + "k" * 40


def test_a_server_with_keys_bounds_and_a_log_that_tells_nothing(roomy: Path, tmp_path: Path, exact: PortableModel):
    """One place and one in the queue: the third is told to come later, one that waits too long too."""
    keys = tmp_path / "keys"
    keys.write_text(KEY + "\n")
    limits = ("--batch", 1, "--queue", 1, "--queue-seconds", 1, "--max-tokens", 900, "--key-file", keys)
    with Server(roomy, tmp_path / "state", limits, HELD) as server:
        shown = {"authorization": f"Bearer {KEY}"}
        for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}):
            status, reply, _ = server.chat(request(NAME, SECRET), **wrong)
            assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
            assert server.ask("/v1/models", **wrong)[0] == server.ask("/v1/attestation", **wrong)[0] == 401
            assert server.ask("/v1/receipts/" + "00" * 32, **wrong)[0] == 401
            assert server.ask("/v1/receipts/" + "00" * 32 + "/leaves", **wrong)[0] == 401
        assert server.ask("/healthz")[0] == 200

        # more requests than can be looked at: told before their body is read
        place = server.connect()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        head += f"authorization: Bearer {KEY}\r\ncontent-length: 9\r\n\r\n{{"
        begun = [socket.create_connection((place.host, place.port), timeout=20) for _ in range(4)]
        for each in begun:
            each.sendall(head.encode())
        reply, until = {}, time.monotonic() + DEADLINE_S
        while "error" not in reply:  # it is answered as long as not all four are read
            assert time.monotonic() < until
            status, reply, headers = server.chat(request(NAME, SECRET, max_tokens=1), **shown)
        assert (status, reply["error"]["code"]) == (503, "overloaded")
        assert int(headers["retry-after"]) >= 1
        for each in begun:
            each.close()
        while sum(line["status"] == 499 for line in server.lines("request")) < 4:
            assert time.monotonic() < until
            time.sleep(0.02)

        def come(placed: PlacedOrder) -> int:
            """As a client that comes again as long as there was no place for it in time."""
            while (got := server.chat(order_body(placed), **shown))[0] == 503:
                assert int(got[2]["retry-after"]) >= 1
            return got[0]

        slow, told = [own_order(exact.manifest.model_id, LONG, 900) for _ in range(8)], {}
        with ThreadPoolExecutor(8) as pool:
            with server.holding():
                first = pool.submit(come, slow[0])
                while "otr_running 1.0" not in server.ask("/metrics")[1].decode():
                    assert time.monotonic() < until
                    time.sleep(0.02)
                while not {"queue_full", "queue_timeout"} <= told.keys():
                    assert time.monotonic() < until
                    replies = pool.map(lambda placed: server.chat(order_body(placed), **shown), slow[1:])
                    for placed, (status, reply, headers) in zip(slow[1:], replies, strict=True):
                        assert (status, int(headers["retry-after"]) >= 1) in ((429, True), (503, True))
                        told[reply["error"]["code"]] = placed
            assert first.result() == 200
        # who was told to come later may: nothing of it was begun
        late = told["queue_full"]
        assert come(late) == 200
        assert server.stop() == 0
        text = server.log.read_text()
    ended = json.loads(text.splitlines()[-1])
    assert (ended["event"], ended["all_answered"]) == ("stopped", True)
    for word in (KEY, "w41", SECRET, slow[0].order.id.hex(), "Traceback"):
        assert word not in text
    assert late.order.id.hex()[:16] in text


def test_a_stopping_server_ends_what_it_has_begun(roomy: Path, tmp_path: Path, exact: PortableModel):
    with Server(roomy, tmp_path / "state", ("--max-tokens", 900)) as server:
        placed = own_order(exact.manifest.model_id, LONG, 900)
        stream = server.stream(order_body(placed, stream=True))
        next(stream), next(stream)
        server.process.send_signal(signal.SIGTERM)
        rest = list(stream)
        assert rest[-1] == "[DONE]"
        server.wait_for_end()
        assert server.process.returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "{port}"), "Address already in use"),
        (("--state", "{state}"), "another server"),
        (("--lane", "wrong"), "--lane"),
        (("--host", "256.0.0.1"), "--host"),
        (("--port", 70000), "--port"),
        (("--batch", 0), "batch"),
        (("--court", "12"), "--court"),
        (("--key-file", "/nowhere"), "/nowhere"),
        (("--model", "/nowhere"), "/nowhere"),
        (("--state", "/proc/1/none"), "state folder"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_served_is_one_line(server: Server, roomy: Path, tmp_path: Path, options, words):
    filled = [str(each).format(port=server.connect().port, state=server.state) for each in options]
    given = {"--model": str(roomy), "--state": str(tmp_path / "state"), "--port": "0"}
    given |= dict(zip(filled[::2], filled[1::2], strict=True))
    run = otr("serve", *(word for pair in given.items() for word in pair))
    assert run.returncode == 2
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert words in line
    assert "Traceback" not in run.stderr
