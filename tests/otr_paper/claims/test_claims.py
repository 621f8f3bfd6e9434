"""The claims' arithmetic, worked out a second time by hand from the numbers as printed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_type_hints

import numpy as np
import pytest

from otr_paper.claims import cost, landscape, latency, published, quality, receipts, security, throughput
from otr_paper.claims.grounds import Grounds
from otr_paper.claims.verdict import (
    ARITHMETIC,
    CITED,
    CONDITIONAL,
    CONTRADICTED,
    DEFINITION,
    NOT_TESTABLE,
    REPRODUCED,
    UNDEFINED,
)
from otr_paper.poq import scores
from otr_paper.series import consistency, trilemma
from otr_paper.studies import proving


@pytest.fixture(scope="module")
def rows(project):
    return published.load_published(project.data)


MEASURED = scores.Measured(
    honest_score=0.5, adversary_scores=(0.48, 0.6), echo_score=1.0, control_scores=(0.7, 0.4), honest_accuracy=0.8,
    adversary_accuracies=(0.1, 0.4), judge_ms=4.0, judge_single_ms=10.0, judge_follows=0.3,
    pay={(a, u): 0.97 - 0.01 * a * u for a in (0.5, 1.0, 2.0) for u in (1.0, 10.0)}, likeness_f1=0.6,
    likeness_f1_honest=0.9, likeness_right=0.3, answers=200,
)  # fmt: skip


@pytest.fixture
def judge(project, rows):
    """Calls a claim function with what it takes: the rows alone, or grounds with a made-up
    experiment on PoQ."""

    def call(function, *, rows=rows, measured=MEASURED):
        if "published" in get_type_hints(function):
            return function(rows)
        grounds = Grounds(project.data, published=rows)
        grounds.poq = measured
        return function(grounds)

    return call


# claim function, verdict, and numbers worked out apart from the code
EXPECTED = [
    (latency.L01_provisional_finality, CONDITIONAL, {"most_tokens_70b": 0.5 / (2.44447 / 128),
                                                     "roofline_tokens_one_h100": 3350 / 70 * 0.5}),
    (latency.L02_default_rho, DEFINITION, {"stated_rho": 0.01}),
    (latency.L03_weighted_latency, CONTRADICTED, {"plain_mean_s": 12.495, "slowest_proof_s": 30.5,
                                                 "largest_rho": 0.3 / 1199.5, "slowest_proof_base_300ms_s": 50.3}),
    (latency.L04_zkml_7b_latency, CONDITIONAL, {"fewest_tokens_zkpytorch": 8.0, "most_threads_zktorch": 141.0933}),
    (latency.L05_zkml_70b_latency, CONDITIONAL, {"zkllm_growth_exponent": 0.417801,
                                                 "zkllm_70b_linear_s": 803 * 70 / 13}),
    (latency.L06_speedup_over_zkml, CONTRADICTED, {"stated_inputs_ratio": 1500, "over_provisional_ratio": 2400,
                                                  "otr_for_1400_s": 6 / 7, "zkml_for_1400_s": 1120}),
    (latency.L07_opml_window, REPRODUCED, {"window_s": 604800}),
    (latency.L08_speedup_over_opml, REPRODUCED, {"ratio": 756000, "longest_final_window_s": 6048}),
    (cost.L09_otr_cost, CONTRADICTED, {"proofs_alone_usd": 0.45, "largest_rho": 0.07 / 45, "dearest_proof_usd": 7,
                                      "largest_rho_margin": 0.01 / 45, "dearest_proof_margin_usd": 1,
                                      "flashprove_proof_usd": 9.3 * 2.95 / 3600}),
    (cost.L10_opml_cost, CONDITIONAL, {"commitment_gas": 43676, "gas_price_for_stated_gwei": 0.06e9 / 43676 / 2000}),
    (cost.L11_zkml_cost, CONTRADICTED, {"h100_hours_for_stated": 45 / 2.95, "machine_usd_per_hour_at_20min": 135,
                                       "zkllm_7b_usd": 620 / 3600 * 2.95}),
    (cost.L12_zkml_over_otr, ARITHMETIC, {"zkml_over_otr_ratio": 642.857}),
    (cost.L13_otr_over_opml, ARITHMETIC, {"otr_over_opml_ratio": 7 / 6}),
    (cost.L14_signature_margin, CONDITIONAL, {"most_gas_l1_high": 10000, "gas_price_ecrecover_gwei": 5 / 3,
                                              "gas_price_full_gwei": 0.01e9 / 4.5e6 / 2000}),
    (cost.L15_cost_meaning, UNDEFINED, {"chat_inference_usd": 1500 * 0.9e-6}),
    (cost.L16_near_native_cost, CONTRADICTED, {"tokens_for_10pct": 0.7 / 0.9e-6,
                                               "overhead_over_chat_ratio": 0.07 / 0.00135}),
    (throughput.L17_tee_overhead, CONDITIONAL, {"results_count": 10, "results_in_band_count": 2,
                                                "first_token_results_count": 5, "first_token_in_band_count": 2}),
    (throughput.L18_throughput_vs_centralised, CONTRADICTED, {"at_15pct": 1 / 1.15, "at_20pct": 1 / 1.2,
                                                             "most_overhead": 1 / 99, "machines_at_20pct_ratio": 1.188,
                                                             "proving_on_same_gpu": 0.04}),
    (quality.L19_adversary_score, NOT_TESTABLE, {"stated_share_of_honest": 89 / 91,
                                                               "least_share_of_honest": 0.96, "echo_score": 1.0}),
    (quality.L20_honest_score, NOT_TESTABLE, {"our_honest_score": 0.5, "published_70b_score": 0.781}),
    (quality.L21_judge_gap, ARITHMETIC, {"gap_score": 0.02, "relative_gap": 2 / 91,
                                                        "our_largest_relative_gap": 0.04,
                                                        "our_least_relative_gap": -0.2}),
    (quality.L22_human_drop, NOT_TESTABLE, {"stated_drop": 0.4, "least_accuracy_loss": 0.5,
                                                           "least_accuracy_loss_points": 0.4}),
    (quality.L38_cost_aware_rewards, NOT_TESTABLE, {"reward_gap": 0.49, "most_gap_by_cost": 0.38,
                                                   "least_quality_gap": 0.11 / 0.62, "quality_gap_without_cost": 0.49}),
    (quality.L39_similarity_judge, NOT_TESTABLE, {"our_correlation_f1": 0.6, "stated_f1": 0.66}),
    (security.L27_bisection_rounds, REPRODUCED, {"tokens_rounds": 10, "token_layers_rounds": 17,
                                                 "multiply_adds_rounds": 46}),
    (security.L29_spot_checks_deter, UNDEFINED, {"downgrade_gain_usd": 0.0004675,
                                                   # an own fisherman takes 30 % of the slash back
                                                   "least_stake_usd": 0.0462 / 0.7,
                                                   "least_stake_outside_10000_usd": (1e6 - 0.00055) / 0.7,
                                                   "least_stake_until_verdict_10000_usd":
                                                       (1e6 - 0.00055 + 61 * (1e4 - 0.00055)) / 0.7,
                                                   "least_stake_per_gain_ratio": 99 / 0.7}),
    (security.L30_transient_break, UNDEFINED, {"undetected_unpatched_count": 99,
                                                 "served_unpatched_count": 99 + 1240}),
    (security.L31_byzantine_tolerance, UNDEFINED, {"largest_gain_per_slashable_usd": 0.007}),
    (security.L32_detection_after, ARITHMETIC, {"cheats_for_50pct_count": 69, "cheats_for_90pct_count": 230,
                                                "cheats_for_95pct_count": 299, "cheats_for_99pct_count": 459}),
    (security.L33_rho_guidance, CONDITIONAL, {"deterred_at_1pct_share": 0.75,
                                              "oracle_gain_over_losable_ratio": 2000000.0027 / 700001 / 0.891}),
    (landscape.L34_zkml_scaling, NOT_TESTABLE, {"exponent_zkllm": math.log(803 / 620) / math.log(13 / 7)}),
    (quality.L35_poq_latency, REPRODUCED, {"slowest_pair_a100_ms": 0.61, "fastest_pair_a100_ms": 0.12,
                                           "with_consensus_a100_ms": 50.61}),
    (quality.L36_poq_judge, UNDEFINED, {"least_pearson": -0.06, "most_pearson": 0.35,
                                         "pairs_ordered_differently_count": 1,
                                         "correlation_of_model_means": np.corrcoef(
                                             [9.04, 9.24, 7.70, 6.97, 7.33], [7.88, 7.89, 7.73, 7.59, 7.81])[0, 1]}),
    (quality.L37_poq_pays_the_cheat, CONDITIONAL, {"share_alpha2_unit_scale": math.exp(-0.04),
                                                   "share_alpha2_ten_scale": math.exp(-0.4),
                                                   "most_alpha_times_scale": 50 * math.log(1 / 0.95)}),
    (landscape.L40_opml_on_a_pc, CITED, {"memory_gb": 26}),
    (security.L41_slash_range, UNDEFINED, {"least_stake_at_5pct_usd": 0.924 / 0.7, "least_stake_at_20pct_usd": 0.33,
                                             "stake_factor_at_5pct_ratio": 20}),
]  # fmt: skip


@pytest.mark.parametrize(("function", "verdict", "numbers"), EXPECTED, ids=lambda part: getattr(part, "__name__", ""))
def test_claim_agrees_with_a_second_calculation(judge, function, verdict, numbers):
    found = judge(function)
    assert found.verdict == verdict
    for name, value in numbers.items():
        assert found.computed[name] == pytest.approx(value, rel=2e-6), name


@pytest.mark.parametrize("function", [entry[0] for entry in EXPECTED], ids=lambda function: function.__name__)
def test_every_source_of_a_reading_is_a_published_row(judge, rows, function):
    for reading in judge(function).readings:
        assert all(source in rows for source in reading.sources), reading
        assert reading.assumption


class Shifted:
    """Published rows with one of them multiplied: what a claim's number must react to."""

    def __init__(self, rows, row_id, factor):
        self.rows, self.row_id, self.factor = rows, row_id, factor

    def __getattr__(self, name):
        return getattr(self.rows, name)

    def __getitem__(self, row_id):
        return self.rows[row_id]

    def number(self, row_id, unit):
        return self.rows.number(row_id, unit) * (self.factor if row_id == self.row_id else 1.0)


