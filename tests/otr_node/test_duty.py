"""A drawn check between two parties: proofs of a tiny circuit, keys that are not the agreed ones, and
two processes that exchange files alone."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import LeafPlace
from otr_core.encoding import canonical_json
from otr_core.errors import HashMismatchError, SpotCheckError
from otr_core.spotcheck import proofs
from otr_core.spotcheck.protocol import Stage
from otr_core.spotcheck.wire import CommittedBatch, answers_json, read_answers
from otr_node import duty, prover
from otr_node.chain.keys import write_key
from otr_node.chain.places import dump_place
from tests.helpers.command_line import otr
from tests.helpers.drawn_checks import BEACON, KEY, TIME, agreed

MATRIX = {"k": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("circuits")


@pytest.fixture(scope="module")
def proven(drawn, store):
    """(check that awaits an answer to a unit of a matrix, the operator's honest answers, a judge,
    the circuit)."""
    a = drawn.answer
    circuits = duty.circuits_for(a.model, MATRIX, store)
    who = duty.operator_of(a.model, a.file, a.said, a.response, circuits)
    digest = duty.verifier_of(a.model, circuits).digest
    check = drawn.open(agreed(shares=MATRIX, units=1, circuits=digest))
    check = check.draw(BEACON.sign(check.round))
    check = check.commit_rows(check.due, duty.rows_message(check, who, KEY))
    check = check.draw_units(BEACON.sign(check.round))
    answers = read_answers(json.loads(duty.units_message(check, who, KEY))["body"], 2)
    (circuit,) = circuits.values()
    return check, answers, duty.drawn_judge(check, a.model, a.said, a.response, circuits), circuit


def judged(proven, body):
    check, _, judge, _ = proven
    return check.answer(check.due, duty.sign_message(KEY, check.duty, "units", body), judge)


def test_a_unit_with_weights_is_proven_and_accepted(proven):
    assert judged(proven, answers_json(proven[1])).stage is Stage.ACCEPTED


def test_a_proof_has_one_form(proven):
    """Bytes after its end, other outputs, none at all, another circuit's name: each convicts."""
    (answer,) = proven[1]
    body, proof = answers_json(proven[1]), answer.proof
    for changed, check in (
        (replace(answer, proof=replace(proof, raw=proof.raw + bytes(2**20))), "proof"),
        (replace(answer, proof=replace(proof, raw=proof.raw[:-1])), "proof"),
        (replace(answer, proof=replace(proof, raw=proof.raw[:-1] + bytes([proof.raw[-1] ^ 1]))), "proof"),
        (replace(answer, proof=replace(proof, violation=1)), "violation"),
        (replace(answer, proof=None), "circuit"),
        (replace(answer, circuit="8x8"), "circuit"),
    ):
        assert judged(proven, answers_json((changed,))).refused_by == check
    for violation in ("ff" * 32, "-1", None, -1, 0, proofs.FIELD.to_bytes(32, "big").hex()):
        body[0]["proof"] = {"raw": proof.raw.hex(), "violation": violation}
        assert judged(proven, body).refused_by == "form"


def test_circuits_that_were_not_agreed_to_judge_nothing(proven, drawn, tmp_path):
    """Another machine's reference string, or another circuit: the digest of the terms is not theirs."""
    a = drawn.answer
    others = duty.circuits_for(a.model, MATRIX, tmp_path)
    judge = duty.drawn_judge(proven[0], a.model, a.said, a.response, others)
    with pytest.raises(SpotCheckError) as failure:
        judged((*proven[:2], judge, None), answers_json(proven[1]))
    assert failure.value.check == "held circuits"
    own, (other,) = proven[3], others.values()
    assert own.shape == other.shape
    assert own.digest != other.digest
    assert own.proof_bytes == other.proof_bytes == len(proven[1][0].proof.raw)


def test_another_circuit_under_the_same_name_has_another_digest(store, proven, tmp_path):
    """Its folder, whole and consistent: keys, card and all are those of a circuit with slack. Its graph tells,
    and if that is put back as it should be, the digest that both sides agree to."""
    circuit = proven[3]
    loose = prover.make_circuit(replace(circuit.shape, slack=1 << 30 - 10), store)
    copy = tmp_path / "keys"
    copy.mkdir()
    for srs in store.glob("*.srs"):
        shutil.copy(srs, copy)
    shutil.copytree(loose.folder, copy / circuit.shape.name)
    with pytest.raises(HashMismatchError, match=r"unit\.onnx"):
        prover.make_circuit(circuit.shape, copy)
    shutil.copy(circuit.folder / "unit.onnx", copy / circuit.shape.name)
    planted = prover.make_circuit(circuit.shape, copy)
    assert planted.digest != circuit.digest


