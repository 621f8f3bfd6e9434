"""A drawn check of a verifier without weights: two machines that exchange files alone, and what is refused when
either side, or whoever carries the files, lies. Every refusal is one line that names the file, and a status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from otr_core import merkle
from otr_core.cli import add_commands, app, run_reported
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import LeafPlace
from otr_core.encoding import canonical_json
from otr_core.spotcheck.opening import load_check, open_check
from otr_core.spotcheck.proof.verify import HIDING_HEADER
from otr_core.spotcheck.proof.vouching import CommitmentStatement, SignedStatement
from otr_core.spotcheck.protocol import proof_body
from otr_core.spotcheck.wire import CommittedBatch
from otr_node import duty
from otr_node.chain.keys import VARIABLE, write_key
from otr_node.chain.places import dump_place
from otr_node.commands import commands as node_commands
from otr_node.proof.answers import KeptCommitment
from otr_node.proof.secret import HidingSecret
from tests.helpers.drawn_checks import ALLOW, BEACON, TIME, agreed
from tests.otr_node.test_duty import Party

ANSWER = (
    *("answer", "check.json", "--key", "key.json", "--terms", "terms.json", "--batch", "batch.json"),
    *("--out", "answer.json", "--proof-out", "proof", "--commitment", "commitment.json"),
)
SECRET = b"\x31" * 32


@dataclass
class Exchange:
    """Both folders after an honest exchange: all files are there, and the check is due."""

    operator: Path
    fisherman: Path
    model: Path
    until: int
    key: bytes

    @property
    def take(self) -> tuple[object, ...]:
        """How the fisherman takes the answer."""
        shown = ("--proof", "proof", "--commitment", "commitment.json")
        return ("take", "check.json", "answer.json", *shown, "--at", self.until)


def exchanged(drawn, folder: Path, write_checkpoint, kept: KeptCommitment) -> Exchange:
    """An honest exchange by processes of their own."""
    model = write_checkpoint(folder / "model")
    operator, fisherman = Party(folder / "operator"), Party(folder / "fisherman")
    account = write_key(operator.folder / "key.json", "a password")
    batch = CommittedBatch(bytes.fromhex(account.address[2:]), merkle.root(drawn.leaves), 3, TIME)
    place = LeafPlace(batch_id(account.address, batch.root), 1, tuple(merkle.inclusion_proof(drawn.leaves, 1)))
    terms = agreed(demand="proof", circuits=kept.commitment.digest)
    for party in (operator, fisherman):
        for name, content in (
            ("receipt.json", drawn.answer.file.dump()),
            ("terms.json", canonical_json(terms.to_json())),
            ("batch.json", canonical_json(batch.to_json())),
            ("place.json", dump_place(place)),
            ("commitment.json", kept.commitment.dump()),
        ):
            (party.folder / name).write_bytes(content)
    (operator.folder / "commitment.json.columns").write_bytes(kept.hashes)
    if kept.seed:
        HidingSecret.create(operator.folder / "commitment.json.secret", kept.seed, kept.commitment.digest)
    asked = ("--terms", "terms.json", "--batch", "batch.json", "--place", "place.json", "--out", "check.json", "--json")
    told = json.loads(fisherman.otr("open", "receipt.json", *asked))
    told = json.loads(fisherman.otr("round", "check.json", "--signature", BEACON.sign(told["round"]).hex(), "--json"))
    assert told["stage"] == "DUE"
    fisherman.send("check.json", operator)
    operator.otr(*ANSWER, "--model", model)
    for name in ("answer.json", "proof"):
        operator.send(name, fisherman)
    found = Exchange(operator.folder, fisherman.folder, model, told["until"], bytes(account.key))
    assert "accepted" in fisherman.otr(*found.take)
    return found


@pytest.fixture(scope="module")
def exchange(drawn, tmp_path_factory, write_checkpoint, tiny_commitment) -> Exchange:
    """Under a commitment that everybody with the weights makes again."""
    return exchanged(drawn, tmp_path_factory.mktemp("exchange"), write_checkpoint, tiny_commitment)


@pytest.fixture
def refused(exchange, monkeypatch, capsys) -> Callable[..., str]:
    """Runs a command in a party's folder as a process does, whose only line on standard error begins with a file."""
    monkeypatch.setenv(VARIABLE, "a password")
    if not any(group.typer_instance is node_commands for group in app.registered_groups):
        add_commands()

    def run(folder: Path, words: tuple[object, ...], status: int, file: str) -> str:
        monkeypatch.chdir(folder)
        kept = (folder / "check.json").read_bytes()
        with pytest.raises(SystemExit) as ended:
            run_reported(lambda: app(["spotcheck", *map(str, words)]))
        said = capsys.readouterr()
        lines = [line for line in said.err.splitlines() if line.startswith("error: ")]
        assert ended.value.code == status, said
        assert len(lines) == 1, said.err
        assert lines[0].startswith(f"error: {file}: "), lines[0]
        assert "accepted" not in said.out
        assert (folder / "check.json").read_bytes() == kept
        return lines[0].removeprefix(f"error: {file}: ")

    return run


