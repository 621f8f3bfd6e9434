"""``otr pledge`` on a node: from a deployment to a lost pledge, by files and commands alone."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from typer.testing import CliRunner

from otr_core.cli import add_commands, app
from otr_core.dispute.profile import FILE, read_profile
from otr_core.errors import AnswerProofError, InputError, MoveError, ReceiptError
from otr_core.spotcheck.proof.vouching import CommitmentStatement, SignedStatement
from otr_node.chain.keys import VARIABLE, load_key
from otr_node.chain.onchain import ChainCourt, deploy_arbiter
from otr_node.chain.rpc import RpcChain
from otr_node.commands import commands as node_commands
from otr_paper.labs.tiny import write_tiny
from tests.helpers.networks import REGISTRAR
from tests.helpers.nodes import CHAIN_ID, ask, embedded_door, known_keys

PASSWORD = "a password"
NAMES = ("registrar", "signer", "catcher", "first", "second")


@pytest.fixture(scope="module", autouse=True)
def commands():
    """The commands of all packages."""
    if not any(group.typer_instance is node_commands for group in app.registered_groups):
        add_commands()


class Place:
    """A court with two arbiters on a node, whose accounts are files."""

    def __init__(self, node: Any, folder: Path, project: Any) -> None:
        self.node, self.folder, self.calls = node, folder, itertools.count()
        for name, key in zip(NAMES, known_keys(len(NAMES)), strict=True):
            (folder / name).write_text(json.dumps(Account.encrypt(key.key, PASSWORD, kdf="pbkdf2", iterations=2)))
            (folder / name).chmod(0o600)
        arbiters = [self.address(name) for name in NAMES[3:]]
        chain = RpcChain(node.url, [REGISTRAR], chain_id=CHAIN_ID, poll_s=0.01)
        terms = read_profile(project.data / FILE).court
        court = ChainCourt(chain, terms, REGISTRAR.address, deploy_arbiter(chain, *arbiters))
        (folder / "court").write_bytes(court.deployment.dump())
        self.domain = court.domain

    def address(self, name: str) -> str:
        return load_key(self.folder / name, PASSWORD).address

    def run(self, *words: object) -> Any:
        return CliRunner().invoke(app, [*map(str, words)])

    def act(self, who: str, call: str, *words: object, place: str = "pledges") -> Any:
        # A state of its own: a refused call's traceback keeps the other one open in this process.
        state = self.folder / f"{next(self.calls)}.state"
        own = ("--rpc", self.node.url, "--key", self.folder / who, "--state", state)
        return self.run("pledge", call, *words, *own, f"--{place}", self.folder / place)

    def shown(self, who: str) -> Any:
        found = self.run(
            "pledge", "show", self.address(who), "--rpc", self.node.url, "--pledges", self.folder / "pledges", "--json"
        )
        return json.loads(found.stdout)[0]


@pytest.fixture
def place(tmp_path, project, monkeypatch):
    monkeypatch.setenv(VARIABLE, PASSWORD)
    with embedded_door() as node:
        yield Place(node, tmp_path, project)


def good(result: Any) -> str:
    assert result.exit_code == 0, result.output or result.exception
    return str(result.stdout)


def test_a_false_word_costs_its_pledge_and_a_verifier_asks_for_one(
    place, answer, committed_proof, tiny_commitment, monkeypatch
):
    folder, model = place.folder, write_tiny(place.folder / "model")
    good(place.act("registrar", "deploy", "--out", folder / "pledges", "--notice", 5, place="court"))
    assert json.loads((folder / "pledges").read_bytes())["notice_s"] == 5
    assert "put by" in good(place.act("signer", "put", "1.5"))
    assert place.shown("signer")["value"] == 15 * 10**17

    # A verifier without weights asks for a pledge; the answer's order is of this court.
    where = ("--chain-id", place.domain.chain_id, "--court", place.domain.court.hex())
    good(place.run("commit-model", "--out", folder / "held", "--model", model, "--sign", folder / "signer", *where))
    own = SignedStatement.read(folder / "held.signed")
    assert own.statement.commitment == tiny_commitment.commitment.digest
    (folder / "receipt").write_bytes(answer.file.dump())
    (folder / "proof").write_bytes(committed_proof)
    check = ("check", folder / "proof", "--receipt", folder / "receipt", "--commitment", folder / "held")
    asked = (*check, "--vouched", folder / "held.signed", "--rpc", place.node.url, "--pledges", folder / "pledges")
    refused = place.run(*asked, "--least-pledge", "1")
    assert isinstance(refused.exception, AnswerProofError)
    assert refused.exception.check == "vouched court"  # this answer was ordered at no court

    # The signer says something else as well. Its statement is refuted by two who hold the weights.
    secret = bytes(load_key(folder / "signer", PASSWORD).key)
    lie = SignedStatement.by(secret, replace(own.statement, commitment=b"\x07" * 32))
    (folder / "lie").write_bytes(lie.dump())
    for name in ("first", "second"):
        words = ("--key", folder / name, "--catcher", place.address("catcher")[2:], "--model", model)
        out = ("--out", folder / f"{name}.signature")
        true = place.run("pledge", "judge", folder / "held.signed", *words, *out)
        assert true.exit_code == 1
        assert "nothing is signed" in true.stdout
        assert not (folder / f"{name}.signature").exists()
        good(place.run("pledge", "judge", folder / "lie", *words, *out))
    nobody = replace(lie, signature=bytes(65))
    (folder / "nobody").write_bytes(nobody.dump())
    words = ("--key", folder / "first", "--model", model, "--out", folder / "none")
    for statement, catcher, kind in (("nobody", "11" * 20, ReceiptError), ("lie", "00" * 20, InputError)):
        refused = place.run("pledge", "judge", folder / statement, *words, "--catcher", catcher)
        assert isinstance(refused.exception, kind)
        assert not (folder / "none").exists()
    signatures = [folder / "first.signature", folder / "second.signature"]
    for wrong in ([signatures[1], signatures[0]], [signatures[0], signatures[0]]):
        assert isinstance(place.act("catcher", "refute", folder / "lie", *wrong).exception, MoveError)
    assert isinstance(place.act("catcher", "refute", folder / "lie", signatures[0]).exception, InputError)
    assert isinstance(place.act("registrar", "refute", folder / "lie", *signatures).exception, MoveError)
    good(place.act("catcher", "refute", folder / "lie", *signatures))
    assert place.shown("signer")["value"] == 0
    assert place.shown("signer")["lost_at"]
    before = int(ask(place.node, "eth_getBalance", place.address("catcher"), "latest"), 16)
    good(place.act("catcher", "withdraw"))
    gained = int(ask(place.node, "eth_getBalance", place.address("catcher"), "latest"), 16) - before
    assert 0.7 * 10**18 < gained <= 0.75 * 10**18  # half of it, less the transaction's fee


def test_a_contradiction_travels_as_a_file_and_an_honest_pledge_comes_back(place, tiny_commitment):
    folder = place.folder
    good(place.act("registrar", "deploy", "--out", folder / "pledges", "--notice", 5, "--reward", 0, place="court"))
    told = CommitmentStatement(place.domain, b"m" * 32, b"c" * 32, "portable-1", 1)
    secret = bytes(load_key(folder / "signer", PASSWORD).key)
    both = [SignedStatement.by(secret, replace(told, commitment=each * 32)).dump() for each in (b"c", b"d")]
    (folder / "evidence").write_bytes(b"".join(both))
    # What would cost nobody a pledge is said before its catcher pays for anything.
    elsewhere = replace(told, domain=replace(told.domain, court=b"\x09" * 20))
    other = [SignedStatement.by(secret, replace(elsewhere, commitment=each * 32)).dump() for each in (b"c", b"d")]
    (folder / "other").write_bytes(b"".join(other))
    (folder / "one").write_bytes(both[0])
    (folder / "signature").write_bytes(bytes(65))
    before = ask(place.node, "eth_getBalance", place.address("catcher"), "latest")
    for refused, reason in (
        (place.act("catcher", "contradict", folder / "evidence"), "pledge"),
        (place.act("catcher", "contradict", folder / "other"), "about"),
        (place.act("catcher", "refute", folder / "one", folder / "signature", folder / "signature"), "pledge"),
    ):
        assert isinstance(refused.exception, MoveError)
        assert refused.exception.reason == reason
        assert str(refused.exception).startswith(str(folder))
    assert ask(place.node, "eth_getBalance", place.address("catcher"), "latest") == before
    for who in ("signer", "first"):
        good(place.act(who, "put", "1"))
    assert "announce" in place.act("catcher", "contradict", folder / "evidence").output
    assert place.shown("signer")["lost_at"]
    assert isinstance(place.act("catcher", "withdraw").exception, MoveError)  # all of it is burnt here
    assert isinstance(place.act("first", "take-back").exception, MoveError)
    good(place.act("first", "ask-back"))
    ask(place.node, "evm_increaseTime", 10)
    ask(place.node, "evm_mine")
    good(place.act("first", "take-back"))
    assert place.shown("first") == {
        "signer": place.address("first")[2:].lower(),
        "value": 0,
        "asked_at": 0,
        "lost_at": 0,
    }
