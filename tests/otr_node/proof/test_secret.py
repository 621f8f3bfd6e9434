"""What hides a commitment to a model: its file, and how proofs under it are counted; the commands with it."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner

from otr_core.cli import add_commands, app
from otr_core.errors import AnswerProofError, InputError
from otr_core.spotcheck.proof.committed import ModelCommitment
from otr_core.spotcheck.proof.field import P
from otr_core.spotcheck.proof.verify import HIDING_HEADER
from otr_node.commands import commands as node_commands
from otr_node.proof.randomness import field_numbers, seeded
from otr_node.proof.secret import HidingSecret

OWN = b"o" * 32
"""Digest of the commitment."""


@pytest.fixture
def secret(tmp_path):
    return HidingSecret.create(tmp_path / "model.secret", b"s" * 32, OWN)


def test_a_secret_is_its_owners_and_is_not_written_over(secret):
    assert stat.S_IMODE(secret.path.stat().st_mode) == 0o600
    assert HidingSecret.read(secret.path, OWN) == secret
    with pytest.raises(InputError, match="expected a new file"):
        HidingSecret.create(secret.path, b"t" * 32, OWN)
    assert HidingSecret.read(secret.path, OWN).seed == b"s" * 32


def test_a_secret_is_of_one_commitment(secret):
    with pytest.raises(InputError, match=f"found the secret of {OWN.hex()}, expected that of {bytes(32).hex()}"):
        HidingSecret.read(secret.path, bytes(32))


def test_proofs_are_counted_up_to_what_the_commitment_says(secret):
    assert [secret.count(3) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="found 3 proofs made, expected fewer than 3"):
        HidingSecret.read(secret.path, OWN).count(3)
    assert HidingSecret.read(secret.path, OWN).seed == secret.seed


def test_of_many_that_count_at_once_no_two_get_one_number(secret):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: HidingSecret.read(secret.path, OWN).count(64), range(64)))
    assert sorted(found) == list(range(64))


@pytest.mark.parametrize(
    "raw", [b"", b"{}\n", b"\xff", b'{"format":"otr-hiding-secret/1","seed":"00"}\n', b"x" * 70000]
)
def test_another_file_is_no_secret(secret, raw):
    secret.path.write_bytes(raw)
    with pytest.raises(InputError, match=r"model\.secret"):
        HidingSecret.read(secret.path, OWN)
    with pytest.raises(InputError, match=r"model\.secret"):
        secret.count(3)
    assert secret.path.read_bytes() == raw


def test_bytes_that_are_no_count_are_refused(secret):
    secret.path.write_bytes(secret.path.read_bytes() + b"..x")
    with pytest.raises(InputError, match="one dot a proof"):
        secret.count(8)


def test_a_link_or_nothing_is_no_secret(secret, tmp_path):
    (tmp_path / "link").symlink_to(secret.path)
    for path in (tmp_path / "link", tmp_path / "none", tmp_path):
        with pytest.raises(InputError):
            HidingSecret.read(path, OWN)


def test_numbers_are_of_the_field_and_follow_from_their_secret():
    found = field_numbers((70, 30), os.urandom)
    assert found.shape == (70, 30)
    assert int(found.max()) < P
    assert abs(float((found >> 63).mean()) - 0.5) < 0.1
    again = [field_numbers((50,), seeded(b"s", label)).tolist() for label in ("a", "a", "b")]
    assert again[0] == again[1] != again[2]
    beyond = (2**64 - 1).to_bytes(8, "little")
    # what is no number of the field is passed over, and what follows moves up
    drawn = bytes(range(8))
    assert field_numbers((1,), lambda size: (beyond + drawn * size)[:size]).tolist() == [
        int.from_bytes(drawn, "little")
    ]
    with pytest.raises(AssertionError, match="no random source"):
        field_numbers((3,), lambda size: beyond * (size // 8))


# --- the commands


@pytest.fixture(scope="module")
def files(answer, tmp_path_factory, write_checkpoint):
    """A model, a receipt of its answer, and a commitment that hides the model in two proofs."""
    if not any(group.typer_instance is node_commands for group in app.registered_groups):
        add_commands()
    folder = tmp_path_factory.mktemp("hidden")
    write_checkpoint(folder / "model")
    (folder / "receipt.json").write_bytes(answer.file.dump())
    found = run("commit-model", "--model", folder / "model", "--out", folder / "hidden", "--hide", 2)
    assert found.exit_code == 0, found.output
    return folder


def run(*words: object):
    return CliRunner().invoke(app, [*map(str, words)])


def test_a_proof_that_hides_travels_as_a_file(files, tmp_path):
    receipt, hidden, model = files / "receipt.json", files / "hidden", files / "model"
    stated = ModelCommitment.read(hidden)
    assert stated.answers == 2
    assert json.loads(hidden.read_bytes())["format"] == "otr-model-commitment/2"
    proof = tmp_path / "proof"
    made = run("prove", receipt, "--out", proof, "--model", model, "--commitment", hidden, "--zk", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["mode"] == "zk"
    assert proof.read_bytes().startswith(HIDING_HEADER)
    found = run("check", proof, "--receipt", receipt, "--commitment", hidden)
    assert found.exit_code == 0, found.output
    assert "zero knowledge" in found.output
    # whoever has the secret makes the commitment again; whoever has weights alone cannot
    assert run("check", proof, "--receipt", receipt, "--commitment", hidden, "--model", model).exit_code == 0
    (tmp_path / "bare").write_bytes(hidden.read_bytes())
    refused = run("check", proof, "--receipt", receipt, "--commitment", tmp_path / "bare", "--model", model)
    assert isinstance(refused.exception, InputError)
    assert str(refused.exception).startswith(f"{tmp_path / 'bare.secret'}: found none")
    # another commitment's secret is told before anything is counted
    other = ModelCommitment.load(hidden.read_bytes().replace(stated.root.hex().encode(), b"00" * 32))
    (tmp_path / "other").write_bytes(other.dump())
    (tmp_path / "other.secret").write_bytes((files / "hidden.secret").read_bytes())
    refused = run("prove", receipt, "--out", tmp_path / "p", "--model", model, "--commitment", tmp_path / "other")
    assert "found the secret of" in str(refused.exception)
    assert (tmp_path / "other.secret").read_bytes() == (files / "hidden.secret").read_bytes()
    # the second proof is the last one
    more = ("prove", receipt, "--out", proof, "--model", model, "--commitment", hidden)
    assert run(*more).exit_code == 0
    proof.unlink()
    last = run(*more)
    assert "found 2 proofs made" in str(last.exception)
    assert not proof.exists()


def test_nobody_vouches_for_a_commitment_that_hides(files):
    hidden, model = files / "hidden", files / "model"
    signed = run("commit-model", "--model", model, "--out", files / "other", "--hide", 2, "--sign", files / "key")
    assert "--hide" in str(signed.exception)
    asked = ("check", files / "receipt.json", "--receipt", files / "receipt.json", "--commitment", hidden)
    refused = run(*asked, "--signer", "11" * 20)
    assert isinstance(refused.exception, AnswerProofError | InputError)
    assert "hides the model" in str(refused.exception)


def test_what_is_asked_must_fit(files, tiny_commitment, tmp_path):
    receipt, model = files / "receipt.json", files / "model"
    (tmp_path / "plain").write_bytes(tiny_commitment.commitment.dump())
    for more in ((), ("--commitment", tmp_path / "plain")):
        refused = run("prove", receipt, "--out", tmp_path / "p", "--model", model, "--zk", *more)
        assert isinstance(refused.exception, InputError)
        assert "otr commit-model --hide" in str(refused.exception)
    for count in (-1, 10**6):
        refused = run("commit-model", "--model", model, "--out", tmp_path / "x", "--hide", count)
        assert isinstance(refused.exception, InputError)
        assert "expected 0 to" in str(refused.exception)
    again = run("commit-model", "--model", model, "--out", files / "hidden", "--hide", 2)
    assert "found a secret" in str(again.exception)


def test_a_commitment_that_hides_has_one_encoding(files):
    raw = (files / "hidden").read_bytes()
    assert ModelCommitment.load(raw).dump() == raw
    for other in (b'"answers":0', b'"answers":-1', b'"answers":true', b'"answers":65', b'"answers":2.0'):
        with pytest.raises(InputError):
            ModelCommitment.load(raw.replace(b'"answers":2', other))
    with pytest.raises(InputError):
        ModelCommitment.load(raw.replace(b'"answers":2,', b""))