@pytest.fixture
def lies() -> Iterator[Callable[[Path, bytes], None]]:
    """Writes over a file until the test ends."""
    kept: list[tuple[Path, bytes | None]] = []

    def write(path: Path, content: bytes) -> None:
        kept.append((path, path.read_bytes() if path.exists() else None))
        path.write_bytes(content)

    yield write
    for path, content in reversed(kept):
        path.unlink() if content is None else path.write_bytes(content)


# --- files that are cut, longer, or another's


@pytest.mark.parametrize("name", ["check.json", "answer.json", "commitment.json", "proof"])
def test_a_file_that_is_cut_or_longer_judges_nothing(exchange, refused, lies, name):
    path = exchange.fisherman / name
    own = path.read_bytes()
    for other in (b"", own[:-1], own + b"\n", own + bytes(2**16)):
        lies(path, other)
        refused(exchange.fisherman, exchange.take, 2, name)


@pytest.mark.parametrize("name", ["check.json", "terms.json", "batch.json", "commitment.json"])
def test_an_operator_signs_under_no_file_that_is_cut_or_longer(exchange, refused, lies, name):
    path = exchange.operator / name
    own = path.read_bytes()
    for other in (b"", own[:-2], own + b"x"):
        lies(path, other)
        refused(exchange.operator, (*ANSWER, "--model", exchange.model), 2, name)


def test_files_in_each_others_place(exchange, refused):
    """Each pair swapped: no file is taken for another."""
    at = ("--at", exchange.until, "--commitment")
    for words, status, file in (
        (("take", "check.json", "proof", "--proof", "answer.json", *at, "commitment.json"), 2, "proof"),
        (("take", "check.json", "check.json", "--proof", "proof", *at, "commitment.json"), 2, "check.json"),
        (("take", "check.json", "commitment.json", "--proof", "proof", *at, "commitment.json"), 2, "commitment.json"),
        (("take", "answer.json", "check.json", "--proof", "proof", *at, "commitment.json"), 2, "answer.json"),
        (("take", "check.json", "answer.json", "--proof", "answer.json", *at, "commitment.json"), 2, "answer.json"),
        (("take", "check.json", "answer.json", "--proof", "proof", *at, "receipt.json"), 2, "receipt.json"),
        (("take", "check.json", "answer.json", "--proof", "proof", *at, "proof"), 2, "proof"),
        (("take", "check.json", "answer.json", "--proof", "proof", *at, "nowhere"), 2, "nowhere"),
        (("take", "check.json", "answer.json", "--proof", "nowhere", *at, "commitment.json"), 2, "nowhere"),
    ):
        refused(exchange.fisherman, words, status, file)
    opened = ("open", "receipt.json", "--terms", "terms.json", "--batch", "batch.json", "--place", "place.json")
    for name in ("receipt.json", "terms.json", "batch.json", "place.json"):
        words = tuple("commitment.json" if each == name else each for each in opened)
        refused(exchange.fisherman, (*words, "--out", "other.json"), 2, "commitment.json")
        assert not (exchange.fisherman / "other.json").exists()


