"""The bench of proofs runs on a small model and says what it measured."""

from __future__ import annotations

import pytest

from otr_core.errors import ParameterError
from otr_paper.benches.proof import ProofPlan, measure_proof


def test_a_small_answer_is_measured(tiny):
    found = measure_proof(tiny, ProofPlan(20), lambda line: None)
    assert found["positions"] <= 20
    assert found["prove_over_inference"] == pytest.approx(found["prove_cpu_s"] / found["inference_cpu_s"])
    assert found["soundness_bits"] >= 100
    assert found["proof_bytes"] > 0
    assert found["commit_cpu_s"] is None


def test_positions_that_the_prompt_fills_are_refused(tiny):
    with pytest.raises(ParameterError, match="at least"):
        measure_proof(tiny, ProofPlan(2), lambda line: None)
