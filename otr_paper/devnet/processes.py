"""Processes of a devnet: started, killed, heard and ended. Two ways to start one.

``Fresh`` starts a Python interpreter each time, as a user does. ``Stem`` keeps one process that has
loaded everything and forks: what comes of it is a process of its own, which reads its files, keeps
its state and dies as any other, but begins within a tenth of a second. Series of runs need that.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from otr_core.errors import OtrError
from otr_node.chain.keys import VARIABLE
from otr_node.children import die_with_parent
from otr_paper.devnet.faults import SERVERS

LOGGED = ("listening", "answered", "stopped")
"""What is heard of a server's log: not each request."""
_OF_A_LOG = {"time", "level", "state", "state_made"}
_BY_ANOTHER_CLOCK = """
import runpy, sys, time
right, wrong = time.time, float(sys.argv.pop(1))
time.time = lambda: right() + wrong
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
PROGRAMS = {"otr": "otr_core.cli", "party": "otr_paper.devnet.parties"}
"""What can be started, by name."""
ERRORS = "!"
"""What a stem puts before the name of a process whose standard error it gives on."""
_END_S, _LOAD_S, _FORK_S = 30.0, 900.0, 60.0
"""A server has stopped at once, and its interpreter is then taken down for some seconds; all are at the same time."""


class Processes(ABC):
    """The children of one run.

    Args:
        folder: for what they say on standard error, which this process writes down, as a machine's supervisor
            does: one whose own disk is full can still say why it ends. password: of all key files.

    Attributes:
        pids: by name, of those that run.
    """

    def __init__(self, folder: Path, password: str) -> None:
        self.folder, self.pids = folder, dict[str, int]()
        self.environment = {**os.environ, VARIABLE: password}
        self._events = queue.Queue[dict[str, Any]]()
        self._read = dict[Path, int]()
        self._ended: dict[str, int] = {}

    @abstractmethod
    def start(self, name: str, program: str, words: Sequence[str], skew_s: float = 0.0) -> None:
        """Start a process of ``PROGRAMS``; its clock is wrong by ``skew_s``."""

    @abstractmethod
    def close(self) -> None:
        """End what was needed to start processes."""

    def drained(self) -> list[dict[str, Any]]:
        """What they have said since the last look, those that keep a log on standard error there."""
        found = [each for name in SERVERS.values() for each in self._logged(name)]
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def _logged(self, name: str) -> list[dict[str, Any]]:
        """Whole lines of a log that were not read yet."""
        path = self._errors_of(name)
        raw = path.read_bytes()[self._read.get(path, 0) :] if path.exists() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(whole)
        found = []
        for line in whole.decode(errors="replace").splitlines():
            with suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("event") in LOGGED:
                    facts = {each: value for each, value in said.items() if each not in _OF_A_LOG}
                    found.append({**facts, "process": name})
        return found

    def status(self, name: str) -> int | None:
        """How a process has ended: its status, or a signal's number below zero; None: it has not."""
        return self._ended.get(name)

    def kill(self, name: str) -> None:
        """End a process without warning."""
        with suppress(KeyError, ProcessLookupError):
            os.kill(self.pids[name], signal.SIGKILL)

    def end_all(self) -> int:
        """End every process; how many had to be killed."""
        for name in list(self.pids):
            with suppress(KeyError, ProcessLookupError):
                os.kill(self.pids[name], signal.SIGTERM)
        end, killed = time.monotonic() + _END_S, 0
        while self.pids and time.monotonic() < end:
            time.sleep(0.02)
        for name in list(self.pids):
            self.kill(name)
            killed += 1
        return killed

    def last_words(self, name: str) -> str:
        """The last line that a process has said on standard error."""
        path = self._errors_of(name)
        said = path.read_text().strip().splitlines() if path.exists() else []
        return said[-1][:300] if said else ""

    def _errors_of(self, name: str) -> Path:
        return self.folder / f"{name}.err"

    def _note(self, name: str, line: str) -> None:
        """Write down a line of a process's standard error."""
        with self._errors_of(name).open("a") as log:
            log.write(f"{line.rstrip()}\n")

    def _hear(self, name: str, line: str) -> None:
        with suppress(ValueError):
            said = json.loads(line)
            if isinstance(said, dict) and "event" in said:
                self._events.put({**said, "process": name})

    def _over(self, name: str, status: int) -> None:
        self._ended[name] = status
        self.pids.pop(name, None)


