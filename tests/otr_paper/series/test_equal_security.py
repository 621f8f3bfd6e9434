"""Equal security and the crossover: what is bought is what is found, and the formulas against the
reference's figures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from otr_core.errors import ParameterError
from otr_paper.claims.published import load_published
from otr_paper.series import equal_security as eq

MEANS = eq.Means(proof_usd=1.0, proof_s=1000.0, rerun_usd=0.001, judge_usd=0.0001, judge_s=3.0, judge_finds=0.4,
                 proof_finds=0.9, rerun_finds=0.8)  # fmt: skip


@pytest.fixture(scope="module")
def laws(project):
    return {law.name: law for law in eq.proving_laws(load_published(project.data))}


@pytest.mark.parametrize("target", [0.01, 0.3, 0.75])
@pytest.mark.parametrize(
    ("finds", "price", "system"), [(0.9, 1.0, eq.BY_PROOF), (0.8, 0.001, eq.BY_RERUN), (0.8, 0.001, eq.OPML)]
)
def test_the_money_buys_the_target_and_no_more(target, finds, price, system):
    draws, many = np.random.default_rng(4), 400_000
    share = eq.cost_at(system, target, MEANS) / price  # of the answers that are looked at
    found = (draws.random(many) < share) & (draws.random(many) < finds)
    assert found.mean() == pytest.approx(target, abs=4.5 * math.sqrt(target / many))


def test_what_a_system_cannot_find_no_money_buys():
    assert eq.cost_at(eq.BY_PROOF, 0.9, MEANS) == 1.0
    for system, most in ((eq.BY_PROOF, 0.9), (eq.BY_RERUN, 0.8), (eq.ZKML, 0.9), (eq.POQ, 0.4)):
        assert math.isfinite(eq.cost_at(system, most, MEANS))
        assert eq.cost_at(system, most + 0.01, MEANS) == math.inf
    assert eq.cost_at(eq.ZKML, 0.01, MEANS) == eq.cost_at(eq.ZKML, 0.5, MEANS) == 1.0
    assert eq.cost_at(eq.POQ, 0.01, MEANS) == eq.cost_at(eq.POQ, 0.4, MEANS) == 0.0001
    assert eq.cost_at(eq.BY_PROOF, 0.0, replace(MEANS, proof_finds=0.0)) == 0.0
    frontier = eq.cost_frontier([0.1, 0.85], MEANS)
    assert {row["system"] for row in frontier if np.isnan(row["usd"])} == {eq.BY_RERUN, eq.OPML, eq.POQ}


def test_final_with_the_window_or_with_the_proof():
    assert [eq.final_at(system, 5000.0, MEANS) for system in eq.SYSTEMS] == [5000.0, 5000.0, 5000.0, 1000.0, 3.0]
    assert [eq.final_at(system, 999.0, MEANS) for system in eq.SYSTEMS] == [math.inf, 999.0, 999.0, 1000.0, 3.0]
    rows = eq.time_frontier([999.0, 1000.0], MEANS)
    assert [row["window_s"] for row in rows if np.isnan(row["final_s"])] == [999.0]


def test_the_crossover_is_where_proof_and_window_end_together(laws):
    for law in laws.values():
        for window, machines in ((604800.0, 1.0), (120.0, 8.0)):
            size = law.crossing_parameters(window_s=window, positions=1000, machines=machines)
            assert law.seconds(parameters=size, positions=1000, machines=machines) == pytest.approx(window)
            assert law.seconds(parameters=1.01 * size, positions=1000, machines=machines) > window


def test_the_crossover_has_the_figures_of_the_reference(laws):
    """Parameters from which on a window of seven days is earlier, for a thousand positions."""
    week = {name: law.crossing_parameters(window_s=604800, positions=1000) for name, law in laws.items()}
    assert week["ZKTorch, 64 threads"] == pytest.approx(1.6e9, rel=0.02)
    assert week["zkLLM, an A100"] == pytest.approx(2.0e13, rel=0.02)
    assert week["FlashProve, an H100"] == pytest.approx(4.7e13, rel=0.02)
    assert laws["zkLLM, an A100"].seconds(parameters=70e9, positions=1000) == pytest.approx(2100, rel=0.01)
    for cost, days, value in ((0.008, 7, 8.4), (0.008, 1, 58), (0.508, 7, 530), (45, 1, 329_000)):
        found = eq.crossing_value_usd(proof_usd=cost, rate_per_year=0.05, window_s=days * 86400)
        assert found == pytest.approx(value, rel=0.01)


def test_curves_hold_the_formulas(laws):
    curve = eq.proving_curves(list(laws.values()), parameters=[1e9, 2e9], positions=10)
    assert len(curve) == 2 * len(laws)
    assert curve[1]["proof_s"] == pytest.approx(2 * curve[0]["proof_s"])
    (row,) = eq.crossing_curves([2.0], rate_per_year=0.1, windows_s=[eq.YEAR_S])
    assert row["value_usd"] == pytest.approx(20.0)
    assert eq.crossing_value_usd(proof_usd=1.0, rate_per_year=0.0, window_s=1.0) == math.inf


def test_bad_input_is_named(laws):
    law = next(iter(laws.values()))
    for call in (
        lambda: eq.cost_at("OTR", 0.1, MEANS),
        lambda: eq.final_at("OTR", 0.1, MEANS),
        lambda: eq.cost_at(eq.POQ, 2.0, MEANS) if eq.looked_at(2.0, 0.5) else None,
        lambda: eq.final_at(eq.POQ, float("nan"), MEANS),
        lambda: replace(MEANS, judge_finds=1.5),
        lambda: replace(MEANS, proof_usd=-1.0),
        lambda: law.seconds(parameters=1.0, positions=1.0, machines=0.0),
        lambda: law.crossing_parameters(window_s=1.0, positions=0.0),
    ):
        with pytest.raises(ParameterError):
            call()


def test_the_best_judge_over_all_frauds_and_the_named_costs_are_taken(project):
    cited = load_published(project.data)
    frauds = [
        {"judge": "a", "fraud": "x", "caught": 9, "of": 10},
        {"judge": "a", "fraud": "y", "caught": 0, "of": 30},
        {"judge": "b", "fraud": "x", "caught": 1, "of": 2},
    ]
    costs = {("opML", "validator"): 0.1, ("PoQ", "judges"): 0.2, ("OTR", "validator"): 7.0}
    means = eq.means_of(cited, proving_s=7200.0, item_usd=costs, frauds=frauds)
    assert (means.judge_finds, means.rerun_usd, means.judge_usd, means.proof_s) == (0.5, 0.1, 0.2, 7200.0)
    assert means.proof_usd == pytest.approx(2 * cited.number("gpu.h100_median", "USD/GPU-h"))