def test_a_reference_string_is_the_one_the_keys_were_made_with(store, proven, tmp_path):
    copy = tmp_path / "keys"
    shutil.copytree(store, copy)
    circuit = proven[3]
    srs = copy / circuit.srs.name
    srs.write_bytes(srs.read_bytes()[:-1] + b"x")
    with pytest.raises(HashMismatchError, match="srs"):
        prover.make_circuit(circuit.shape, copy)


# --- two processes


class Party:
    """One of two, in a folder and in processes of its own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def otr(self, *words, status=0):
        env = os.environ | {"OTR_PASSWORD": "a password"}
        run = otr("spotcheck", *words, cwd=self.folder, env=env)
        assert run.returncode == status, run.stderr
        assert "Traceback" not in run.stderr
        return run.stdout

    def send(self, name, other):
        shutil.copy(self.folder / name, other.folder / name)


@pytest.mark.parametrize("demand", ["units", "proof"])
def test_two_machines_exchange_a_check_through_files(drawn, tmp_path, write_checkpoint, demand):
    model = write_checkpoint(tmp_path / "model")
    operator, fisherman = Party(tmp_path / "operator"), Party(tmp_path / "fisherman")
    account = write_key(operator.folder / "key.json", "a password")
    address = bytes.fromhex(account.address[2:])
    batch = CommittedBatch(address, merkle.root(drawn.leaves), 3, TIME)
    place = LeafPlace(batch_id(account.address, batch.root), 1, tuple(merkle.inclusion_proof(drawn.leaves, 1)))
    terms = agreed(demand=demand) if demand == "proof" else agreed(units=2)
    for name, content in (
        ("receipt.json", drawn.answer.file.dump()),
        ("terms.json", canonical_json(terms.to_json())),
        ("batch.json", canonical_json(batch.to_json())),
        ("place.json", dump_place(place)),
    ):
        (fisherman.folder / name).write_bytes(content)
        (operator.folder / name).write_bytes(content)
    held = ("--key", "key.json", "--terms", "terms.json", "--batch", "batch.json")
    asked = ("--terms", "terms.json", "--batch", "batch.json", "--place", "place.json", "--out", "check.json", "--json")
    told = json.loads(fisherman.otr("open", "receipt.json", *asked))
    assert told["stage"] == "INCLUDED"
    told = json.loads(fisherman.otr("round", "check.json", "--signature", BEACON.sign(told["round"]).hex(), "--json"))
    common = ("--model", model)
    if demand == "units":
        fisherman.send("check.json", operator)
        operator.otr("answer", "check.json", *held, "--out", "rows.json", *common)
        operator.send("rows.json", fisherman)
        told = json.loads(fisherman.otr("take", "check.json", "rows.json", "--at", told["until"], "--json"))
        assert told["stage"] == "COMMITTED"
        signature = BEACON.sign(told["round"]).hex()
        told = json.loads(fisherman.otr("round", "check.json", "--signature", signature, "--json"))
    fisherman.send("check.json", operator)
    for name, other in (
        ("terms.json", replace(terms, answer_s=terms.answer_s + 1).to_json()),
        ("batch.json", replace(batch, time=batch.time + 1).to_json()),
    ):
        own = (operator.folder / name).read_bytes()
        (operator.folder / name).write_bytes(canonical_json(other))
        operator.otr("answer", "check.json", *held, "--out", "answer.json", "--proof-out", "proof", *common, status=2)
        assert not (operator.folder / "answer.json").exists()
        (operator.folder / name).write_bytes(own)
    operator.otr("answer", "check.json", *held, "--out", "answer.json", "--proof-out", "proof", *common)
    operator.send("answer.json", fisherman)
    shown = ()
    if demand == "proof":
        operator.send("proof", fisherman)
        shown = ("--proof", "proof")
    taken = ("take", "check.json", "answer.json", *shown, *common, "--json", "--at")
    assert json.loads(fisherman.otr(*taken, told["until"]))["stage"] == "ACCEPTED"
    fisherman.otr("take", "check.json", "--at", told["until"], status=2)  # something may still come
    silent = json.loads(fisherman.otr("take", "check.json", "--at", told["until"] + 1, "--json", status=1))
    assert silent["refused_by"] == "silence"


def test_a_place_in_another_batch_is_unusable(drawn, tmp_path):
    party = Party(tmp_path / "one")
    other = LeafPlace(b"x" * 32, 1, ())
    for name, content in (
        ("receipt.json", drawn.answer.file.dump()),
        ("terms.json", canonical_json(agreed().to_json())),
        ("batch.json", canonical_json(drawn.batch().to_json())),
        ("place.json", dump_place(other)),
    ):
        (party.folder / name).write_bytes(content)
    asked = ("--terms", "terms.json", "--batch", "batch.json", "--place", "place.json", "--out", "check.json")
    party.otr("open", "receipt.json", *asked, status=2)