# --- a verifier, or whoever carries files, who lies


def test_an_operator_answers_under_its_own_terms_batch_and_commitment_alone(
    exchange, refused, lies, tiny_commitment, drawn
):
    """A check with other terms; one whose terms name another digest, even where the operator holds that file; and
    weights that do not give the digest of the terms."""
    other = replace(tiny_commitment.commitment, root=bytes(32))
    lies(exchange.operator / "other.json", other.dump())
    named = tuple("other.json" if each == "commitment.json" else each for each in ANSWER)
    whole = (*ANSWER, "--model", exchange.model)
    own = json.loads((exchange.operator / "terms.json").read_bytes())
    for changes in ({"answer_s": own["answer_s"] + 1}, {"circuits": other.digest.hex()}, {"spot_bps": 9_999}):
        lies(exchange.operator / "terms.json", canonical_json({**own, **changes}))
        assert "other terms" in refused(exchange.operator, whole, 2, "check.json")
    lies(exchange.operator / "terms.json", canonical_json(own))
    # the digest of the file is not the one of the terms
    assert "which the terms name" in refused(exchange.operator, (*named, "--model", exchange.model), 1, "other.json")
    assert "which the terms name" in refused(exchange.operator, (*whole[:-4], *whole[-2:]), 1, "terms.json")
    # terms of both sides name a digest that these weights do not give: nothing is signed
    check = json.loads((exchange.operator / "check.json").read_bytes())
    check["terms"]["circuits"] = other.digest.hex()
    lies(exchange.operator / "check.json", canonical_json(check) + b"\n")
    lies(exchange.operator / "terms.json", canonical_json({**own, "circuits": other.digest.hex()}))
    answer = (exchange.operator / "answer.json").read_bytes()
    said = refused(exchange.operator, (*named, "--model", exchange.model), 1, "other.json")
    assert "as the weights give it" in said
    assert (exchange.operator / "answer.json").read_bytes() == answer


def test_an_operator_signs_with_the_key_of_its_batch(exchange, refused, lies):
    """With another it would be convicted of silence: nobody takes its message."""
    write_key(exchange.operator / "another.json", "a password")
    words = tuple("another.json" if each == "key.json" else each for each in (*ANSWER, "--model", exchange.model))
    assert "who committed the batch" in refused(exchange.operator, words, 2, "another.json")
    (exchange.operator / "another.json").unlink()


def test_a_message_is_not_written_over_its_proof(exchange, refused):
    words = tuple("answer.json" if each == "proof" else each for each in (*ANSWER, "--model", exchange.model))
    refused(exchange.operator, words, 2, "--proof-out")


def test_a_commitment_is_for_proofs(exchange, drawn, refused, lies):
    """Terms that demand units: a commitment judges none, and is not silently left aside."""
    for folder, words in ((exchange.fisherman, exchange.take), (exchange.operator, ANSWER)):
        lies(folder / "check.json", drawn.due.dump())
        lies(folder / "terms.json", canonical_json(drawn.due.terms.to_json()))
        lies(folder / "batch.json", canonical_json(drawn.due.batch.to_json()))
        assert "commitment.json" in refused(folder, words, 2, "--commitment")


# --- an operator who lies


def test_another_commitment_judges_nothing(exchange, refused, lies, tiny_commitment):
    """Neither one that the terms do not name, nor the model itself where they name one."""
    other = replace(tiny_commitment.commitment, root=bytes(32))
    lies(exchange.fisherman / "commitment.json", other.dump())
    assert "held circuits" in refused(exchange.fisherman, exchange.take, 2, "commitment.json")
    # a file that states the digest's fields of another model
    lies(exchange.fisherman / "commitment.json", replace(other, model_id=bytes(32)).dump())
    assert "held model" in refused(exchange.fisherman, exchange.take, 2, "commitment.json")
    without = (*exchange.take[:5], *exchange.take[7:], "--model", exchange.model)
    assert "held circuits" in refused(exchange.fisherman, without, 2, "answer.json")


