"""What goes wrong in a run of a devnet, drawn from its seed: who cheats and who lies, which processes
die when, and what node, clocks and disks do meanwhile.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any

from otr_core.errors import ParameterError
from otr_paper.devnet.attacks import FALSE_CHALLENGES, SILENT, WITHHELD, tellable

CLIENTS = ("client-1", "client-2", "client-3")
"""Each orders an answer of each operator."""
SEALING = CLIENTS[1]
"""The client that seals its queries."""
PARTIES = ("operator-1", "operator-2", "fisherman-1", "fisherman-2", *CLIENTS)
"""Who has an account at the court."""
SERVERS = {"operator-1": "server-1", "operator-2": "server-2"}
"""The server beside which each operator works."""
PROCESSES = (*PARTIES, *SERVERS.values())
MOMENTS = 90
"""Events that a run has at the least, or nearly; a fault comes after a random one of them."""
STALE = ("eth_blockNumber", "eth_getLogs", "eth_getTransactionReceipt", "eth_getTransactionByHash")
"""Questions to which an old answer may come."""


def answer_name(operator: str, client: str) -> str:
    """What an operator's answer to a client's order goes by."""
    return f"{operator}.{client}"


def answered_by(answer: str) -> str:
    """Whose answer one is, by its name."""
    return answer.partition(".")[0]


ANSWERS = tuple(answer_name(operator, client) for operator in SERVERS for client in CLIENTS)
"""All that are given in a run."""


@dataclass(frozen=True)
class NetworkFault:
    """Something that goes wrong once.

    Attributes:
        kind: kill | node | disk. who: the process; of a node "". after: events before it. wait_s: from
            that event to the fault. lasts_s: until the process starts again, the node comes back, or
            the disk has room.
    """

    kind: str
    who: str
    after: int
    wait_s: float
    lasts_s: float


def met_by(fault: NetworkFault, running: Iterable[str]) -> str:
    """The process that a fault meets; "": it does not run, or the fault meets none."""
    return next((name for name in running if fault.who and name.startswith(fault.who)), "")


def strike(
    due: list[NetworkFault], events: int, running: Collection[str], fall: Callable[[NetworkFault], None]
) -> None:
    """Let fall what is due after so many events, and take it off the list. What is to meet a process that is not
    among those ``running``, or that another fault ends before it, waits for it."""
    for fault in [each for each in due if each.after <= events and (not each.who or met_by(each, running))]:
        time.sleep(fault.wait_s)
        if not fault.who or met_by(fault, running):
            due.remove(fault)
            fall(fault)


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        seed: of all that is drawn. attack: of operator 2 (``attack_named``); "": it is honest.
            false_challenges: how fisherman 2 lies; "": it is honest. faults: in the order of their
            moments. skews_s: by process, seconds by which its clock is wrong. troubled: share of
            requests to the node that go wrong on the way.
    """

    seed: int = 0
    attack: str = ""
    false_challenges: str = ""
    faults: tuple[NetworkFault, ...] = ()
    skews_s: tuple[tuple[str, float], ...] = ()
    troubled: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.troubled <= 0.5:
            raise ParameterError("troubled", self.troubled, "0 to 0.5")


def plan_of(seed: int) -> Plan:
    """The run of a seed. Every run has at least one kill; all else is drawn."""
    draw = Random(f"otr chaos {seed}")
    lie = draw.choice(tellable()).name
    attack = draw.choices(("", lie, f"{SILENT}{lie}", WITHHELD), (3, 5, 1, 2))[0]
    liar = draw.choice(FALSE_CHALLENGES) if draw.random() < 0.3 else ""
    faults = [_fault(draw, "kill", draw.choice((*PROCESSES, "registrar"))) for _ in range(draw.randint(1, 5))]
    if draw.random() < 0.3:
        faults.append(_fault(draw, "node", ""))
    if draw.random() < 0.3:
        faults.append(_fault(draw, "disk", draw.choice(PROCESSES)))
    skewed = draw.sample(PARTIES, draw.randint(1, 3)) if draw.random() < 0.4 else []
    skews = tuple((who, draw.choice((-1, 1)) * 10 ** draw.uniform(1, 7.5)) for who in skewed)
    troubled = draw.uniform(0.02, 0.25) if draw.random() < 0.4 else 0.0
    return Plan(seed, attack, liar, tuple(sorted(faults, key=lambda each: each.after)), skews, troubled)


def _fault(draw: Random, kind: str, who: str) -> NetworkFault:
    return NetworkFault(kind, who, draw.randrange(MOMENTS), draw.uniform(0, 0.4), draw.uniform(0, 1.5))


class Door(ThreadingHTTPServer):
    """Stands before a node's door. A share of what goes through comes late, twice, as an old answer, as
    an error, or is done and never answered.

    Args:
        url: of the node. share: of requests. seed: of what happens to them.

    Attributes:
        done: requests by what has happened to them.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, url: str, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.node_url, self.share, self.draw = url, share, Random(f"door {seed}")
        self.lock, self.kept, self.done = threading.Lock(), dict[bytes, bytes](), dict[str, int]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the door."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that was killed while it asked is no error of the door's."""

    def forwarded(self, body: bytes) -> bytes:
        """The node's answer."""
        asked = urllib.request.Request(self.node_url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return bytes(answer.read())

    def fate(self, method: str) -> tuple[str, float]:
        """What happens to a request, and how long it takes."""
        with self.lock:
            ways: Sequence[str] = ("late", "twice", "error", "unanswered", *(["stale"] if method in STALE else []))
            way = self.draw.choice(ways) if self.draw.random() < self.share else "through"
            self.done[way] = self.done.get(way, 0) + 1
            return way, 10 ** self.draw.uniform(-2, -0.2)


class _Passing(BaseHTTPRequestHandler):
    """One request."""

    server: Door
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        asked = json.loads(body)
        way, takes_s = self.server.fate(str(asked.get("method")))
        if way == "late":
            time.sleep(takes_s)
        if way == "error":
            self.send_error(503)
            return
        what = json.dumps([asked.get("method"), asked.get("params")]).encode()
        old = self.server.kept.get(what)
        try:
            said = self.server.forwarded(body)
            if way == "twice":
                said = self.server.forwarded(body)
        except (OSError, urllib.error.URLError):
            self.send_error(502)
            return
        if asked.get("method") in STALE:
            self.server.kept[what] = said
        if way == "stale" and old is not None:
            said = json.dumps(json.loads(old) | {"id": asked.get("id")}).encode()
        if way == "unanswered":
            self.close_connection = True
            return
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *about: Any) -> None:
        """Nothing is logged."""
