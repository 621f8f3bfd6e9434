"""``otr prove`` and ``otr check`` from files to verdict."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from otr_core.cli import add_commands, app
from otr_core.errors import AnswerProofError, InputError
from otr_core.poea.client import opened
from otr_core.poea.message import Message
from otr_node.commands import commands as node_commands


@pytest.fixture(scope="module")
def files(answer, tiny_portable, tmp_path_factory, write_checkpoint):
    """Folder with a model and a receipt of its answer."""
    folder = tmp_path_factory.mktemp("proofs")
    write_checkpoint(folder / "model")
    (folder / "receipt.json").write_bytes(answer.file.dump())
    return folder


@pytest.fixture(scope="module", autouse=True)
def commands():
    """The commands of all packages."""
    if not any(group.typer_instance is node_commands for group in app.registered_groups):
        add_commands()


def run(*words: object):
    return CliRunner().invoke(app, [*map(str, words)])


def test_a_proof_travels_as_a_file(files, honest_proof):
    receipt, proof, model = files / "receipt.json", files / "proof", files / "model"
    made = run("prove", receipt, "--out", proof, "--model", model)
    assert made.exit_code == 0, made.output
    assert proof.read_bytes() == honest_proof
    asked = ("check", proof, "--receipt", receipt, "--model", model)
    found = run(*asked, "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["accepted"]
    proof.write_bytes(honest_proof[:-1])
    refused = run(*asked)
    assert isinstance(refused.exception, AnswerProofError)
    assert refused.exception.check == "length"


def test_a_sealed_answer_needs_its_order(answer):
    sealed = replace(answer.file, response=Message("response", sealed=b"\0" * 64))
    with pytest.raises(InputError, match="expected --order"):
        opened(sealed, None)