@pytest.mark.parametrize(
    ("function", "row", "number"),
    [
        (latency.L03_weighted_latency, "zkml.latency_7b", "plain_mean_s"),
        (latency.L03_weighted_latency, "otr.rho", "slowest_proof_s"),
        (latency.L06_speedup_over_zkml, "otr.latency_weighted", "stated_inputs_ratio"),
        (cost.L09_otr_cost, "zkml.cost_query", "largest_rho"),
        (cost.L11_zkml_cost, "gpu.h100_median", "h100_hours_for_stated"),
        (throughput.L18_throughput_vs_centralised, "otr.throughput", "most_overhead"),
        (security.L29_spot_checks_deter, "otr.rho", "least_stake_usd"),
        (quality.L37_poq_pays_the_cheat, "otr.judge_adversary", "share_alpha2_unit_scale"),
    ],
)
def test_numbers_come_from_the_rows_and_not_from_the_code(judge, rows, function, row, number):
    before = judge(function).computed[number]
    after = judge(function, rows=Shifted(rows, row, 0.97)).computed[number]
    assert after != pytest.approx(before, rel=1e-4)


def test_a_claim_that_fits_is_called_reproduced(judge, rows):
    """With a 30 s prover the plain mean is below 0.8 s: the verdict follows the input, it is not
    written down."""
    assert judge(latency.L03_weighted_latency, rows=Shifted(rows, "zkml.latency_7b", 30 / 1200)).verdict == REPRODUCED
    assert judge(cost.L09_otr_cost, rows=Shifted(rows, "zkml.cost_query", 6.9 / 45)).verdict == REPRODUCED


