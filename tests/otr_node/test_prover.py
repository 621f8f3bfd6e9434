"""The proof system on a small circuit: what it accepts, what it refuses, and what is left behind
when it fails."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.errors import HashMismatchError, InputError, ParameterError, ProofError, ProverError, SpotCheckError
from otr_core.spotcheck import proofs
from otr_node import prover

SHAPE = proofs.Shape(2, 16)
HALF = 1 << (proofs.SHIFT - 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def circuit(store):
    return prover.make_circuit(SHAPE, store)


def said(seed=1, shape=SHAPE) -> proofs.Statement:
    rng = np.random.default_rng(seed)
    w, x = rng.integers(-(2**30), 2**30, (shape.rows, shape.columns)), rng.integers(-(2**24), 2**24, shape.columns)
    return proofs.Statement(w, x, (w @ x + HALF) >> proofs.SHIFT)


@pytest.fixture(scope="module")
def proven(circuit):
    return prover.prove_unit(circuit, said())[0]


def test_an_exact_unit_is_proven_and_its_points_are_the_commitments(circuit, proven):
    assert proven.violation == 0
    assert prover.verify_proof(circuit, proven).value
    statement = said()
    vectors = [v.flatten().tolist() for v in (statement.weights, statement.activations, statement.outputs)]
    points, _ = prover.commit_vectors(circuit, vectors)
    assert tuple(point for own in points for point in own) == proven.points(3)
    changed, _ = prover.commit_vectors(circuit, [[v + 1 for v in vector] for vector in vectors])
    assert all(a != b for a, b in zip(points, changed, strict=True))


@pytest.mark.parametrize("off", [1, -1, 3])
def test_an_output_off_by_as_little_as_one_shows_as_the_violation(circuit, off):
    statement = said()
    wrong = replace(statement, outputs=statement.outputs + np.array([off, 0]))
    proof, _ = prover.prove_unit(circuit, wrong)
    assert proof.violation == wrong.violation() > 0
    assert not prover.verify_proof(circuit, replace(proof, violation=0)).value


@pytest.mark.parametrize("off", [0, 1])
def test_the_window_is_exact_at_both_ends(circuit, off):
    """A remainder of −2^19 and of 2^19 − 1 is rounding's; one further is not."""
    for edge, sign in ((-HALF, -1), (HALF - 1, 1)):
        x = np.zeros(16, np.int64)
        x[0] = 1
        w = np.zeros((2, 16), np.int64)
        w[:, 0] = edge + sign * off
        statement = proofs.Statement(w, x, np.zeros(2, np.int64))
        assert statement.violation() == 2 * off
        assert prover.prove_unit(circuit, statement)[0].violation == 2 * off


def test_a_statement_too_wrong_for_the_circuit_has_no_proof(circuit, tmp_path):
    statement = said()
    wrong = replace(statement, outputs=statement.outputs + 2**20)
    with pytest.raises(SpotCheckError) as failure:
        prover.write_witness(circuit, wrong, tmp_path / "witness.json")
    assert failure.value.check == "violation"
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(-3, 3))
def test_the_violation_in_integers(seed, off):
    statement = said(seed)
    wrong = replace(statement, outputs=statement.outputs + np.array([off, 0]))
    assert (wrong.violation() == 0) == (off == 0)
    assert wrong.violation(slack=8 << proofs.SHIFT) == 0


def test_slack_is_the_room_it_says(store):
    loose = prover.make_circuit(replace(SHAPE, slack=1 << proofs.SHIFT), store)
    statement = said()
    for off, right in ((1, True), (3, False)):
        wrong = replace(statement, outputs=statement.outputs + off)
        assert (prover.prove_unit(loose, wrong)[0].violation == 0) == right


def test_changed_bytes_are_refused(circuit, proven):
    for at in (0, 70, len(proven.raw) // 2, len(proven.raw) - 1):
        raw = proven.raw[:at] + bytes([proven.raw[at] ^ 1]) + proven.raw[at + 1 :]
        assert not prover.verify_proof(circuit, replace(proven, raw=raw)).value
    assert not prover.verify_proof(circuit, replace(proven, raw=proven.raw[:-32])).value
    with pytest.raises(InputError):
        prover.verify_proof(circuit, replace(proven, violation=-1))


def test_a_proof_document_must_agree_with_itself(proven):
    document = json.loads(proofs.proof_document(proven))
    assert proofs.read_proof(document) == proven
    for change in ({"hex_proof": "0x00"}, {"instances": []}, {"instances": [[proofs.felt(0)] * 2]}, {"proof": [256]}):
        with pytest.raises(ProofError):
            proofs.read_proof({**document, **change})


def test_an_altered_key_is_refused_and_names_the_file(store, circuit, tmp_path):
    import shutil

    copy = tmp_path / "keys"
    shutil.copytree(store, copy)
    key = copy / SHAPE.name / "pk.key"
    key.write_bytes(key.read_bytes()[:-1] + b"x")
    with pytest.raises(HashMismatchError, match=r"pk\.key"):
        prover.make_circuit(SHAPE, copy)


def test_keys_of_another_recipe_are_made_again(store, circuit):
    card = store / SHAPE.name / "card.json"
    before = card.read_text()
    prover.make_circuit(SHAPE, store)
    assert card.read_text() == before
    card.write_text(json.dumps({**json.loads(before), "recipe": ["another version"]}))
    prover.make_circuit(SHAPE, store)
    assert json.loads(card.read_text())["recipe"] == json.loads(before)["recipe"]


def test_too_little_memory_is_a_named_error_and_leaves_nothing(store, circuit, tmp_path):
    with pytest.raises(ProverError, match="make_keys"):
        prover.make_circuit(proofs.Shape(3, 16), store, memory_mb=40)
    assert not (store / "3x16").exists()
    assert not [path for path in store.iterdir() if path.name.startswith(".")]
    with pytest.raises(ProverError, match="run_circuit"):
        prover.write_witness(circuit, said(), tmp_path / "witness.json", memory_mb=40)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_step_is_a_named_error(circuit):
    with pytest.raises(ProverError, match="no result after"):
        prover.call("draw_srs", path="never-written.srs", k=18, timeout_s=0.5)


@pytest.mark.parametrize("options", [{"rows": 0}, {"columns": 10**6}, {"slack": -1}, {"slack": 2**28}])
def test_unusable_shapes(options):
    with pytest.raises(ParameterError):
        proofs.Shape(**{"rows": 2, "columns": 16, **options})


def test_a_statement_of_another_shape_is_refused(circuit, tmp_path):
    with pytest.raises(InputError, match="shapes"):
        prover.write_witness(circuit, said(shape=proofs.Shape(2, 8)), tmp_path / "witness.json")


def test_another_circuits_folder_under_this_name_is_refused(store, circuit, tmp_path):
    """Its card, keys and reference string fit each other: only its graph tells."""
    import shutil

    copy, slack = tmp_path / "keys", replace(SHAPE, slack=5)
    shutil.copytree(store, copy)
    prover.make_circuit(slack, copy)
    shutil.rmtree(copy / SHAPE.name)
    (copy / slack.name).rename(copy / SHAPE.name)
    with pytest.raises(HashMismatchError, match=r"unit\.onnx"):
        prover.make_circuit(SHAPE, copy)
