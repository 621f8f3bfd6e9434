"""A real server in a process of its own, and what its clients send."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otr_core.lane.sampling import Decoding
from otr_core.poea import Domain, PlacedOrder, place_order
from tests.helpers.command_line import RUN, start

DEADLINE_S = 120
LONG = (1, 5, 5)
"""A prompt to which the tiny checkpoint with room for 1,024 tokens has no end of its own, greedily."""
HELD = """
import os, sys, time
from otr_node.batching import ContinuousBatch
made = ContinuousBatch.step
def step(self, tokens):
    while os.path.exists(sys.argv[sys.argv.index("--state") + 1] + ".held"):
        time.sleep(0.01)
    return made(self, tokens)
ContinuousBatch.step = step
"""
"""What a server whose model can be held up (``Server.holding``) runs first: a test of what is late, or waits, is then
one whatever the speed of the machine."""


@dataclass
class Server:
    """``otr serve`` on a checkpoint.

    Attributes:
        state: its folder. options: of the command. before: Python that runs in the process first.
    """

    folder: Path
    state: Path
    options: tuple[object, ...] = ()
    before: str = ""
    wait: bool = True
    url: str = field(default="", init=False)

    def __enter__(self) -> Server:
        self.log = self.state.with_suffix(f".{secrets.token_hex(4)}.log")
        words = ["serve", "--model", self.folder, "--state", self.state, "--port", 0, *self.options]
        self.log.touch()
        self.process = start(*words, out=os.devnull, err=self.log, code=f"{self.before}\n{RUN}")
        try:
            self.url = self.wait_for("listening")["url"] if self.wait else ""
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """As power that fails."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout: float = 60) -> int:
        """In order; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Meanwhile nothing is computed, where ``HELD`` ran first."""
        held = Path(f"{self.state}.held")
        held.touch()
        try:
            yield
        finally:
            held.unlink()

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        """Lines of the log so far, of one event."""
        *whole, _ = self.log.read_text().split("\n")  # the last is being written
        found = [json.loads(line) for line in whole if line.startswith("{")]
        return [line for line in found if event in ("", line["event"])]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The line of the log that says so."""
        until = time.monotonic() + DEADLINE_S
        while True:
            ended = self.process.poll() is not None  # asked before its last words are read
            if len(found := self.lines(event)) >= count:
                return found[count - 1]
            assert not ended, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)

    def wait_for_end(self) -> None:
        self.process.wait(DEADLINE_S)

    def connect(self, timeout: float = DEADLINE_S) -> http.client.HTTPConnection:
        place = urllib.parse.urlsplit(self.url)
        return http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout)

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        """Status, document and headers; a body that is bytes is sent as it is."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        try:
            shown = {"content-type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}}
            connection.request("GET" if raw is None else "POST", path, raw, shown)
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        kind = reply.headers.get("content-type", "")
        given = {name.lower(): value for name, value in reply.headers.items()}
        return reply.status, json.loads(text) if kind == "application/json" else text, given

    def chat(self, body: Any, **headers: str) -> tuple[int, Any, Mapping[str, str]]:
        return self.ask("/v1/chat/completions", body, **headers)

    def receipt(self, order_id: str) -> bytes:
        """The receipt file's bytes, as soon as there is one."""
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            connection = self.connect()
            connection.request("GET", f"/v1/receipts/{order_id}")
            reply = connection.getresponse()
            raw = reply.read()
            connection.close()
            if reply.status == 200:
                return raw
            assert reply.status == 202, raw
            time.sleep(0.02)
        raise AssertionError("no receipt")

    def stream(self, body: Mapping[str, Any]) -> Iterator[Any]:
        """The documents of a stream, "[DONE]" the last."""
        connection = self.connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            assert reply.status == 200, reply.read()
            for line in reply:
                if line.startswith(b"data: "):
                    said = line[6:].strip()
                    yield "[DONE]" if said == b"[DONE]" else json.loads(said)
        finally:
            connection.close()


def request(model: str, text: str = "w5 w6", **more: Any) -> dict[str, Any]:
    """A plain request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def own_order(
    model_id: bytes, ids: tuple[int, ...] = (1, 5, 6), most: int = 8, *, domain: Domain | None = None, **fields: Any
) -> PlacedOrder:
    """A client's own order of token ids."""
    fresh = {name: os.urandom(32) for name in ("job_id", "nonce", "client_secret")}
    seal_to = fields.pop("seal_to", None)
    decoding = Decoding(most, **fields)
    return place_order(ids, model_id=model_id, decoding=decoding, domain=domain, seal_to=seal_to, **fresh)


def order_body(placed: PlacedOrder, **more: Any) -> dict[str, Any]:
    """The request that sends it."""
    return {"otr_order": json.loads(placed.sent), **more}