class Fresh(Processes):
    """Each process is a new interpreter."""

    def start(self, name: str, program: str, words: Sequence[str], skew_s: float = 0.0) -> None:
        how = ["-c", _BY_ANOTHER_CLOCK, str(skew_s)] if skew_s else ["-m"]
        full = [sys.executable, *how, PROGRAMS[program], *words]
        self._ended.pop(name, None)
        child = subprocess.Popen(
            full,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.pids[name] = child.pid
        threading.Thread(target=self._listen, args=(name, child), daemon=True).start()

    def close(self) -> None:
        """Nothing is kept."""

    def _listen(self, name: str, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        errors = threading.Thread(target=self._take_down, args=(name, child.stderr), daemon=True)
        errors.start()
        for line in child.stdout:
            self._hear(name, line)
        errors.join()  # what it said last is read when it is heard that it has ended
        self._over(name, child.wait())

    def _take_down(self, name: str, errors: IO[str]) -> None:
        for line in errors:
            self._note(name, line)


class Stem(Processes):
    """Processes are forked off one that has loaded all. Several runs, one after the other, can use
    one ``Stem``; ``folder`` is set anew for each.

    Raises:
        OtrError: it does not start.
    """

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder, password)
        self._names: dict[int, str] = {}
        self._born = queue.Queue[int]()
        self._errors = folder / "stem.err"
        with self._errors.open("a") as log:
            self._stem = subprocess.Popen(
                [sys.executable, "-m", "otr_paper.devnet.stem"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                preexec_fn=die_with_parent,
            )
        threading.Thread(target=self._listen, daemon=True).start()
        if self._next(_LOAD_S) != self._stem.pid:
            raise OtrError("devnet: a stem that says another number than its own")

    @property
    def stem_pid(self) -> int:
        """Number of the process that all are forked from."""
        return self._stem.pid

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the stem and of all its processes that have ended."""
        fields = Path(f"/proc/{self.stem_pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def start(self, name: str, program: str, words: Sequence[str], skew_s: float = 0.0) -> None:
        assert self._stem.stdin is not None
        self._ended.pop(name, None)
        about = {"name": name, "program": program, "words": list(words), "skew_s": skew_s}
        self._stem.stdin.write(json.dumps(about | {"errors": str(self._errors_of(name))}) + "\n")
        self._stem.stdin.flush()
        self.pids[name] = pid = self._next(_FORK_S)
        self._names[pid] = name

    def _next(self, seconds: float) -> int:
        """The number of the next process that begins."""
        try:
            return self._born.get(timeout=seconds)
        except queue.Empty as error:
            said = self._errors.read_text().strip().splitlines()[-1:]
            raise OtrError(f"devnet: a process that does not start ({' '.join(said)[:200]})") from error

    def close(self) -> None:
        """End the stem, and with it whatever it has started."""
        assert self._stem.stdin is not None
        self._stem.stdin.close()
        self._stem.wait(_END_S)

    def _listen(self) -> None:
        assert self._stem.stdout is not None
        for line in self._stem.stdout:
            name, _, said = line.partition("\t")
            if name == "+":
                self._born.put(int(said))
            elif name == "-":
                pid, status = map(int, said.split())
                while pid not in self._names:  # its start is not noted yet
                    time.sleep(0.001)
                self._over(self._names.pop(pid), status)
            elif name.startswith(ERRORS):
                self._note(name.removeprefix(ERRORS), said)
            else:
                self._hear(name, said)
