"""One command, a whole network of processes: the cheat is slashed, the honest operator is paid, and
nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otr_core.dispute.profile import FILE
from otr_core.errors import InputError
from otr_core.files import data_folder
from otr_node.chain.anvil import VARIABLE
from otr_node.project import Project
from otr_paper.devnet.attacks import SILENT, WITHHELD, attack_named, lie_named
from otr_paper.devnet.faults import ANSWERS, CLIENTS, SEALING, SERVERS
from otr_paper.devnet.ground import anvil_or_none
from otr_paper.devnet.processes import Fresh, Stem
from otr_paper.devnet.standing import LIED_TO
from otr_paper.labs.disputes.world import tiny_bench
from tests.helpers.nodes import needs_anvil


def running(mark: str) -> list[bytes]:
    """What runs on this machine with ``mark`` in its environment, which children inherit: node, hashing
    processes of the servers, whatever was started by whatever was."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "attack", "rules"),
    [
        pytest.param("", "another token than the model's", "osaka", marks=needs_anvil),
        pytest.param("anvil", "", "osaka", marks=needs_anvil),
        ("embedded", "another token than the model's", "prague"),
    ],
)
def test_a_devnet_ends_as_it_should_and_leaves_nothing(node, attack, rules):
    mark = f"otr-{secrets.token_hex(8)}"
    words = [sys.executable, "-m", "otr_core.cli", "devnet", "--seconds", "600", "--json", "--attack", attack]
    words += ["--node", node]
    done = subprocess.run(words, capture_output=True, text=True, timeout=700, env={**os.environ, "OTR_MARK": mark})
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (events[-5:], done.stderr[-500:])
    assert (events[0]["event"], events[0]["rules"]) == ("node", rules)
    end = events[-1]
    assert end["event"] == "ended"
    assert (end["slashed_s"] is not None, end["honest_slashed"], end["finalised"], end["left"]) == (
        bool(attack),
        False,
        True,
        0,
    )
    assert len(end["paid"]) == (2 if attack else 0)
    said = {(each["process"], each["event"]) for each in events}
    assert ("operator-1", "finalise") in said
    assert (("fisherman-1", "challenge") in said) is bool(attack)
    assert {("server-1", "listening"), ("server-1", "answered"), ("server-2", "answered")} < said
    holds = {each["answer"]: each["holds"] for each in reversed(events) if each["event"] == "checked"}
    assert holds == {name: not attack or name != LIED_TO for name in ANSWERS}
    sealed = {each["answer"]: each["sealed"] for each in events if each["event"] == "ordered"}
    assert sealed == {name: name.endswith(SEALING) for name in ANSWERS}
    began = {each["process"]: at for at, each in reversed(list(enumerate(events))) if each["event"] == "started"}
    stakes = {each["process"]: at for at, each in enumerate(events) if each["event"] == "staked"}
    assert stakes.keys() == SERVERS.keys()
    assert all(stakes[name] < began[name] for name in SERVERS)  # each has put its own stake down before it works
    until = time.monotonic() + 60
    while running(mark) and time.monotonic() < until:  # who hashes for a server that was ended ends after it
        time.sleep(0.05)
    assert running(mark) == []


@pytest.mark.slow
@needs_anvil
def test_a_devnet_that_is_killed_leaves_nothing():
    mark = f"otr-{secrets.token_hex(8)}"
    words = [sys.executable, "-m", "otr_core.cli", "devnet", "--seconds", "600", "--json", "--node", "anvil"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "OTR_MARK": mark}) as run:
        assert run.stdout is not None
        assert any(json.loads(line)["event"] == "listening" for line in run.stdout)
        began = len(running(mark))
        run.kill()
    assert began > len(SERVERS) + 2  # servers, the node, the run, and more
    until = time.monotonic() + 60
    while running(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert running(mark) == []


@pytest.mark.parametrize("kind", [Fresh, Stem])
def test_a_process_whose_disk_is_full_can_still_say_why_it_ends(kind, tmp_path):
    processes = kind(tmp_path, "correct horse")
    born_of = processes.stem_pid if kind is Stem else os.getpid()
    room = resource.prlimit(born_of, resource.RLIMIT_FSIZE)
    resource.prlimit(born_of, resource.RLIMIT_FSIZE, (0, room[1]))
    try:
        processes.start("server-1", "otr", ["devnet", "--node", "geth"])
    finally:
        resource.prlimit(born_of, resource.RLIMIT_FSIZE, room)
    while processes.status("server-1") is None:
        time.sleep(0.02)
    assert processes.status("server-1") == 2
    assert processes.last_words("server-1").startswith("error: --node: found 'geth'")
    processes.close()


def test_an_attack_is_a_row_of_the_table():
    assert lie_named("another token than the model's").name == "tokensRoot: another token than the model's"
    for name in ("no such lie", "a wrong value", "an ordered token beyond the vocabulary"):
        with pytest.raises(InputError, match="--attack"):
            lie_named(name)
    assert attack_named("").lie is None
    assert attack_named(WITHHELD).withholds
    silent = attack_named(f"{SILENT}another token than the model's")
    assert silent.silent
    assert silent.lie is not None


def test_a_node_that_is_none_or_not_here_is_said_and_without_anvil_the_embedded_chain_is_taken(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="--node: found 'geth', expected one of anvil, embedded"):
        anvil_or_none(Project(tmp_path), "geth")
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = Project(tmp_path)
    assert anvil_or_none(bare, "") is None
    with pytest.raises(InputError, match="anvil: found none"):
        anvil_or_none(bare, "anvil")
    program = tmp_path / "anvil"
    program.write_text("")
    monkeypatch.setenv(VARIABLE, str(program))
    assert (anvil_or_none(bare, ""), anvil_or_none(bare, "embedded")) == (program, None)


@pytest.mark.parametrize("role", ["client", "operator", "liar"])
def test_a_party_that_cannot_reach_its_node_ends_with_one_line(tmp_path, role):
    (tmp_path / "key").write_text("{}")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        rpc = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        about = json.dumps({"name": CLIENTS[0], "servers": {}, "sealed": False}) if role == "client" else ""
        why = "no answer from" if role != "operator" else "not usable as a state folder"
        words = [role, rpc, *(str(tmp_path / each) for each in ("key", "court.json")), str(tiny_bench().folder)]
        words += [str(tmp_path), about, str(tmp_path / "state")]
        party = [sys.executable, "-m", "otr_paper.devnet.parties", *words]
        done = subprocess.run(party, capture_output=True, text=True, timeout=170, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: .*{why}.*\n", done.stderr)


def test_a_profile_that_is_none_is_unusable_input_before_anything_starts(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text((data_folder() / FILE).read_text().replace('unit = "s"', 'unit = "h"', 1))
    words = [sys.executable, "-m", "otr_core.cli", "devnet", "--profile", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "profile court.window_s: found 'h', expected the unit s" in done.stderr
    assert done.stderr.count("\n") == 1
