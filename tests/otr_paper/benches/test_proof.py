"""The bench of proofs runs on a small model and says what it measured."""

from __future__ import annotations

import pytest

from otr_core.errors import ParameterError
from otr_paper.benches.proof import ProofPlan, ShapePlan, measure_proof, measure_shape


@pytest.mark.parametrize("milli", [0, 700])
def test_a_small_answer_is_measured(tiny, milli):
    found = measure_proof(tiny, ProofPlan(20, milli), lambda line: None)
    assert found["positions"] <= 20
    assert found["temperature_milli"] == milli
    assert found["prove_over_inference"] == pytest.approx(found["prove_cpu_s"] / found["inference_cpu_s"])
    assert found["soundness_bits"] >= 100
    assert found["proof_bytes"] > 0
    assert found["commit_cpu_s"] is None


def test_a_proof_for_a_verifier_without_weights_is_measured(tiny):
    found = measure_proof(tiny, ProofPlan(20, 0, committed=True), lambda line: None)
    assert found["commit_cpu_s"] > 0
    assert found["soundness_bits"] >= 100


def test_a_proof_that_hides_is_measured(tiny):
    found = measure_proof(tiny, ProofPlan(20, 0, committed=True, hidden_answers=2), lambda line: None)
    assert found["hidden_answers"] == 2
    assert found["commit_cpu_s"] > 0
    assert found["soundness_bits"] >= 100
    with pytest.raises(ParameterError, match="hidden_answers: found 2"):
        ProofPlan(20, 0, hidden_answers=2)


def test_an_answer_of_no_position_is_refused():
    with pytest.raises(ParameterError, match="found 1, allowed: a whole number from 2 to"):
        ProofPlan(1)


@pytest.mark.parametrize("shape", [(0, 1, 8), (200, 1, 8), (128, 0, 8)])
def test_a_shape_that_is_no_model_is_refused(shape):
    with pytest.raises(ParameterError):
        ShapePlan(*shape)


def test_a_shape_of_random_weights_is_proven_and_says_its_size():
    found = measure_shape(ShapePlan(128, 1, 5), lambda line: None)
    assert (found["hidden"], found["layers"], found["positions"]) == (128, 1, 5)
    # four square matrices, three of the MLP, and a head of 64 words
    assert found["weights"] == 4 * 128 * 128 + 3 * 128 * 344 + 64 * 128
    assert found["prove_cpu_s"] > 0
    assert found["cells"] > 0
