"""Readings of the claims on ZKML from our own prover: computed from the stored proofs, and able to fail."""

from __future__ import annotations

from copy import deepcopy

import pytest

from otr_core.errors import DataError
from otr_core.spotcheck.proof.verify import MOST_POSITIONS
from otr_paper.claims import cost, landscape, latency, own_proofs
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.published import llama_7b, llama_70b, smollm2
from otr_paper.studies.proving import committed_cells, multiplied_weights

FUNCTIONS = (
    latency.L03_weighted_latency,
    latency.L04_zkml_7b_latency,
    latency.L05_zkml_70b_latency,
    latency.L06_speedup_over_zkml,
    cost.L09_otr_cost,
    cost.L11_zkml_cost,
    cost.L12_zkml_over_otr,
    landscape.L34_zkml_scaling,
)


@pytest.fixture(scope="module")
def stored(project):
    grounds = Grounds(project.data)
    return {name: grounds.result(name) for name in (own_proofs.RUNS, own_proofs.GROWTH)}


@pytest.fixture(scope="module")
def grounds(project):
    return Grounds(project.data)


@pytest.fixture
def with_factor(project, stored):
    """Grounds whose stored proofs took so many times as long."""

    def made(factor):
        changed = deepcopy(stored)
        for rows in (changed[own_proofs.RUNS]["runs"], changed[own_proofs.GROWTH]["rows"]):
            for row in rows:
                row["prove_cpu_s"] *= factor
        return Grounds(project.data, results=changed)

    return made


def ours(found):
    return {one.name: one for one in found.all_readings() if "our prover" in one.name or "our proofs" in one.name}


def test_every_claim_on_zkml_has_a_reading_of_ours_and_none_is_the_plain_one(grounds):
    for function in FUNCTIONS:
        found = function(grounds)
        named = ours(found) or {one.name: one for one in found.readings if one.name.startswith("whole answers")}
        assert named, function
        assert found.readings[0].name not in named
        for one in named.values():
            marked = one.kind == "measured" or "measured" in one.name or "extrapolated" in one.name
            assert marked, (function, one.name)
            assert "more or less" in one.assumption or "extrapolated" not in one.name


def test_readings_move_with_the_stored_proofs_and_fail_with_others(grounds, with_factor):
    """A prover a thousand times slower or faster turns at least one reading of each claim; that of the growth's
    exponent alone does not hang on the speed."""
    for function in FUNCTIONS[:-1]:
        now, slower, faster = (ours(function(each)) for each in (grounds, with_factor(1e3), with_factor(1e-3)))
        verdicts = [{name: one.holds for name, one in found.items()} for found in (now, slower, faster)]
        assert all(one.value != slower[name].value for name, one in now.items() if "our lane" not in name), function
        if function not in (latency.L06_speedup_over_zkml, cost.L12_zkml_over_otr):
            assert verdicts[1] != verdicts[2], function


def test_no_prover_lifts_the_like_for_like_ratio_above_one_over_rho(grounds, with_factor):
    for factor in (1e-3, 1.0, 1e3, 1e6):
        found = latency.L06_speedup_over_zkml(with_factor(factor))
        assert found.computed["our_135m_ratio"] < found.computed["most_at_rho_ratio"] == pytest.approx(100)
    # had the texts said one in 100,000, a slow enough prover would reach it
    other = with_factor(1e3).variant({"otr.rho": 1e-3})
    assert next(one for name, one in ours(latency.L06_speedup_over_zkml(other)).items() if "our lane" in name).holds


def test_numbers_by_hand_from_the_stored_rows(grounds, stored):
    """Nothing of the law but its three numbers: the readings again, from cells and weights."""
    proofs = own_proofs.own_proofs(grounds)
    short = next(r for r in stored["answer_proofs"]["runs"] if r["positions"] == 64 and not r["temperature_milli"])
    fixed, cell, weight = proofs.fit.coefficients

    def seconds(d, given, chosen):
        return fixed + cell * committed_cells(d, given, chosen) + weight * multiplied_weights(d)

    seven = seconds(llama_7b(), 44, 21)
    assert short["answer_tokens"] == 21
    assert proofs.tokens(64) == (44, 21)
    l03 = latency.L03_weighted_latency(grounds).computed
    assert l03["our_135m_mean_s"] == pytest.approx(0.99 * 0.5 + 0.01 * short["prove_cpu_s"])
    assert l03["our_7b_mean_s"] == pytest.approx(0.99 * 0.5 + 0.01 * seven)
    assert latency.L04_zkml_7b_latency(grounds).computed["our_7b_short_s"] == pytest.approx(seven)
    l06, answer, proof = latency.L06_speedup_over_zkml(grounds).computed, short["inference_cpu_s"], short["prove_cpu_s"]
    assert l06["our_135m_ratio"] == pytest.approx((answer + proof) / (answer + 0.01 * proof))
    assert l06["our_7b_over_stated_ratio"] == pytest.approx(seven / 0.8)
    l09 = cost.L09_otr_cost(grounds).computed
    assert l09["our_7b_proof_usd"] == pytest.approx(seven / 3600 * 2.95)
    large = llama_70b(grounds.published)
    assert l09["our_70b_proof_usd"] == pytest.approx(seconds(large, 44, 21) / 3600 * 2.95)
    long = seconds(large, *proofs.tokens(1000))
    assert cost.L11_zkml_cost(grounds).computed["core_hour_usd_ours_70b_long"] == pytest.approx(45 / (long / 3600))
    usd, simulated = l09["our_7b_proof_usd"], grounds.simulation.cost_usd
    zkml = simulated("ZKML") - simulated("ZKML", item="proofs") + usd
    otr = simulated("OTR") - simulated("OTR", item="sampled proofs") + 0.01 * usd
    assert cost.L12_zkml_over_otr(grounds).computed["our_7b_proofs_ratio"] == pytest.approx(zkml / otr)


def test_the_longest_proof_in_time_is_the_last_that_fits(grounds):
    proofs = own_proofs.own_proofs(grounds)
    found = proofs.longest(llama_7b(), 1200.0)
    assert proofs.cost(llama_7b(), found).seconds <= 1200 < proofs.cost(llama_7b(), found + 1).seconds
    assert proofs.longest(smollm2(), 1e9) == own_proofs.MOST == MOST_POSITIONS
    assert proofs.longest(llama_70b(grounds.published), 1.0) == 1
    for positions in (1, 16, 64, 1000):
        given, chosen = proofs.tokens(positions)
        assert given + chosen - 1 == positions
        assert chosen >= 1


def test_the_growth_of_whole_answers_would_be_refuted_by_faster_growth(project, stored):
    changed = deepcopy(stored)
    for row in (*changed["proof_growth"]["rows"], *changed["answer_proofs"]["runs"]):
        weights = row.get("weights", multiplied_weights(smollm2()))
        row["prove_cpu_s"] = 1e-9 * weights**1.4 + 1e-8 * row["cells"]
    found = landscape.L34_zkml_scaling(Grounds(project.data, results=changed))
    reading = next(one for one in found.readings if one.name.startswith("whole answers"))
    assert not reading.holds
    assert reading.value > 1.1


def test_a_result_without_the_shown_proof_is_refused(project, stored):
    changed = deepcopy(stored)
    changed["answer_proofs"]["runs"] = [run for run in changed["answer_proofs"]["runs"] if run["positions"] != 64]
    with pytest.raises(DataError, match="no greedy answer over 64 positions"):
        own_proofs.own_proofs(Grounds(project.data, results=changed))
