"""The commitment to a model: deterministic, of every weight, its files and its commands."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from otr_core.cli import add_commands, app
from otr_core.errors import AnswerProofError, InputError, ParameterError
from otr_core.lane.dims import Matrix
from otr_core.merkle import Tree, leaf_hash, leaf_hasher
from otr_core.spotcheck.proof.blocks import BLOWUP_BITS
from otr_core.spotcheck.proof.commitment import column_leaf
from otr_core.spotcheck.proof.committed import COMMITTED, REACH, SHARED, ModelCommitment, WeightLayout
from otr_core.spotcheck.proof.field import residues, transform
from otr_core.spotcheck.proof.vouching import SignedStatement
from otr_node.chain.keys import VARIABLE, write_key
from otr_node.commands import commands as node_commands
from otr_node.portable import load_portable
from otr_node.proof.answers import KeptCommitment, check_commitment, commit_for_proofs, prove_answer
from otr_node.proof.model_cells import ModelCells
from otr_paper.labs.tiny import TINY, tiny_tensors, write_tiny


def laid_by_definition(model) -> np.ndarray:
    """All cells of a model, one after the other as the layout says."""
    layout = WeightLayout(model.dims)
    down, along = layout.block
    blocks = []
    for matrix in COMMITTED:
        for layer in range(1 if matrix in SHARED else model.dims.layers):
            dense = model.matrix(matrix, layer).dense()
            for first in range(0, len(dense), down):
                for left in range(0, dense.shape[1], along):
                    block = np.zeros((down, along), np.int64)
                    own = dense[first : first + down, left : left + along]
                    block[: len(own)] = own
                    blocks.append(block.ravel())
    flat = np.zeros(layout.rows << layout.row_bits, np.int64)
    flat[: layout.blocks * layout.block_cells] = np.concatenate(blocks)
    return residues(flat).reshape(layout.rows, -1)


def root_by_definition(model) -> bytes:
    """The commitment's root by the verifier's own functions."""
    words = []
    for row in laid_by_definition(model):
        words.append(transform(np.pad(row, (0, len(row) * (2**BLOWUP_BITS - 1)))))
    return Tree([column_leaf(column) for column in np.stack(words).T]).root


def test_the_root_is_the_one_that_definitions_give(tiny_portable, tiny_commitment):
    assert tiny_commitment.commitment.root == root_by_definition(tiny_portable)
    assert tiny_commitment.commitment.model_id == tiny_portable.manifest.model_id
    assert tiny_commitment.commitment.saturation == tiny_portable.bounds.saturation
    for kind, bits in tiny_commitment.commitment.bound_bits.items():
        assert 2 ** (bits - 1) <= tiny_portable.bounds.accumulators[kind] < 2**bits
    assert set(tiny_commitment.commitment.bound_bits) == set(REACH)


@pytest.mark.parametrize("at_once", [2**12, 2**13, 2**15])
def test_it_is_the_same_however_much_is_held_at_once(tiny_portable, tiny_commitment, at_once):
    cells = ModelCells(tiny_portable, WeightLayout(tiny_portable.dims), at_once)
    assert cells.words.column_hashes() == tiny_commitment.hashes
    found = [(first, rows.copy()) for first, rows in cells.chunks()]
    assert np.array_equal(np.concatenate([rows for _, rows in found]), laid_by_definition(tiny_portable))
    assert [first for first, _ in found] == list(np.cumsum([0, *(len(rows) for _, rows in found)])[:-1])


def test_a_leaf_in_pieces_is_the_leaf():
    hasher = leaf_hasher()
    hasher.update(b"ab")
    hasher.update(b"c")
    assert hasher.digest() == leaf_hash(b"abc")


@pytest.mark.parametrize("name", ["embed_tokens", "q_proj", "o_proj", "up_proj", "down_proj", "input_layernorm"])
def test_one_changed_weight_is_another_commitment(tiny_commitment, tmp_path, name):
    tensors = tiny_tensors(TINY)
    own = next(key for key in tensors if name in key)
    tensors[own] = tensors[own].copy()
    tensors[own].flat[3] += 0.25
    other = load_portable(write_tiny(tmp_path, TINY, tensors))
    found = commit_for_proofs(other, lambda line: None).commitment
    assert found.root != tiny_commitment.commitment.root
    with pytest.raises(AnswerProofError) as caught:
        check_commitment(other, tiny_commitment.commitment, lambda line: None)
    assert caught.value.check == "commitment"
    # under the first one's id, as a liar would write it
    lie = replace(found, model_id=tiny_commitment.commitment.model_id)
    assert lie.digest != tiny_commitment.commitment.digest


def test_each_field_is_part_of_the_digest(tiny_commitment):
    own = tiny_commitment.commitment
    others = {
        replace(own, root=bytes(32)).digest,
        replace(own, model_id=bytes(32)).digest,
        replace(own, saturation_bits=(*own.saturation_bits[:-1], 21)).digest,
        *(replace(own, bound_bits={**own.bound_bits, kind: 5}).digest for kind in REACH),
    }
    assert len(others) == 3 + len(REACH)
    assert own.digest not in others


def test_a_commitment_travels_as_a_file_of_one_form(tiny_commitment):
    own = tiny_commitment.commitment
    raw = own.dump()
    assert ModelCommitment.load(raw) == own
    document = own.to_json()

    def told(**changes) -> bytes:
        return json.dumps({**document, **changes}, sort_keys=True, separators=(",", ":")).encode() + b"\n"

    assert told() == raw
    bad = [
        b"",
        raw[:-1],
        raw + b"\n",
        told(format="otr-model-commitment/2"),
        told(more=1),
        told(root="00"),
        told(root=document["root"].upper()),
        told(model_id=7),
        told(saturation_bits="30"),
        told(saturation_bits=[20, 30, 30]),
        told(saturation_bits=[31, 30, 30]),
        told(saturation_bits=[True, 30, 30]),
        told(saturation_bits=[30.5, 30, 30]),
        told(bound_bits=[]),
        told(bound_bits={**document["bound_bits"], "gate": 64}),
        told(bound_bits={**document["bound_bits"], "gate": -1}),
        told(bound_bits={**document["bound_bits"], "more": 1}),
        told(bound_bits={**document["bound_bits"], "gate": True}),
        told(bound_bits={"gate": 1}),
    ]
    for given in bad:
        with pytest.raises(InputError):
            ModelCommitment.load(given)
    for other in ({"saturation_bits": (30.0, 30, 30)}, {"bound_bits": {**own.bound_bits, "gate": 5.0}}):
        with pytest.raises(InputError, match="model commitment"):  # no file says so, but a caller may
            replace(own, **other)


def test_a_file_that_is_too_large_is_not_parsed(tiny_commitment, tmp_path):
    path = tmp_path / "commitment.json"
    path.write_bytes(tiny_commitment.commitment.dump() + b" " * 2**20)
    with pytest.raises(InputError, match="of at most 1048576 bytes"):
        ModelCommitment.read(path)


def test_hashes_are_those_under_the_root(tiny_commitment):
    hashes = tiny_commitment.hashes
    for other in (hashes[:-32], hashes + bytes(32), bytes(32) + hashes[32:]):
        with pytest.raises(InputError, match="column hashes: found root"):
            KeptCommitment(tiny_commitment.commitment, other)
    for other in (b"", hashes[:-1], hashes + b"\0"):
        with pytest.raises(InputError, match="bytes, expected 32 a column"):
            KeptCommitment(tiny_commitment.commitment, other)


def test_a_family_that_is_not_proven_is_not_committed_to(tiny_portable):
    other = replace(tiny_portable, manifest=replace(tiny_portable.manifest, lane="native-float32"))
    with pytest.raises(AnswerProofError) as caught:
        commit_for_proofs(other, lambda line: None)
    assert caught.value.check == "mode"


def run(*words: object):
    if not any(group.typer_instance is node_commands for group in app.registered_groups):
        add_commands()
    return CliRunner().invoke(app, [*map(str, words)])


def test_commit_prove_and_check_from_files(answer, tiny_commitment, committed_proof, honest_proof, tmp_path):
    write_tiny(tmp_path / "model")
    receipt, proof, held = tmp_path / "receipt.json", tmp_path / "proof", tmp_path / "commitment.json"
    receipt.write_bytes(answer.file.dump())
    made = run("commit-model", "--out", held, "--model", tmp_path / "model", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["digest"] == tiny_commitment.commitment.digest.hex()
    assert ModelCommitment.read(held) == tiny_commitment.commitment
    asked = ("prove", receipt, "--out", proof, "--model", tmp_path / "model", "--commitment", held)
    assert run(*asked).exit_code == 0
    assert proof.read_bytes() == committed_proof
    (tmp_path / "commitment.json.columns").unlink()  # then they are made again
    assert run(*asked).exit_code == 0
    assert proof.read_bytes() == committed_proof
    check = ("check", proof, "--receipt", receipt, "--commitment", held)
    found = run(*check, "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["model"] == tiny_commitment.commitment.digest.hex()
    assert "no weights were looked at" in run(*check).stdout
    assert "made again from the weights" in run(*check, "--model", tmp_path / "model").stdout
    lie = replace(tiny_commitment.commitment, root=bytes(32))
    held.write_bytes(lie.dump())
    refused = run(*check, "--model", tmp_path / "model")
    assert isinstance(refused.exception, AnswerProofError)
    assert refused.exception.check == "commitment"
    proof.write_bytes(honest_proof)
    refused = run(*check)
    assert isinstance(refused.exception, AnswerProofError)
    assert refused.exception.check == "header"


@pytest.fixture
def signer(tmp_path, monkeypatch):
    """A key file and its address."""
    monkeypatch.setenv(VARIABLE, "a password")
    return tmp_path / "key.json", write_key(tmp_path / "key.json", "a password").address[2:].lower()


def test_a_commitment_is_signed_asked_for_and_shown_to_be_false(
    answer, tiny_commitment, committed_proof, tmp_path, signer
):
    key, address = signer
    model, held = write_tiny(tmp_path / "model"), tmp_path / "commitment.json"
    receipt, proof = tmp_path / "receipt.json", tmp_path / "proof"
    receipt.write_bytes(answer.file.dump())
    proof.write_bytes(committed_proof)
    domain = answer.file.order.domain
    where = ("--chain-id", domain.chain_id, "--court", domain.court.hex())
    made = run("commit-model", "--out", held, "--model", model, "--sign", key, *where, "--json")
    assert made.exit_code == 0, made.output
    told = tmp_path / "commitment.json.signed"
    own = SignedStatement.read(told)
    assert json.loads(made.stdout)["signer"] == own.signer.hex() == address
    assert own.statement.commitment == tiny_commitment.commitment.digest

    check = ("check", proof, "--receipt", receipt, "--commitment", held)
    asked = (*check, "--vouched", told, "--signer", address)
    found = run(*asked, "--json")
    assert json.loads(found.stdout)["vouched_by"] == [address]
    assert f"vouched for by {address}" in run(*asked).stdout
    for words, name in (
        ((*check, "--signer", address), "vouched keys"),
        ((*asked, "--signer", "11" * 20), "vouched keys"),
        ((*check, "--vouched", told, "--signer", "11" * 20), "vouched keys"),
    ):
        refused = run(*words)
        assert isinstance(refused.exception, AnswerProofError)
        assert refused.exception.check == name
    assert run(*asked, "--signer", "11" * 20, "--least", 1).exit_code == 0
    assert isinstance(run(*check, "--vouched", told).exception, ParameterError)  # nobody's word is asked for
    assert isinstance(run(*check[:4], "--vouched", told).exception, InputError)

    # Whoever holds the weights tells which statement is false.
    lie = tmp_path / "lie"
    false = replace(own.statement, commitment=bytes(32))
    lie.write_bytes(SignedStatement.by(b"\x09" * 32, false).dump())
    shown = run("commit-model", "--model", model, "--against", told, "--against", lie)
    assert shown.exit_code == 1
    liar = SignedStatement.read(lie).signer.hex()
    assert f"true: {address}" in shown.stdout
    assert f"false: {liar}" in shown.stdout
    assert run("commit-model", "--model", model, "--against", told).exit_code == 0
    said = run("commit-model", "--model", model, "--against", lie, "--json")
    assert json.loads(said.stdout)["false"] == [liar]
    elsewhere = replace(own.statement, model_id=bytes(32))
    lie.write_bytes(SignedStatement.by(b"\x09" * 32, elsewhere).dump())
    assert isinstance(run("commit-model", "--model", model, "--against", lie).exception, InputError)
    assert isinstance(run("commit-model", "--model", model).exception, InputError)


def test_one_matrix_is_read_through_its_own_column(tiny_portable):
    layout = WeightLayout(tiny_portable.dims)
    for matrix in COMMITTED:
        column = layout.columns[matrix.name.lower()]
        assert column.shape[1:] == tiny_portable.matrix(matrix, 0).shape
    assert set(COMMITTED) == {matrix for matrix in Matrix if matrix < Matrix.QUERY_SCALE}


@pytest.mark.parametrize("at", ["joining 6 claims about the model", "encoding"])
def test_a_prover_that_was_ended_while_it_opens_the_model_goes_on(
    answer, tiny_commitment, committed_proof, tmp_path, at
):
    said: list[str] = []

    def until(line):
        said.append(line)
        if line.startswith(f"  {at}"):
            raise KeyboardInterrupt

    given, kept = (answer.model, answer.file, answer.said, answer.response), tmp_path / "begun"
    with pytest.raises(KeyboardInterrupt):
        prove_answer(*given, until, kept, tiny_commitment)
    assert kept.stat().st_size > 10_000
    again: list[str] = []
    assert prove_answer(*given, again.append, kept, tiny_commitment) == committed_proof
    assert not any(line.startswith("  dot") for line in again)
    assert not kept.exists()
