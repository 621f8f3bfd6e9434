"""A prover that is ended leaves no half proof, and goes on where it was."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from otr_core.encoding import canonical_json
from otr_core.errors import InputError, ProverError
from otr_core.spotcheck.proof.verify import HEADER, proven_statement
from otr_node.proof import cells
from otr_node.proof.answers import prove_answer
from otr_node.proof.journal import ProofJournal

#: Proves, and kills itself once so many bytes are said.
ENDED = """
import os, signal, sys
from pathlib import Path
from otr_core.poea.document import load_receipt_file
from otr_node.portable import load_portable
from otr_node.proof import answers, journal
keep = journal.ProofJournal.keep
def until(self, message):
    made = keep(self, message)
    if self._at + len(message) > int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return made
journal.ProofJournal.keep = until
folder = Path(sys.argv[2])
file = load_receipt_file((folder / "receipt.json").read_bytes())
made = answers.prove_answer(load_portable(folder / "model"), file, *answers.opened(file, None), print, folder / "kept")
(folder / "proof").write_bytes(made)
"""


@pytest.fixture(scope="module")
def folder(answer, tmp_path_factory, write_checkpoint):
    """A model and a receipt of its answer."""
    found = tmp_path_factory.mktemp("ended")
    write_checkpoint(found / "model")
    (found / "receipt.json").write_bytes(answer.file.dump())
    return found


def proven(answer, kept, lines=None):
    """A proof, and the bytes of it that were made anew."""
    made = []

    class Counting(ProofJournal):
        def keep(self, message):
            made.append(len(message))
            return super().keep(message)

    patch = pytest.MonkeyPatch()
    with patch.context() as own:
        own.setattr("otr_node.proof.answers.ProofJournal", Counting)
        report = (lambda line: None) if lines is None else lines.append
        proof = prove_answer(answer.model, answer.file, answer.said, answer.response, report, kept)
    return proof, sum(made)


@pytest.mark.parametrize("part", [0.01, 0.2, 0.9])
def test_a_killed_prover_leaves_no_proof_and_goes_on(answer, honest_proof, folder, part):
    """Killed early, half way, and in the opening."""
    at = int(part * len(honest_proof))
    child = subprocess.run([sys.executable, "-c", ENDED, str(at), str(folder)], capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    assert {path.name for path in folder.iterdir()} == {"model", "receipt.json", "kept"}
    said = (folder / "kept").stat().st_size - 32
    assert at < said <= len(honest_proof)
    proof, made = proven(answer, folder / "kept")
    assert proof == honest_proof
    assert made == len(honest_proof) - said
    assert not (folder / "kept").exists()


def test_what_was_cut_off_within_a_message_is_made_again(answer, honest_proof, tmp_path):
    kept, lines = tmp_path / "kept", []
    channel = ProofJournal(kept)
    side_root = honest_proof[honest_proof.index(b"\n") + 1 :][:32]
    channel.begin(statement(answer), side_root)
    cut = len(honest_proof) // 5 + 3
    kept.write_bytes(kept.read_bytes() + honest_proof[:cut])
    proof, made = proven(answer, kept, lines)
    assert proof == honest_proof
    assert 0 < len(honest_proof) - made < cut
    assert any("going on after" in line for line in lines)


def statement(answer) -> bytes:
    return canonical_json(proven_statement(answer.file, answer.said, answer.response))


def test_what_another_statement_said_is_not_taken(answer, honest_proof, tmp_path):
    kept = tmp_path / "kept"
    kept.write_bytes(bytes(32) + b"\1" * 5000)
    proof, made = proven(answer, kept)
    assert proof == honest_proof
    assert made == len(honest_proof)
    assert not kept.exists()


def test_kept_messages_that_nobody_said_make_no_proof(answer, honest_proof, tmp_path):
    """Whoever knows answer and model knows the key of what is kept: its owner would sign a false proof."""
    kept = tmp_path / "kept"
    channel = ProofJournal(kept)
    channel.begin(statement(answer), honest_proof[len(HEADER) :][:32])
    key = kept.read_bytes()
    for at in (len(HEADER) + 40, len(honest_proof) // 2, len(honest_proof) - 1):
        forged = bytearray(honest_proof)
        forged[at] ^= 1
        kept.write_bytes(key + forged)
        with pytest.raises(ProverError, match="found others than were said"):
            proven(answer, kept)
        assert not kept.exists()
    assert proven(answer, kept)[0] == honest_proof


def test_what_another_version_said_is_not_taken(answer, honest_proof, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    with monkeypatch.context() as own:
        own.setattr("otr_node.proof.journal.HEADER", b"another version\n")
        ProofJournal(kept).begin(statement(answer), honest_proof[len(HEADER) :][:32])
    kept.write_bytes(kept.read_bytes() + b"another version\n" + bytes(5000))
    assert proven(answer, kept) == (honest_proof, len(honest_proof))


def test_messages_are_kept_through_no_link_and_for_no_other_reader(answer, tmp_path):
    other, kept = tmp_path / "other", tmp_path / "kept"
    other.write_bytes(b"somebody's")
    kept.symlink_to(other)
    with pytest.raises(InputError, match="found no way to keep messages"):
        proven(answer, kept)
    assert other.read_bytes() == b"somebody's"
    kept.unlink()
    ProofJournal(kept).begin(b"", bytes(32))
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("at_once", [1, 2**13])
def test_the_proof_is_the_same_however_many_code_words_are_made_at_once(answer, honest_proof, monkeypatch, at_once):
    monkeypatch.setattr(cells, "AT_ONCE", at_once)
    assert answer.prove() == honest_proof


def test_a_full_disk_and_a_folder_that_is_not_there_are_named(answer, tmp_path):
    with pytest.raises(InputError, match="found no way to keep messages"):
        proven(answer, tmp_path / "none" / "kept")
