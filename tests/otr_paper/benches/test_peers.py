"""Provers of others beside ours: JSTprove's driver without JSTprove, ours for real, and the stored run."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from otr_core.errors import InputError, ProverError
from otr_core.lane.dims import Dims
from otr_core.spotcheck import proofs
from otr_paper.benches import peers
from otr_paper.producers import proof_peers
from otr_paper.store.results import read_result


@pytest.fixture
def statement():
    return proof_peers.drawn_product((8, 576), 1)


def test_the_product_is_one_that_ezkl_proves(statement):
    assert statement.violation() == 0
    statement.check_shape(proofs.Shape(8, 576))
    assert np.abs(statement.weights).max() < 2**24  # so that JSTprove's floats hold it


def test_what_jstprove_reads_is_that_product(statement, tmp_path):
    onnx = pytest.importorskip("onnx")
    peers.write_product(tmp_path, statement)
    held = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "model.onnx").graph.initializer
    }
    x = np.array(json.loads((tmp_path / "input.json").read_text())["x"])
    one = 2**peers.POINT
    np.testing.assert_array_equal(held["W"].astype(np.float64) * one, statement.weights.T)
    np.testing.assert_array_equal(x * one, statement.activations)
    assert not held["b"].any()


def test_other_outputs_than_the_products_are_no_measurement(statement):
    right = ((statement.weights @ statement.activations) >> peers.POINT).tolist()
    peers.check_product(statement, right)
    for at in (0, 7):
        with pytest.raises(ProverError, match="found outputs"):
            peers.check_product(statement, [y + (number == at) for number, y in enumerate(right)])
    with pytest.raises(ProverError, match="found outputs"):
        peers.check_product(statement, right[:-1])


def test_an_interpreter_without_jstprove_is_told(tmp_path):
    for python in (tmp_path / "none", sys.executable):
        with pytest.raises(InputError, match="found no JSTprove"):
            peers.Jstprove(Path(python))


def ran(folder, code, most_s=60.0):
    return peers.program_run(folder, most_s, [sys.executable, "-c", code], {})


def test_a_program_is_measured_apart(tmp_path):
    small, large = (ran(tmp_path, code) for code in ("print('said')", "x = b'1' * 300_000_000; sum(range(10**7))"))
    assert (small.good, small.said) == (True, "said\n")
    assert small.peak_mb < 100 < 250 < large.peak_mb
    assert large.cpu_s > small.cpu_s > 0


def test_a_program_that_fails_or_does_not_end_is_told(tmp_path):
    failed = ran(tmp_path, "print('why'); raise SystemExit(3)")
    assert (failed.good, failed.said) == (False, "why\n")
    code = "import os, time; open('own', 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(ProverError, match="found no end"):
        ran(tmp_path, code, 4)
    until = time.monotonic() + 60
    while Path(f"/proc/{(tmp_path / 'own').read_text()}").exists():  # it does not go on unseen
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture(scope="module")
def jstprove():
    """The real one, where somebody has it."""
    python = os.environ.get("OTR_JSTPROVE")
    if python is None:
        pytest.skip("OTR_JSTPROVE names no interpreter that has JSTprove")
    return peers.Jstprove(Path(python))


def test_jstprove_proves_the_product(jstprove, statement):
    found = jstprove.measure(statement, 600.0)
    assert found["proof_bytes"] < 100_000
    assert min(found["prove_cpu_s"], found["check_cpu_s"], found["setup_cpu_s"], found["peak_mb"]) > 0
    assert jstprove.version


def test_a_peer_that_proves_nothing_is_no_measurement(jstprove, statement, monkeypatch):
    real = peers.program_run

    def careless(folder, most_s, words, settings):
        """A verifier that takes whatever it is given."""
        ran = real(folder, most_s, words, settings)
        return replace(ran, good=True) if "verify" in words else ran

    monkeypatch.setattr(peers, "program_run", careless)
    with pytest.raises(ProverError, match="found success"):
        jstprove.measure(statement, 600.0)


@pytest.mark.model
def test_the_layer_has_smollm2s_widths(smollm2):
    own = json.loads((smollm2 / "config.json").read_text())
    layer = peers.LAYER
    named = (layer.hidden, layer.intermediate, layer.heads, layer.kv_heads)
    assert named == tuple(
        own[name] for name in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    )
    assert layer.layers == 1
    assert Dims.of(layer).plain


@pytest.mark.slow
def test_ours_is_measured_with_and_without_the_model():
    held, committed = (peers.measure_own_layer(2, each, 1, lambda line: None) for each in (False, True))
    assert held["positions"] == committed["positions"] == 2
    assert held["setup_bytes"] == 0 < committed["setup_bytes"]
    assert held["setup_cpu_s"] == 0 < committed["setup_cpu_s"]
    assert held["proof_bytes"] < committed["proof_bytes"]


def test_the_stored_run_has_every_system_on_its_work(project):
    card, found = read_result(project.results, "proof_peers")
    of = {}
    for row in found["rows"]:
        of.setdefault(row["system"], []).append(row)
        assert row["weights"] > 0 < row["proof_bytes"]
        assert row["prove_cpu_s"] > row["check_cpu_s"] * (row["system"] == "ezkl")
        assert row["peak_mb"] > 0
    assert set(of) == {"ezkl", "JSTprove", "ours, model held", "ours, commitment held"}
    assert [row["weights"] for row in of["ezkl"]] == [rows * columns for rows, columns in proof_peers.BLOCKS]
    tried = len(of["JSTprove"]) + len(found["ended"])
    assert tried == len(proof_peers.BLOCKS) + len(proof_peers.WHOLE)
    assert "--jstprove" in card.command