def test_with_weights_beside_it_the_commitment_is_made_again(exchange, refused, lies, tiny_commitment):
    """Both sides were given a false one, and the terms name it: whoever borrows the weights finds it."""
    other = replace(tiny_commitment.commitment, root=bytes(32))
    check = json.loads((exchange.fisherman / "check.json").read_bytes())
    check["terms"]["circuits"] = other.digest.hex()
    lies(exchange.fisherman / "check.json", canonical_json(check) + b"\n")
    lies(exchange.fisherman / "commitment.json", other.dump())
    said = refused(exchange.fisherman, (*exchange.take, "--model", exchange.model), 2, "commitment.json")
    assert "as the weights give it" in said


def test_a_drawn_answer_is_shown_without_telling_the_weights(drawn, tmp_path, write_checkpoint, hiding, refused):
    """The same exchange under a commitment that hides; its secret stays with the operator, who counts the proof."""
    found = exchanged(drawn, tmp_path, write_checkpoint, hiding)
    assert (found.fisherman / "proof").read_bytes().startswith(HIDING_HEADER)
    assert (found.operator / "commitment.json.secret").read_bytes().endswith(b"}\n.")
    assert not (found.fisherman / "commitment.json.secret").exists()
    # whoever holds weights and no secret cannot make it again
    said = refused(found.fisherman, (*found.take, "--model", found.model), 2, "commitment.json.secret")
    assert "otr commit-model --hide" in said


@pytest.fixture
def check(exchange):
    """The check as it lies in the folders."""
    return load_check((exchange.fisherman / "check.json").read_bytes(), policy=ALLOW)


def test_messages_of_another_draw_key_or_kind_convict_nobody(exchange, check, refused, lies, committed_proof):
    body = proof_body(committed_proof)
    later = check.terms.margin_s + check.terms.beacon["period"]
    redrawn = open_check(
        check.terms, check.file.dump(), replace(check.batch, time=check.batch.time + later), 1, check.path, policy=ALLOW
    )
    redrawn = redrawn.draw(BEACON.sign(redrawn.round))
    again = replace(check, randomness=redrawn.randomness)
    assert len({check.duty, redrawn.duty, again.duty}) == 3
    honest = (exchange.fisherman / "answer.json").read_bytes()
    assert duty.sign_message(exchange.key, check.duty, "proof", body) == honest
    for own, about, kind, name in (
        (exchange.key, redrawn.duty, "proof", "duty"),
        (exchange.key, again.duty, "proof", "duty"),
        (SECRET, check.duty, "proof", "signature"),
        (exchange.key, check.duty, "rows", "kind"),
        (exchange.key, check.duty, "units", "kind"),
    ):
        lies(exchange.fisherman / "answer.json", duty.sign_message(own, about, kind, body))
        assert refused(exchange.fisherman, exchange.take, 2, "answer.json").startswith(f"{name}: ")
    lies(exchange.fisherman / "answer.json", honest.replace(b'"proof"', b'"units"'))  # by whoever carries it
    assert refused(exchange.fisherman, exchange.take, 2, "answer.json").startswith("signature: ")
    lies(exchange.fisherman / "answer.json", honest)
    early = (*exchange.take[:-1], check.due - 1)
    assert refused(exchange.fisherman, early, 2, "answer.json").startswith("early: ")


def test_a_proof_that_was_not_signed_for_convicts_nobody(exchange, refused, lies, honest_proof):
    lies(exchange.fisherman / "proof", honest_proof)
    assert refused(exchange.fisherman, exchange.take, 2, "proof").startswith("proof bytes: ")
    without = tuple(each for each in exchange.take if each not in ("--proof", "proof"))
    assert refused(exchange.fisherman, without, 2, "answer.json").startswith("proof bytes: ")


