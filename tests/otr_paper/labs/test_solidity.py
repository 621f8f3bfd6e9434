"""Solidity through Node, where it is; a named error where it is not; the stored verifiers within
their bounds."""

from __future__ import annotations

import pytest

from otr_core.errors import ChainError
from otr_node.chain.evm import GAS_LIMIT, Chain
from otr_paper.labs import solidity
from otr_paper.store.results import read_result

SOURCE = "pragma solidity ^0.8.0; contract Two { function two() external pure returns (uint256) { return 2; } }"


def test_without_an_installed_solc_it_is_a_named_error(tmp_path):
    with pytest.raises(ChainError) as failure:
        solidity.compile_solidity(SOURCE, "Two", tmp_path)
    assert failure.value.check == "solc"


def test_without_npm_nothing_is_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ChainError) as failure:
        solidity.install_solc(tmp_path / "solc")
    assert failure.value.check == "solc"
    assert not (tmp_path / "solc").exists()


def test_a_contract_compiles_and_runs(project):
    folder = project.build / "solc"
    if not (folder / "node_modules" / "solc").is_dir():
        pytest.skip("solc is not installed; `make bench` does that where Node and npm are")
    chain = Chain(2)
    deployed, _ = chain.deploy(solidity.compile_solidity(SOURCE, "Two", folder))
    assert chain.call(deployed, "two") == 2
    with pytest.raises(ChainError) as failure:
        solidity.compile_solidity("contract Two { function }", "Two", folder)
    assert failure.value.check == "compile"


def test_the_stored_verifiers_fit_a_transaction_and_refused_every_edit(project):
    rows = read_result(project.results, "spot_onchain")[1]["rows"]
    assert {row["shape"] for row in rows} == {"8x576", "3x1536", "64x576"}
    for row in rows:
        assert row["runtime_bytes"] <= 24_576  # EIP-170
        assert row["verify_gas"] < row["deploy_gas"] < GAS_LIMIT
        assert row["edits_refused"] == row["edits"] == 9
        assert len(row["verify_gas_all"]) >= 3
        assert row["verify_gas"] == max(row["verify_gas_all"]) < 1.001 * min(row["verify_gas_all"])
