"""A network on this machine: starts it, moves its time, lets go wrong what the plan says, tells what
happens, judges how it has ended, and ends it.

Every part is a process that does not know of the others but through the chain, HTTP and its files: a
node (anvil, or the embedded chain behind its door), two servers (``otr serve``), beside each its
operator (``otr operate``), which puts its stake down first (``otr chain register``), two fishermen
(``otr watch``), three clients that order as ``otr ask`` does, one of them sealed. The conductor plays no
part of the protocol but the registrar's: it deploys, has the operators' keys registered once their
(simulated) evidence holds, and starts again what has died, as a machine's supervisor does. An operator
that is told to lie has got hold of a key besides, of a TEE that is broken: no evidence of it is appraised.

Time is moved when everybody has looked at the chain and nobody has anything to do: what an honest
process leaves undone then, it pays for.
"""

from __future__ import annotations

import json
import math
import resource
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from otr_core.dispute.records import ChallengeStatus
from otr_node.chain.access import attached
from otr_node.chain.anvil import free_port, known_keys
from otr_node.chain.fisherman import PATIENCE_S
from otr_node.chain.followed import Followed
from otr_node.chain.rpc import RpcChain
from otr_paper.devnet.attacks import attack_named
from otr_paper.devnet.faults import (
    ANSWERS,
    PARTIES,
    PROCESSES,
    SEALING,
    SERVERS,
    Door,
    NetworkFault,
    Plan,
    answered_by,
    met_by,
    strike,
)
from otr_paper.devnet.ground import DevnetEnd, Ground
from otr_paper.devnet.parties import heartbeat_of
from otr_paper.devnet.processes import Processes
from otr_paper.devnet.standing import CHEAT, CLIENTS_FOLDER, LIED_TO, NetworkStanding
from otr_paper.labs.disputes.world import tiny

FISHERMEN = PARTIES[2:4]
_LATER_S = 10
_DULL_S = 4.0
"""Seconds in which nobody says anything, after which the next fault comes before its moment."""
_RETRY_S = 1.5
"""Between two attempts to register, and from a process's end to its next start."""
_LOOKS = 3
"""So often everybody must have looked at the chain since anything has changed, before time is moved: who has
something to do does it at the first look, whatever else the machine does."""
Emit = Callable[[dict[str, Any]], None]


