"""What receipts cost a server, measured now: two servers of one model, with and without trace, journal
and receipts, asked the same in turns."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otr_core.cli import run_reported
from otr_core.errors import InputError, ServiceError
from otr_node.accuracy import TEXT
from otr_node.lanes import load_model
from otr_node.server.desk import Clerk
from otr_node.server.limits import ServerLimits
from otr_node.server.program import ServerPlan, run_server
from otr_paper.benches.turns import check_counts

WAYS = ("bare", "receipts")
"""A server without trace, journal and receipts, and one with them."""
_START_S = 300.0
_NAME = "measured"


@dataclass(frozen=True)
class ServingPlan:
    """How much is measured.

    Attributes:
        rounds: turns of each server, of which each has two. batch: clients at once. tokens: most tokens
            of an answer. words: of a prompt. alone: requests, one after the other, whose first token
            is timed on an idle server, in each turn.

    Raises:
        ParameterError: nothing to measure, or more than a run can end with.
    """

    rounds: int = 3
    batch: int = 16
    tokens: int = 64
    words: int = 40
    alone: int = 4

    def __post_init__(self) -> None:
        check_counts(self, "rounds", "batch", "tokens", "words", "alone")

    def prompt(self, number: int) -> str:
        """Prose, for each number another piece of it."""
        words = TEXT.split()
        return " ".join(words[(7 * number + at) % len(words)] for at in range(self.words))


@dataclass
class _Turns:
    """What the turns of one server gave, a value each."""

    tokens_per_s: list[float] = field(default_factory=list)
    cpu_s_per_token: list[float] = field(default_factory=list)
    hashing_s_per_token: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    first_alone_s: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in vars(self).items()}


@dataclass(frozen=True)
class _Running:
    """A server at work."""

    place: tuple[str, int]
    pid: int

    def answer(self, plan: ServingPlan, number: int, tokens: int) -> tuple[float, int]:
        """Seconds to the first token of a streamed answer, and how many tokens it had."""
        body = {"model": _NAME, "messages": [{"role": "user", "content": plan.prompt(number)}], "max_tokens": tokens}
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        connection = http.client.HTTPConnection(*self.place, timeout=600)
        try:
            start, first, count = time.perf_counter(), 0.0, 0
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            if reply.status != http.client.OK:
                raise ServiceError(reply.status, "refused", f"server: refuses with status {reply.status}")
            for line in reply:
                # the first chunk is sent with the first token
                first = first or time.perf_counter() - start
                if b'"usage"' in line:
                    count = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
            return first, count
        finally:
            connection.close()

    def turn(self, plan: ServingPlan, turns: _Turns) -> None:
        """All clients at once, then some alone."""
        (cpu, hashing), clock = self._cpu_s(), time.perf_counter()
        with ThreadPoolExecutor(plan.batch) as pool:
            found = list(pool.map(lambda number: self.answer(plan, number, plan.tokens), range(plan.batch)))
        clock, (cpu_after, hashing_after) = time.perf_counter() - clock, self._cpu_s()
        tokens = sum(count for _, count in found)
        turns.tokens_per_s.append(tokens / clock)
        turns.cpu_s_per_token.append((cpu_after - cpu) / tokens)
        turns.hashing_s_per_token.append((hashing_after - hashing) / tokens)
        turns.first_s.append(statistics.median(first for first, _ in found))
        turns.first_alone_s.append(statistics.median(self.answer(plan, n, 1)[0] for n in range(plan.alone)))

    def _cpu_s(self) -> tuple[float, float]:
        """CPU seconds of the server, and of the process that hashes for it."""
        (child,) = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in (self.pid, child)]
        server, hashing = ((int(each[11]) + int(each[12])) / os.sysconf("SC_CLK_TCK") for each in stats)
        return server, hashing


def measure_serving(folder: Path, plan: ServingPlan | None = None, *, lane: str = "portable-1") -> dict[str, Any]:
    """Measure servers of a checkpoint, in turns: without, with, with, without.

    Returns:
        JSON values, medians over the turns. bare, receipts: tokens_per_s of all clients together;
        cpu_s_per_token of the server's program, hashing_s_per_token of the process that hashes for it;
        first_s, first_alone_s: from a request to its
        first token, of one among ``batch`` that come at once, and of one alone. throughput_loss: part
        of the bare rate that receipts cost. cpu_added: CPU time of a token in the server's program over
        the bare one, less 1: what the loss comes to where a core is free for the hashing.
        hashing_cpu: that of the process that hashes, over the bare one.
        first_delay_ms, first_delay_alone_ms: what they delay a first token by.
    """
    plan = plan or ServingPlan()
    turns = {way: _Turns() for way in WAYS}
    with tempfile.TemporaryDirectory() as state, _servers(folder, Path(state), plan, lane) as servers:
        for server in servers.values():
            server.turn(plan, _Turns())  # not counted: memory is touched and grown
        for _ in range(plan.rounds):
            for way in (*WAYS, *reversed(WAYS)):
                servers[way].turn(plan, turns[way])
    bare, receipts = (turns[way].medians() for way in WAYS)
    return {
        "lane": lane,
        "batch": plan.batch,
        "most_tokens": plan.tokens,
        "prompt_words": plan.words,
        "rounds": plan.rounds,
        "bare": bare,
        "receipts": receipts,
        "throughput_loss": 1 - receipts["tokens_per_s"] / bare["tokens_per_s"],
        "cpu_added": receipts["cpu_s_per_token"] / bare["cpu_s_per_token"] - 1,
        "hashing_cpu": receipts["hashing_s_per_token"] / bare["cpu_s_per_token"],
        "first_delay_ms": 1000 * (receipts["first_s"] - bare["first_s"]),
        "first_delay_alone_ms": 1000 * (receipts["first_alone_s"] - bare["first_alone_s"]),
    }


@contextmanager
def _servers(folder: Path, state: Path, plan: ServingPlan, lane: str) -> Iterator[Mapping[str, _Running]]:
    """Both servers, started and at the end stopped."""
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for way in WAYS:
            words: Sequence[str] = (str(folder), str(state / way), way, lane, str(plan.batch))
            command = [sys.executable, "-m", "otr_paper.benches.serving", *words]
            started[way] = subprocess.Popen(command, stderr=(state / f"{way}.log").open("w"))
        yield {way: _listening(child, state / f"{way}.log") for way, child in started.items()}
    finally:
        for child in started.values():
            child.terminate()
        for child in started.values():
            child.wait()


def _listening(child: subprocess.Popen[bytes], log: Path) -> _Running:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and child.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                parts = urllib.parse.urlsplit(json.loads(line)["url"])
                return _Running((str(parts.hostname), int(parts.port or 0)), child.pid)
        time.sleep(0.1)
    last = log.read_text().strip().rpartition("\n")[2].removeprefix("error: ")
    if child.poll() == 2:
        raise InputError(f"server: {last}")
    raise ServiceError(503, "not_started", f"server: found it not listening ({last!r})")


def main() -> None:
    """One of the two servers."""
    folder, state, way, lane, batch = sys.argv[1:]
    plan = ServerPlan(
        Path(state), port=0, limits=ServerLimits(batch=int(batch)), clerk=Clerk() if way == "bare" else None
    )
    run_reported(lambda: run_server(plan, lambda: load_model(folder, lane=lane), name=lambda model: _NAME))


if __name__ == "__main__":
    main()