def test_some_in_thirty_is_told_with_its_interval():
    """None of 30 leaves room for 9.5 %; the share under which so few are seen in one case of twenty."""
    assert receipts.upper_share(0, 30) == pytest.approx(1 - 0.05 ** (1 / 30), abs=1e-9)
    assert receipts.upper_share(1, 1) == 1.0
    some = receipts.upper_share(2, 20)
    drawn = np.random.default_rng(7).binomial(20, some, 200_000)
    assert np.mean(drawn <= 2) == pytest.approx(0.05, abs=0.002)


def test_measured_readings_follow_the_measurement(judge):
    def holds(found, name):
        return next(reading.holds for reading in found.readings if reading.name == name)

    weak = replace(MEASURED, adversary_scores=(0.1, 0.2), echo_score=0.3, pay=dict.fromkeys(MEASURED.pay, 0.2))
    echo = "an answer that repeats the question"
    assert holds(judge(quality.L19_adversary_score, measured=MEASURED), echo)
    assert not holds(judge(quality.L19_adversary_score, measured=weak), echo)
    strong = replace(MEASURED, adversary_scores=(0.495, 0.6))
    assert holds(judge(quality.L21_judge_gap, measured=strong), "our adversaries")
    assert not holds(judge(quality.L21_judge_gap, measured=MEASURED), "our adversaries")
    assert holds(judge(quality.L22_human_drop, measured=MEASURED), "exact answers, absolute")
    mild = replace(MEASURED, adversary_accuracies=(0.1, 0.5))
    assert not holds(judge(quality.L22_human_drop, measured=mild), "exact answers, relative")
    assert holds(judge(quality.L37_poq_pays_the_cheat, measured=MEASURED), "ours, alpha 2, scores to 1")
    assert not holds(judge(quality.L37_poq_pays_the_cheat, measured=weak), "ours, alpha 2, scores to 1")
    follows = "our light judge, our honest model"
    assert not holds(judge(quality.L36_poq_judge, measured=replace(MEASURED, judge_follows=0.8)), follows)
    assert not holds(
        judge(quality.L35_poq_latency, measured=replace(MEASURED, judge_single_ms=2e3)), "our judge, one CPU thread"
    )