@dataclass
class Devnet:
    """One run.

    Attributes:
        ground: what it begins with. folder: for everything it writes. plan: what happens. seconds:
            most that it may take. emit: is given each event. idle_s: seconds without a block after
            which time is moved, if nobody has anything to do. blameless: taken for honest whatever
            they do, to see that the judge sees it.
    """

    ground: Ground
    folder: Path
    plan: Plan
    seconds: float
    emit: Emit
    processes: Processes
    idle_s: float = 1.0
    blameless: tuple[str, ...] = ()
    outcome: DevnetEnd = field(default_factory=DevnetEnd, init=False)

    def run(self) -> DevnetEnd:
        """Start everything, let it run to its end, end everything.

        Raises:
            OtrError: a part cannot be started, or the attack is unknown.
        """
        self._start = self._heard = time.monotonic()
        self._attack, self._stood = attack_named(self.plan.attack), -1
        self._state = self.folder / "chain.json"
        self._state.write_bytes((self.ground.folder / "chain.json").read_bytes())
        self._node, self._door = self.ground.node(self._state), None
        self._url = self._node.url
        if self.plan.troubled:
            self._door = Door(self._node.url, self.plan.troubled, self.plan.seed)
            self._url = self._door.url
        try:
            self._say("conductor", "node", url=self._node.url, pid=self._node.pid, rules=self._node.rules)
            self._begin()
            self._follow()
            self._now.judge(self.outcome, self._received, self._hashes, self._moves, self.blameless)
        finally:
            self.outcome.left = self.processes.end_all()
            if self._door is not None:
                self._door.stop()
            self._node.stop()
            self.outcome.seconds = time.monotonic() - self._start
        return self.outcome

    # --- the beginning

    def _begin(self) -> None:
        cheats, liar = bool(self.plan.attack), bool(self.plan.false_challenges)
        self._honest = {name for name in PARTIES if (name, True) not in ((CHEAT, cheats), (FISHERMEN[1], liar))}
        self._events, self._due = 0, list(self.plan.faults)
        self._again: dict[str, float] = {}
        self._full: dict[str, float] = {}
        self._young: dict[str, float] = {}
        self._looks: dict[str, tuple[float, int, int]] = {}
        self._received: dict[str, int] = {}
        self._hashes: dict[str, str] = {}
        self._moves, self._tried, self._staked = 0, dict[str, float](), set[str]()
        self._ports = {server: free_port() for server in SERVERS.values()}
        self._listening, self._launched, self._jobs = set[str](), list[str](), dict[str, list[str]]()
        (self.folder / CLIENTS_FOLDER).mkdir()
        if self._attack.lie is not None:
            placed = tiny(self._attack.lie.tell().signed.order.decoding.temperature_milli).placed
            (self.folder / CLIENTS_FOLDER / f"{LIED_TO}.order.json").write_bytes(placed.dump())
        chain = RpcChain(self._node.url, known_keys(1), poll_s=0.02)
        self._chain, own = chain, self.ground.own
        at = attached(chain, self.ground.folder / "court.json")
        at.attach_judge(
            own.id, json.loads((self.ground.folder / "court.json").read_text())["judges"][own.id.hex()], own.trees
        )
        self._followed = Followed(at, {own.id: own.registered})
        self._now = NetworkStanding(
            self.ground, self.folder / CLIENTS_FOLDER, self._attack, self._followed, frozenset(self._honest)
        )
        self._stood = chain.time
        self._say("conductor", "deployed", court=at.court.address)
        for name in (*SERVERS.values(), *(each for each in PARTIES if each not in SERVERS)):
            self._launch(name)

    def _launch(self, name: str) -> None:
        """Start a process as it is started the first time and each time again."""
        self._launched += [] if name in self._launched or name not in PROCESSES else [name]
        key, court = str(self.ground.folder / f"{name.partition(' ')[0]}.key"), str(self.ground.folder / "court.json")
        model, state = str(self.ground.model), str(self.folder / f"{name}.state")
        beat = ["--state", state, "--poll", "0.2", "--heartbeat", str(heartbeat_of(Path(state)))]
        skew = dict(self.plan.skews_s).get(name, 0.0)
        client, role = str(self.folder / CLIENTS_FOLDER), name.partition("-")[0]
        if name in self._jobs:
            # What it has signed belongs to this run's chain: kept beside the key, the next run would send it.
            state = str(self.folder / f"{name.partition(' ')[0]}.state")
            words = ["chain", "register", "--rpc", self._url, "--key", key, "--court", court, "--state", state]
            self.processes.start(name, "otr", [*words, *self._jobs[name]])
        elif role == "fisherman" and (name in self._honest):
            about = ["--orders", client, "--court", court, "--model", model, *beat]
            self.processes.start(name, "otr", ["watch", "--rpc", self._url, "--key", key, *about], skew)
        elif role == "operator" and name in self._honest:
            about = [str(self.folder / SERVERS[name]), "--court", court, "--model", model, *beat]
            self.processes.start(name, "otr", ["operate", "--rpc", self._url, "--key", key, *about], skew)
        elif role == "server":
            self._serve(name, model)
        else:
            kind, folder = ("liar" if role == "fisherman" else role), client
            attack = f"{self.plan.false_challenges}/{self.plan.seed}" if kind == "liar" else self.plan.attack
            if role == "operator":
                folder = str(self.folder / SERVERS[name])
            if role == "client":
                urls = {each: f"http://127.0.0.1:{self._ports[server]}" for each, server in SERVERS.items()}
                attack = json.dumps({"name": name, "servers": urls, "sealed": name == SEALING})
            self.processes.start(name, "party", [kind, self._url, key, court, model, folder, attack, state], skew)

    def _serve(self, name: str, model: str) -> None:
        """Start a server; one of a broken TEE is a program of its own. Its clock is the chain's, which is another
        than the machine's once time was moved, and on the embedded chain from its beginning: evidence has a date,
        and who appraises it goes by the chain's."""
        self._listening.discard(name)
        ahead = float(math.floor(self._chain.time - time.time()))
        folder, port, domain = str(self.folder / name), str(self._ports[name]), self._followed.chain.domain
        if name == SERVERS[CHEAT] and self._attack.lie is not None:
            words = ["server", model, folder, port, str(domain.chain_id), domain.court.hex(), self.plan.attack]
            self.processes.start(name, "party", words, ahead)
            return
        words = ["serve", "--model", model, "--state", folder, "--port", port, "--stop-seconds", "5"]
        words += ["--chain-id", str(domain.chain_id), "--court", domain.court.hex()]
        self.processes.start(name, "otr", words, ahead)

    # --- while it runs

    def _follow(self) -> None:
        """Watch, register keys, move time, until all is settled or the time is up."""
        height, since = -1, time.monotonic()
        while time.monotonic() - self._start < self.seconds:
            now = time.monotonic()
            self._listen()
            self._supervise(now)
            strike(self._due, self._events, self.processes.pids, self._fall)
            if self._followed.height != height:
                height, since = self._followed.height, now
            self._note_slash()
            quiet = now - max(since, self._heard)
            if quiet > _DULL_S and self._due:
                self._fall(self._due.pop(0))
            elif quiet > self.idle_s and self._all_have_looked(max(since, self._heard)) and not self._due:
                if self._now.settled(self.outcome):
                    self.outcome.settled = True
                    return
                self._move_time()
                since = time.monotonic()
            time.sleep(0.05)

    def _listen(self) -> None:
        for event in self.processes.drained():
            self._heard = time.monotonic()
            self._events += 1
            if event["process"] in self._young:
                took = self._heard - self._young.pop(event["process"])
                self.outcome.slowest_restart_s = max(self.outcome.slowest_restart_s, took)
            self._moves += event["event"] == "move"
            if event["event"] == "listening":
                self._listening.add(event["process"])
            if event["event"] == "received" and event["what"] == "receipt":
                name = str(event["answer"])
                self._received.setdefault(name, self._chain.time)
                self._hashes.setdefault(name, str(event["hash"]))
            event.pop("at", None)  # its own clock may be wrong
            self._tell(event)

    def _supervise(self, now: float) -> None:
        """Start again what has died, and what is to be registered; an operator, once its stake is there and its
        server listens, whose files it reads."""
        for name in self._launched:
            if name not in self.processes.pids and name not in self._again:
                status, said = self.processes.status(name), self.processes.last_words(name)
                named = said.startswith("error: ")
                self.outcome.ended, self.outcome.crashed = (
                    self.outcome.ended + named,
                    self.outcome.crashed + (not named),
                )
                self._say("conductor", "died", part=name, status=status, said=said)
                self._again[name] = now + _RETRY_S
        for name, due in list(self._again.items()):
            if now >= due:
                del self._again[name]
                self.outcome.restarts += 1
                if name in PROCESSES:  # what registers is started below, if there is still something to register
                    self._young[name] = time.monotonic()
                    self._launch(name)
                self._say("conductor", "restarted", part=name)
        for pid, due in list(self._full.items()):
            if now >= due:
                self._room(pid)
        running = {*self.processes.pids, *self._again}
        self._followed.read()  # after: what has ended by now has done what it was started for, or nothing
        self._jobs = self._now.to_register()
        for name in self._jobs:
            # One account sends from one process at a time.
            used = name.partition(" ")[0]
            taken = any(each.partition(" ")[0] == used for each in {*running, *self.processes.pids})
            if not taken and now >= self._tried.get(name, 0.0) + _RETRY_S:
                self._tried[name] = now
                self._launch(name)
                operator = name.rpartition(" ")[2]
                if used == operator:
                    self._say("conductor", "has a stake put down", operator=operator, why="by its own transaction")
                else:
                    self._say(
                        "conductor", "registers a key", operator=operator, why="if its (simulated) evidence holds"
                    )
        for operator, server in SERVERS.items():
            if operator not in self._staked and self._now.has_stake(operator):
                self._staked.add(operator)
                self._say(operator, "staked", wei=self._followed.court.operators[self._now.address(operator)].stake_wei)
            ready = operator in self._staked and server in self._listening and operator not in self._launched
            if ready and f"{operator} stakes for {operator}" not in self.processes.pids:
                self._launch(operator)

    def _note_slash(self) -> None:
        convicted = {self.ground.names.get(each, each) for each in self._followed.logs.convicted}
        if CHEAT in convicted and self.outcome.slashed_s is None:
            self.outcome.slashed_s = time.monotonic() - self._start
            self._say("conductor", "slashed", operator=CHEAT, seconds=round(self.outcome.slashed_s, 1))

    # --- faults

    def _fall(self, fault: NetworkFault) -> None:
        """Let a fault happen, if there is what it meets."""
        who = met_by(fault, self.processes.pids)
        if fault.kind != "node" and not who:
            return
        self.outcome.faults += 1
        self._say("conductor", "fault", kind=fault.kind, part=who or fault.who, lasts_s=round(fault.lasts_s, 2))
        if fault.kind == "node":
            ahead = self._chain.time - time.time()
            self._node.stop()
            time.sleep(fault.lasts_s)
            self._node = self.ground.node(self._state, self._node.port)
            # A node that starts again takes time up at its latest block; that of the chain has gone on.
            self._chain.advance(max(0, int(time.time() + ahead) - self._chain.time))
        elif fault.kind == "kill":
            self.processes.kill(who)
            while who in self.processes.pids:
                time.sleep(0.002)
            self._again[who] = time.monotonic() + fault.lasts_s
        elif fault.kind == "disk":
            # What a full disk does to who writes to it: no file can grow.
            self._limit(who, 0)
            self._full[who] = time.monotonic() + fault.lasts_s

    def _room(self, who: str) -> None:
        del self._full[who]
        self._limit(who, resource.RLIM_INFINITY)
        self._say("conductor", "room", part=who)

    def _limit(self, who: str, most: int) -> None:
        with suppress(KeyError, ProcessLookupError):
            resource.prlimit(self.processes.pids[who], resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    # --- time

    def _all_have_looked(self, since: float) -> bool:
        """Whether everybody runs and has looked at the chain, often enough, since a moment; also what
        the registrar has to do is done, and every answer is there that a server can give, with its place
        where its operator may commit and means to."""
        for name in PARTIES:
            path = heartbeat_of(self.folder / f"{name}.state")
            beat = path.stat().st_mtime_ns if path.exists() else 0
            seen, last, count = self._looks.get(name, (since, beat, 0))
            if seen != since:
                last, count = beat, 0
            self._looks[name] = since, beat, count + (beat != last)
        deaf = self._listening != {*SERVERS.values()} or len(self._received) < len(ANSWERS)
        if deaf or self._again or self._full or self._jobs:
            return False
        if any(count < _LOOKS for _, _, count in self._looks.values()):
            return False
        at = self._now.placed()
        return all(each in at or self._now.commits_nothing(answered_by(each)) for each in ANSWERS)

    def _move_time(self) -> None:
        """Move time to what comes next."""
        court, terms, logs = self._followed.court, self._followed.court.terms, self._followed.logs
        at = self._now.placed()
        games = any(each.status == ChallengeStatus.OPEN for each in court.challenges)
        duties = any(each.status == ChallengeStatus.DEMAND for each in court.challenges)
        kept = any(self._now.withholds(answered_by(name)) and name not in at for name in self._received)
        if not duties and kept and not self._now.convicted(CHEAT):
            # Before a silent player's clock, which is longer: who waits for a receipt demands it in time.
            self._later(PATIENCE_S, "a receipt is waited for")
        elif games or duties:
            self._later(max(terms.clock_s * games, terms.duty_s * duties), "who is to move is silent")
        elif any(logs.rewards.get(each) for each in logs.convicted):
            self._later(terms.claim_s, "so that earlier challenges can be opened")
        else:
            self._later(terms.window_s + terms.reveal_s, "the honest answers' window")

    def _later(self, seconds: int, why: str) -> None:
        self._chain.advance(seconds + _LATER_S)
        self._say("conductor", "time moved", seconds=seconds + _LATER_S, why=why)

    def _say(self, process: str, event: str, **about: Any) -> None:
        self._tell({"process": process, "event": event, **about})

    def _tell(self, event: dict[str, Any]) -> None:
        """Give an event on, with the seconds since the start, and those of the chain's latest block since
        the court stood."""
        clocks = {"s": round(time.monotonic() - self._start, 1)}
        if self._stood >= 0:
            clocks["chain_s"] = self._chain.time - self._stood
        self.emit({**clocks, **event})
