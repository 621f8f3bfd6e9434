"""Killed at every point between order, answer, journal and wire, a server that starts again has lost
no receipt and answers no order twice."""

from __future__ import annotations

import contextlib
import http.client
import json
from pathlib import Path

import pytest

from otr_core.poea import load_receipt_file
from otr_node.portable import PortableModel
from otr_node.server.journal import Journal
from tests.helpers.serving import LONG, Server, order_body, own_order
from tests.otr_node.server.test_answers import checked

pytestmark = pytest.mark.slow

HEAD = """
import os, signal, sys
from otr_node.server import app, desk, engine, journal
def armed():
    return os.path.exists(sys.argv[sys.argv.index("--state") + 1] + ".armed")
def dies(where, name, count=1, after=False):
    made, calls = getattr(where, name), []
    def instead(*args, **kwargs):
        calls.extend([1] * armed())
        dying = len(calls) >= count
        result = made(*args, **kwargs) if after or not dying else None
        if dying:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(where, name, instead)
"""
NEVER_WRITTEN = """
import concurrent.futures, threading
made = journal.Journal.begin
def begin(self, *args):
    if not armed():
        return made(self, *args)
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return concurrent.futures.Future()
journal.Journal.begin = begin
"""
POINTS = {
    "while its writing takes for ever": NEVER_WRITTEN,
    "before the order is written": "dies(desk.Desk, 'begin')",
    "while its writing waits": "dies(desk.Desk, 'begin', after=True)",
    "while its prompt is taken in": "dies(desk.Desk, 'recorder')",
    "in the middle of the stream": "dies(app.GrowingText, 'add', 40)",
    "before it is signed": "dies(desk.Desk, 'issue')",
    "signed and not written": "dies(desk.Desk, 'issue', after=True)",
    "before the receipt is written": "dies(desk.Desk, 'keep')",
    "written and not sent": "dies(desk.Desk, 'keep', after=True)",
    "before the last chunk": "dies(app.Wording, 'last')",
}


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_server_goes_on_where_it_was(roomy: Path, tmp_path: Path, exact: PortableModel, point: str):
    state, options = tmp_path / "state", ("--max-tokens", 900)
    first = own_order(exact.manifest.model_id, LONG, 300)
    text, ended = "", False
    with Server(roomy, state, options, HEAD + POINTS[point]) as server:
        early = own_order(exact.manifest.model_id, most=5)
        assert server.chat(order_body(early))[0] == 200
        early_receipt = server.receipt(early.order.id.hex())
        state.with_suffix(".armed").touch()
        with contextlib.suppress(OSError, http.client.HTTPException):
            for document in server.stream(order_body(first, stream=True)):
                if document != "[DONE]":
                    text += document["choices"][0]["delta"].get("content", "")
                    ended = ended or document["choices"][0]["finish_reason"] is not None
        server.wait_for_end()
        assert server.process.returncode == -9
    with Server(roomy, state, options) as server:
        assert server.receipt(early.order.id.hex()) == early_receipt
        left_over = server.wait_for("listening")["left_over"]
        assert not (ended and left_over)  # the end was told, so that the receipt had been written
        if left_over or server.ask(f"/v1/receipts/{first.order.id.hex()}")[0] == 200:
            # begun before: it has its one answer, now or soon, and cannot be ordered again
            status, reply, _ = server.chat(order_body(first))
            assert (status, reply["error"]["code"]) == (409, "order_taken")
        else:
            # never begun, so that nothing of it can have been sent
            assert not text
            assert server.chat(order_body(first))[0] == 200
        raw = server.receipt(first.order.id.hex())
        answer = checked(raw, first, server)
        assert exact.tokenizer.decode(answer.token_ids).startswith(text)
        server.stop()
    journal = Journal(state)
    try:
        kept = journal.receipts_after(0)
        assert [each.number for each in kept] == [1, 2]
        assert [each.order_id for each in kept] == [early.order.id, first.order.id]
        assert kept[1].file == raw
        assert not journal.unanswered()
    finally:
        journal.close()


def test_an_order_that_ends_the_program_is_not_tried_for_ever(roomy: Path, tmp_path: Path, exact: PortableModel):
    state, placed = tmp_path / "state", own_order(exact.manifest.model_id)
    state.with_suffix(".armed").touch()
    killer = HEAD + "dies(desk.Desk, 'issue')"
    with Server(roomy, state, (), killer) as server, contextlib.suppress(OSError, http.client.HTTPException):
        server.chat(order_body(placed))
    for _ in range(2):
        with Server(roomy, state, (), killer, wait=False) as server:
            server.wait_for_end()
            assert server.process.returncode == -9
    with Server(roomy, state, (), killer) as server:
        assert server.wait_for("listening")["left_over"] == 0
        status, reply, _ = server.ask(f"/v1/receipts/{placed.order.id.hex()}")
        assert (status, reply["error"]["code"]) == (410, "given_up")
        assert server.chat(order_body(placed))[0] == 409


def test_an_order_begun_under_other_keys_is_left_alone(roomy: Path, tmp_path: Path, exact: PortableModel):
    """Its tokens may have been shown: another receipt of it would be a second answer."""
    state, placed = tmp_path / "state", own_order(exact.manifest.model_id)
    state.with_suffix(".armed").touch()
    with (
        Server(roomy, state, (), HEAD + "dies(desk.Desk, 'keep')") as server,
        contextlib.suppress(OSError, http.client.HTTPException),
    ):
        said = server.wait_for("listening")
        assert (said["state"], said["state_made"]) == (str(state), True)
        server.chat(order_body(placed))
    (state / "enclave.secret").write_bytes(bytes(32))
    with Server(roomy, state) as server:
        said = server.wait_for("listening")
        assert (said["left_over"], said["state"], said["state_made"]) == (0, str(state), False)
        assert server.ask(f"/v1/receipts/{placed.order.id.hex()}")[0] == 410
        assert server.chat(order_body(placed))[0] == 409


def test_what_was_stored_is_readable_by_nobody_else(server: Server):
    for path in (server.state, *server.state.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_the_receipt_says_the_text_that_was_answered(server: Server, exact: PortableModel):
    placed = own_order(exact.manifest.model_id, most=20)
    _, reply, _ = server.chat(order_body(placed))
    file = load_receipt_file(server.receipt(placed.order.id.hex()))
    said = json.loads(file.dump())["response"]["plain"]["token_ids"]
    assert reply["choices"][0]["message"]["content"] == exact.tokenizer.decode(said)