def test_cost_alone_cannot_part_the_two_rewards(rows):
    """A search over weights, qualities and costs: the least quality gap is the one the closed form
    gives."""
    found = quality.L38_cost_aware_rewards(rows).computed
    weight = np.linspace(0, 0.99, 397)[:, None, None]
    cheap, dear = np.linspace(0, 1, 41)[None, :, None], np.linspace(0, 1, 41)[None, None, :]
    high, low = (0.62 + weight * cheap) / (1 - weight), (0.13 + weight * dear) / (1 - weight)
    gaps = np.where((high <= 1) & (low >= 0) & (low <= 1), high - low, np.inf)
    assert gaps.min() == pytest.approx(found["least_quality_gap"], abs=0.01)
    assert gaps.min() > 0


@pytest.mark.parametrize("ways", [2, 3, 16, 64])
def test_rounds_by_search(ways):
    for steps in (1, 2, 3, ways, ways + 1, ways**2, ways**2 + 1, 1000, 80_000):
        low, high, rounds = 0, steps, 0
        while high - low > 1:  # the worst part is the longest one
            low, high, rounds = 0, math.ceil((high - low) / ways), rounds + 1
        assert security.bisection_rounds(steps, ways) == rounds


def test_fitted_exponent_against_numpy():
    x, y = np.random.default_rng(3).random((2, 12))
    sizes, seconds = np.exp(x), np.exp(y)
    slope, error = proving.fitted_exponent(list(sizes), list(seconds))
    (expected, _), covariance = np.polyfit(x, y, 1, cov=True)
    assert slope == pytest.approx(expected)
    assert error == pytest.approx(math.sqrt(covariance[0, 0]))


def test_pearson_interval_covers_in_simulation():
    draws, r, n = np.random.default_rng(5), 0.35, 100
    pairs = draws.multivariate_normal([0, 0], [[1, r], [r, 1]], size=(2000, n))
    found = [np.corrcoef(sample.T)[0, 1] for sample in pairs]
    covered = np.mean([low <= r <= high for low, high in (quality.pearson_interval(value, n) for value in found)])
    assert 0.935 < covered < 0.965


def test_figure_data(project, judge, rows):
    grid = consistency.latency_consistency(rows, rhos=[0.0001, 0.01], proof_seconds=[30.0, 1200.0])
    assert [record["fits"] for record in grid] == [True, True, True, False]
    grid = consistency.cost_consistency(rows, rhos=[0.001, 0.01], proof_usd=[6.9, 45.0])
    assert [record["fits"] for record in grid] == [True, True, True, False]
    marks = {record["name"]: record for record in consistency.latency_points(rows)}
    assert marks["slowest proof at 1 %"]["mean_s"] == pytest.approx(0.8)
    assert marks["largest rate at 20 min"]["mean_s"] == pytest.approx(0.8)
    assert {record["name"]: record["cost_usd"] for record in consistency.cost_points(rows)}["stated inputs"] == 0.45
    groups = [record["group"] for record in consistency.throughput_readings(Grounds(project.data))]
    assert groups.count("published") == 10
    assert groups.count("other GPU") == 9
    table = trilemma.published_table(rows)
    assert len(table) == 16
    assert all(record["value"] and record["source"] and record["kind"] for record in table)
    assert all(source in rows or "DGrid blog" in source for r in table for source in r["source"].split(", "))
    assert judge(latency.L03_weighted_latency).readings[0].value == pytest.approx(12.495)