def test_what_the_operator_signed_and_what_is_false_convicts_it(
    exchange, check, lies, monkeypatch, capsys, honest_proof, committed_proof, drawn_answer, tiny_commitment
):
    """Exit status 1, and the verdict names the check, in a file too."""
    monkeypatch.chdir(exchange.fisherman)
    another = drawn_answer.prove(under=tiny_commitment)
    changed = bytearray(committed_proof)
    changed[len(changed) // 2] ^= 1
    told = {"json": ("--json",), "late": ("--at", exchange.until + 1)}
    for proof, name in (
        (honest_proof, "header"),
        (b"", "header"),
        (committed_proof[:-1], "length"),
        (committed_proof + b"x", "length"),
        (another, ""),
        (bytes(changed), ""),
    ):
        lies(exchange.fisherman / "proof", proof)
        lies(
            exchange.fisherman / "answer.json", duty.sign_message(exchange.key, check.duty, "proof", proof_body(proof))
        )
        with pytest.raises(SystemExit) as ended:
            run_reported(lambda: app(["spotcheck", *map(str, exchange.take), *told["json"], "--out", "verdict.json"]))
        found = json.loads(capsys.readouterr().out)
        assert json.loads((exchange.fisherman / "verdict.json").read_bytes()) == found
        assert (ended.value.code, found["stage"]) == (1, "CONVICTED")
        assert found["refused_by"] == name or (not name and found["refused_by"] not in ("form", "header", "length"))
    with pytest.raises(SystemExit) as ended:
        run_reported(lambda: app(["spotcheck", *map(str, exchange.take[:-2]), *map(str, told["late"]), "--json"]))
    assert (ended.value.code, json.loads(capsys.readouterr().out)["refused_by"]) == (1, "late")


# --- whose word the commitment is


def test_a_judge_without_weights_asks_who_vouches(exchange, check, refused, lies, monkeypatch, capsys):
    domain, digest = check.terms.domain, check.terms.circuits
    stated = CommitmentStatement(domain, check.file.model.model_id, digest, check.file.model.lane, 1)
    own, lie = SignedStatement.by(SECRET, stated), SignedStatement.by(SECRET, replace(stated, commitment=bytes(32)))
    lies(exchange.fisherman / "signed", own.dump())
    lies(exchange.fisherman / "lie", lie.dump())
    lies(exchange.fisherman / "evidence", own.dump() + lie.dump())
    lies(exchange.fisherman / "no evidence", own.dump() + own.dump())
    asked = (*exchange.take, "--signer", own.signer.hex())
    vouched = (*asked, "--vouched", "signed")
    monkeypatch.chdir(exchange.fisherman)
    with pytest.raises(SystemExit) as ended:
        run_reported(lambda: app(["spotcheck", *map(str, vouched)]))
    assert ended.value.code == 0
    assert "accepted" in capsys.readouterr().out
    for words, status, name in (
        (asked, 2, "vouched keys"),
        ((*asked, "--vouched", "lie"), 2, "vouched commitment"),
        ((*vouched, "--vouched", "lie"), 2, "vouched contradiction"),
        ((*vouched, "--contradiction", "evidence"), 2, "vouched keys"),
        ((*vouched, "--contradiction", "no evidence"), 2, "no evidence"),
        ((*vouched, "--contradiction", "signed"), 2, "signed"),
        ((*asked, "--vouched", "proof"), 2, "proof"),
        ((*vouched, "--rpc", "http://127.0.0.1:1"), 2, "--rpc, --court, --least-stake"),
        ((*exchange.take, "--least", 1), 2, "keys"),
        ((*(each for each in vouched if each not in ("--commitment", "commitment.json")),), 2, "--commitment"),
    ):
        refused(exchange.fisherman, words, status, name)
