"""``otr devnet``: starts a network on this machine, moves its time, tells what happens, and ends it.

Every part is a process that does not know of the others but through the chain and its files: a node
(anvil, Osaka rules), two operators, two fishermen (``otr watch``), a client. The conductor plays no
part of the protocol but the registrar's: it deploys, and registers the operators' keys once their
(simulated) evidence holds.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account

from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.registry import Key
from otr_core.dispute.state import Turn
from otr_core.errors import OtrError
from otr_node.chain.access import attached
from otr_node.chain.answers import OwnModel
from otr_node.chain.anvil import Anvil, find_anvil, known_keys
from otr_node.chain.followed import Followed
from otr_node.chain.keys import VARIABLE
from otr_node.chain.onchain import FIRST_COURT
from otr_node.chain.rpc import RpcChain
from otr_node.commitment import commit_model
from otr_node.project import Project
from otr_paper.devnet.parties import lie_named
from otr_paper.labs.disputes.parties import KEY_ID, KEYS
from otr_paper.labs.disputes.statement_lies import Lie
from otr_paper.labs.disputes.world import tiny, tiny_bench

ROLES = ("registrar", "operator-1", "operator-2", "fisherman-1", "fisherman-2", "client")
_IDLE_S = 4.0
"""Seconds without a block after which a game that waits for a cheat is taken for silent."""
Emit = Callable[[dict[str, Any]], None]


@dataclass
class DevnetEnd:
    """How a devnet has ended.

    Attributes:
        seconds: from the start to its end. slashed_s: to the conviction of the cheat; None: there was
            none. honest_slashed: whether an honest operator was convicted. paid: fishermen that were.
        finalised: whether the honest operator's answer became final. left: children that did not end.
    """

    seconds: float = 0.0
    slashed_s: float | None = None
    honest_slashed: bool = False
    paid: list[str] = field(default_factory=list)
    finalised: bool = False
    left: int = 0


@dataclass
class Devnet:
    """One run.

    Attributes:
        folder: for everything it writes. attack: name of a lie; "": nobody cheats. seconds: most that
            it may take. emit: is given each event.
    """

    project: Project
    folder: Path
    attack: str
    seconds: float
    emit: Emit
    children: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    outcome: DevnetEnd = field(default_factory=DevnetEnd)

    def run(self) -> DevnetEnd:
        """Start everything, let it run to its end, end everything.

        Raises:
            OtrError: a part cannot be started, or the attack is unknown.
        """
        self._began = time.time()
        self._start, self._events = time.monotonic(), queue.Queue[dict[str, Any]]()
        self._password = secrets.token_hex(16)
        lie = lie_named(self.attack) if self.attack else None
        program = find_anvil(self.project.build / "node")
        if program is None:
            raise OtrError(
                "anvil: found none, expected it on the path, in OTR_ANVIL, or from: "
                "npm install --ignore-scripts --prefix build/node @foundry-rs/anvil@1.7.1"
            )
        node = Anvil(program, chain_id=FIRST_COURT.chain_id)
        try:
            self._say("conductor", "node", url=node.url, pid=node.pid, rules="osaka")
            self._play(node, lie)
        finally:
            self.outcome.left = self._end_children()
            node.stop()
            self.outcome.seconds = time.monotonic() - self._start
        return self.outcome

    # --- the play

    def _play(self, node: Anvil, lie: Lie | None) -> None:
        cheats = lie is not None
        self._node, keys = RpcChain(node.url, known_keys(1), poll_s=0.05), known_keys(len(ROLES))
        self._url, bench = node.url, tiny_bench()
        for name, key in zip(ROLES, keys, strict=True):
            # These keys everybody knows, so their files may be quick to open.
            text = json.dumps(Account.encrypt(key.key, self._password, kdf="scrypt", iterations=2))
            self._file(f"{name}.key").write_text(text)
        for name in ("operator-1", "operator-2"):
            (self.folder / name / "inbox").mkdir(parents=True)
        (self.folder / "client").mkdir()
        if lie is not None:
            placed = tiny(lie.tell().signed.order.decoding.temperature_milli).placed
            (self.folder / "client" / "operator-2.order.json").write_bytes(placed.dump())
        terms = (self.project.root / "docs" / "terms.toml").read_text().replace("arity_bits = 4", "arity_bits = 2")
        self._file("terms.toml").write_text(terms)
        court, model = str(self._file("court.json")), str(bench.folder)
        self._model = model
        chain = ["--rpc", node.url, "--key", str(self._file("registrar.key"))]
        deploy = ["chain", "deploy", *chain, "--terms", str(self._file("terms.toml")), "--model", model, "--out", court]
        self._otr("deploy", *deploy)
        own = OwnModel(bench.portable, commit_model(bench.portable))
        at = attached(self._node, Path(court))
        at.attach_judge(own.id, json.loads(Path(court).read_text())["judges"][own.id.hex()], own.trees)
        self._names = {key.address.lower(): name for name, key in zip(ROLES, keys, strict=True)}
        if cheats:
            at.register_key(KEY_ID, Key(keys[2].address.lower(), own.id, KEYS.address))
        self._say("conductor", "deployed", court=at.court.address, gas=sum(each.gas for each in at.ledger))
        for name in ("operator-1", "operator-2"):
            self._party(name, "operator", name, self.attack if cheats and name == "operator-2" else "")
        self._party("client", "client", "client", self.attack)
        for name in ("fisherman-1", "fisherman-2"):
            about = ["--orders", str(self.folder / "client"), "--court", court, "--model", model, "--poll", "0.3"]
            words = ["watch", "--rpc", node.url, "--key", str(self._file(f"{name}.key")), *about]
            self._child(name, [sys.executable, "-m", "otr_core.cli", *words])
        self._follow(Followed(at, {own.id: own.registered}), at, cheats)

    def _follow(self, followed: Followed, at: Any, cheats: bool) -> None:
        """Watch, register keys, move time, until all is settled or the time is up."""
        height, since, registered, waited = -1, time.monotonic(), set[str](), False
        want = {"operator-1"} if cheats else {"operator-1", "operator-2"}
        judged: set[tuple[str, str]] = set()
        while time.monotonic() - self._start < self.seconds:
            for event in self._drained():
                if event["event"] == "judged":
                    judged.add((event["process"], str(event["answer"])))
            followed.read()
            if followed.height != height:
                height, since = followed.height, time.monotonic()
            for name in sorted(want - registered):
                receipt = self.folder / name / "answers" / f"{name}.receipt.json"
                busy = any(own.startswith("registrar") and each.poll() is None for own, each in self.children.items())
                if receipt.exists() and not busy:
                    where = next(address for address, own in self._names.items() if own == name)
                    chain = ["--rpc", self._url, "--key", str(self._file("registrar.key"))]
                    about = ["--court", str(self._file("court.json")), "--receipt", str(receipt), "--operator", where]
                    words = [sys.executable, "-m", "otr_core.cli", "chain", "register", *chain, *about]
                    self._child(f"registrar of {name}", words)
                    registered.add(name)
                    self._say("conductor", "registers a key", operator=name, why="if its (simulated) evidence holds")
            court, terms = followed.court, followed.court.terms
            convicted = {self._names.get(each, each) for each in followed.logs.convicted}
            self.outcome.honest_slashed = bool(convicted - ({"operator-2"} if cheats else set()))
            if "operator-2" in convicted and self.outcome.slashed_s is None:
                self.outcome.slashed_s = time.monotonic() - self._start
                self._say("conductor", "slashed", operator="operator-2", seconds=round(self.outcome.slashed_s, 1))
            won = {each.challenger for each in court.challenges if each.status == ChallengeStatus.WON}
            paid = {each for each in won if not followed.logs.credits.get(each)} if won else set()
            rewarded = any(followed.logs.rewards.get(each) == 0 for each in followed.logs.convicted)
            playing = [each for each in court.challenges if each.status == ChallengeStatus.OPEN]
            idle = time.monotonic() - since > _IDLE_S
            silent = all(each.game is not None and each.game.turn == Turn.OPERATOR for each in playing)
            sealed = any(each.status == ChallengeStatus.COMMITTED for each in court.challenges)
            if idle and playing and silent and cheats:
                self._later(terms.clock_s + 10, "the operator is silent")
            elif idle and "operator-2" in convicted and not playing and not sealed and not rewarded:
                self._later(terms.claim_s + 10, "so that earlier challenges can be opened")
            seen = all((fisherman, name) in judged for fisherman in ROLES[3:5] for name in want)
            settled = not cheats or (rewarded and paid == won)
            if idle and seen and settled and not playing and not sealed and not waited:
                waited = True
                self._later(terms.window_s + terms.reveal_s + 10, "the honest answer's window")
            final = [self._names.get(each.operator) for each in court.batches.values() if each.closed]
            self.outcome.finalised, self.outcome.paid = want <= set(final), sorted(self._names[each] for each in paid)
            if self.outcome.finalised and settled:
                return
            for name, child in self.children.items():
                if child.poll() not in (None, 0):
                    said = self._file(f"{name}.err").read_text().strip().splitlines()[-1:]
                    raise OtrError(f"{name}: ended by itself, status {child.returncode}: {' '.join(said)[:300]}")
            time.sleep(0.2)

    def _later(self, seconds: int, why: str) -> None:
        self._node.advance(seconds)
        self._say("conductor", "time moved", seconds=seconds, why=why)

    # --- children

    def _file(self, name: str) -> Path:
        return self.folder / name

    def _environment(self) -> dict[str, str]:
        return {**os.environ, VARIABLE: self._password}

    def _otr(self, what: str, *words: str) -> None:
        """A command that ends by itself."""
        full = [sys.executable, "-m", "otr_core.cli", *words]
        done = subprocess.run(full, env=self._environment(), capture_output=True, text=True, timeout=self.seconds)
        if done.returncode:
            raise OtrError(f"{what}: {done.stderr.strip().splitlines()[-1:]}")

    def _party(self, name: str, role: str, folder: str, attack: str) -> None:
        files = str(self._file(f"{name}.key")), str(self._file("court.json")), self._model
        words = [role, self._url, *files, str(self.folder / folder), attack, str(self._file(f"{name}.state"))]
        self._child(name, [sys.executable, "-m", "otr_paper.devnet.parties", *words])

    def _child(self, name: str, words: list[str]) -> None:
        log = self._file(f"{name}.err").open("w")
        child = subprocess.Popen(
            words, env=self._environment(), stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=_die_with_parent
        )
        self.children[name] = child
        threading.Thread(target=self._listen, args=(name, child), daemon=True).start()

    def _listen(self, name: str, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            self._events.put({**said, "process": name})

    def _drained(self) -> list[dict[str, Any]]:
        found = []
        while not self._events.empty():
            event = self._events.get()
            found.append(event)
            self.emit({"s": round(event.pop("at", time.time()) - self._began, 1), **event})
        return found

    def _say(self, who: str, event: str, **about: Any) -> None:
        self.emit({"s": round(time.monotonic() - self._start, 1), "process": who, "event": event, **about})

    def _end_children(self) -> int:
        """End every child; how many had to be killed."""
        for child in self.children.values():
            child.terminate()
        killed = 0
        for child in self.children.values():
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                killed += 1
        return killed


def _die_with_parent() -> None:
    """Children of a conductor that was killed end too (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
