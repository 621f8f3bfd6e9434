"""The population simulation: against the closed forms, its own bookkeeping, and a slow simulation
of one operator."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.economics import scenarios
from otr_core.economics.detection import undetected_cheats
from otr_core.economics.deterrence import deters
from otr_core.economics.guarantee import attack_profit
from otr_core.economics.model import play_strategies
from otr_core.errors import ParameterError
from otr_paper.studies.population import (
    Population,
    population_of,
    simulate_point,
    simulate_population,
    stream,
    summary_point,
    tempting,
)

QUIET = Population(
    operators=400, epochs=40, queries_per_epoch=20, rational_share=0.3, malicious_share=0.1, broken_share=1.0,
    break_epoch=10, patch_epoch=30, price_usd=0.5, compute_saved_usd=0.3, outside_gain_usd=0.0, stake_usd=20.0,
    slash_fraction=0.5, dispute_cost_usd=1.0, rho=0.05, d=0.9, w=1.0, fishermen=4, check_rate=0.01,
    reward_share=0.25,
)  # fmt: skip


def detection_of(people):
    someone = 1 - (1 - people.check_rate) ** people.fishermen
    return eco.detection_probability(rho=people.rho, d=people.d, phi=someone, w=people.w)


def threshold_of(people):
    return eco.deterrence_threshold(
        gain_usd=people.compute_saved_usd, price_usd=people.price_usd, stake_usd=people.stake_usd,
        slash_fraction=people.slash_fraction, dispute_cost_usd=people.dispute_cost_usd,
        reward_share=people.reward_share,
    )  # fmt: skip


def test_same_seed_same_history_other_seed_another():
    first, again, other = (simulate_population(QUIET, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.series != other.series
    assert json.loads(json.dumps(simulate_point(asdict(QUIET), 3)))["summary"] == first.summary
    assert summary_point(asdict(QUIET), 3) == first.summary


def test_streams_come_from_the_point_alone():
    draws = [stream(config, seed).random(4).tolist() for config, seed in (({"a": 1}, 0), ({"a": 1}, 1), ({"a": 2}, 0))]
    assert len({tuple(draw) for draw in draws}) == 3
    assert stream({"a": 1, "b": 2}, 0).random() == stream({"b": 2, "a": 1}, 0).random()


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_rational_operators_switch_at_the_threshold(factor):
    """Regimes: with detection just above tau no rational operator cheats, just below all who can
    do."""
    gain = detection_of(QUIET) * (QUIET.price_usd + QUIET.loss_usd)
    people = replace(QUIET, compute_saved_usd=gain * factor)
    cheaters = simulate_population(people, seed=1).summary["rational_cheaters"]
    assert cheaters == (0 if factor < 1 else 120)
    assert (detection_of(people) > threshold_of(people)) == (factor < 1)


def test_a_thousand_random_populations_switch_where_the_closed_form_says():
    draws, cheated = np.random.default_rng(20251223), 0
    for seed in range(1000):
        people = replace(
            QUIET, operators=20, epochs=2, queries_per_epoch=4, rational_share=1.0, malicious_share=0.0, break_epoch=0,
            patch_epoch=2, rho=draws.uniform(0, 0.3), stake_usd=10 ** draws.uniform(-1, 2),
        )  # fmt: skip
        cheats = simulate_population(people, seed=seed).summary["cheats"] > 0
        assert cheats != deters(detection=detection_of(people), threshold=threshold_of(people))
        cheated += cheats
    assert 200 < cheated < 800


def test_cheating_pays_what_the_closed_form_says():
    """One query an epoch and eviction at once: profit until caught or patched, within its 99 %
    interval."""
    people = replace(
        QUIET, operators=30_000, epochs=60, queries_per_epoch=1, rational_share=0.0, malicious_share=1.0, break_epoch=0,
        patch_epoch=60, void=False, fishermen=0,
    )  # fmt: skip
    for gain in (0.2, 0.9):
        case = replace(people, compute_saved_usd=gain)
        found = simulate_population(case, seed=5).summary
        exact = attack_profit(
            gain_usd=gain, price_usd=0.5, loss_usd=case.loss_usd, detection=detection_of(case), attempts=60
        )
        # One cheater's profit never leaves [-(v + L), 60 g]; its spread is below 60 g + v + L over
        # four.
        spread = (60 * gain + 0.5 + case.loss_usd) / 4
        assert found["profit_per_cheater_usd"] == pytest.approx(exact, abs=2.576 * spread / np.sqrt(30_000))
        undetected = undetected_cheats(detection=detection_of(case), attempts=60)
        assert found["undetected"] / 30_000 == pytest.approx(undetected, abs=2.576 * 60 / 2 / np.sqrt(30_000))


def test_cheats_before_the_first_catch_are_geometric():
    people = replace(
        QUIET, operators=8_000, malicious_share=1.0, rational_share=0.0, break_epoch=0, patch_epoch=400, epochs=400,
        queries_per_epoch=10, rho=0.02, fishermen=0,
    )  # fmt: skip
    found = simulate_population(people, seed=2).summary
    assert found["cheaters_evicted"] == 8_000
    detection = detection_of(people)
    exact = undetected_cheats(detection=detection)
    spread = np.sqrt(1 - detection) / detection
    assert found["cheats_before_catch"] == pytest.approx(exact, abs=2.576 * spread / np.sqrt(8_000))


def slow_operator(people, draws):
    """One malicious operator with the break always open, in plain Python."""
    detection, profit, marked = detection_of(people), 0.0, None
    for epoch in range(people.epochs):
        caught = [draws.random() < detection for _ in range(people.queries_per_epoch)]
        profit += people.queries_per_epoch * people.compute_saved_usd
        if any(caught) and marked is None:
            marked = epoch
        unpaid = (people.queries_per_epoch if marked is not None else 0) if people.void else sum(caught)
        profit -= unpaid * people.price_usd
        if marked is not None and epoch == marked + people.verdict_epochs:
            return profit - people.loss_usd
    return profit


@pytest.mark.parametrize("void", [True, False])
@pytest.mark.parametrize("delay", [0, 2])
def test_profit_against_a_slow_simulation(void, delay):
    people = replace(
        QUIET, operators=3_000, malicious_share=1.0, rational_share=0.0, break_epoch=0, patch_epoch=8, epochs=8,
        queries_per_epoch=6, void=void, verdict_epochs=delay,
    )  # fmt: skip
    draws = np.random.default_rng(9)
    slow = np.array([slow_operator(people, draws) for _ in range(3_000)])
    fast = simulate_population(people, seed=9).summary["profit_per_cheater_usd"]
    assert fast == pytest.approx(slow.mean(), abs=2.576 * slow.std() * np.sqrt(2 / 3_000))


def test_nobody_cheats_outside_the_break():
    history = simulate_population(QUIET, seed=6)
    cheats, is_open = np.array(history.series["cheats"]), np.array(history.series["open"])
    assert (cheats[is_open == 0] == 0).all()
    assert cheats[is_open == 1].any()
    assert is_open.sum() == 20
    assert simulate_population(replace(QUIET, broken_share=0.0), seed=6).summary["cheats"] == 0


def test_books_balance():
    history = simulate_population(replace(QUIET, false_conviction=0.01, verdict_epochs=3, outside_gain_usd=0.4), seed=7)
    series, summary = history.series, history.summary
    assert summary["cheats"] == sum(series["caught"]) + sum(series["undetected"])
    assert QUIET.operators - sum(series["evicted"]) <= series["active"][-1]
    assert np.diff(series["active"]) == pytest.approx(-np.array(series["evicted"][:-1]))
    assert summary["honest_evicted"] == sum(series["evicted_honest"]) > 0
    assert summary["honest_slashed_usd"] == summary["honest_evicted"] * 11.0
    assert summary["decisions"] == sum(series["active"]) * 20
    assert summary["epochs_to_eviction"] >= 3


def test_honest_operators_are_safe_without_false_convictions():
    assert simulate_population(QUIET, seed=8).summary["honest_evicted"] == 0


def test_wrong_convictions_come_at_their_rate():
    people = replace(QUIET, operators=20_000, rational_share=0.0, malicious_share=0.0, epochs=1, false_conviction=0.05)
    found = simulate_population(people, seed=3).summary["honest_evicted"] / 20_000
    someone = 1 - 0.99**4
    each = (0.05 + someone - 0.05 * someone) * 0.05
    exact = 1 - (1 - each) ** 20
    assert found == pytest.approx(exact, abs=2.576 * np.sqrt(exact * (1 - exact) / 20_000))


def test_population_of_a_use_case_takes_over_its_numbers(project):
    case = scenarios.load(project.root / "data")["defi_agent"]
    people = population_of(
        case, operators=100, epochs=80, queries_per_epoch=10, break_epoch=5, patch_epoch=60, rational_share=0.4,
        malicious_share=0.1, broken_share=1.0,
    )  # fmt: skip
    assert people.verdict_epochs == 7  # 1240 s at 200 s an epoch
    assert (people.loss_usd, people.slash_usd) == (7_000.0, 10_000.0)
    assert (people.rho, people.outside_gain_usd) == (0.01, 50.0)
    assert people.compute_saved_usd == pytest.approx(case.answer.gain_usd - 50.0)
    assert people.check_rate == play_strategies(case.answer, case.bond, case.watch).check_rate
    summary = simulate_population(people, seed=1).summary
    assert summary["epochs_to_eviction"] >= 7
    # With 1 % and 10,000 USD the rational pass on all but the rare answers worth more than 70 USD.
    assert 0 < summary["rational_cheaters"] <= 40


def test_fishermen_come_and_go():
    people = replace(QUIET, fishermen=50, enter_per_epoch=2.0, leave_rate=0.1, epochs=400, patch_epoch=400)
    counts = np.array(simulate_population(people, seed=1).series["fishermen"])
    assert counts[200:].mean() == pytest.approx(20, rel=0.15)  # enter / leave
    assert np.corrcoef(counts, simulate_population(people, seed=1).series["detection"])[0, 1] > 0.99


def test_value_decides_who_is_worth_a_cheat():
    """With an exponential outside gain the rational cheat on the share of queries above the
    deterred value."""
    people = replace(
        QUIET, operators=2_000, rational_share=1.0, malicious_share=0.0, compute_saved_usd=0.0, outside_gain_usd=0.5,
        epochs=1, break_epoch=0, patch_epoch=1, queries_per_epoch=50,
    )  # fmt: skip
    least = detection_of(people) * (people.price_usd + people.loss_usd)
    share = simulate_population(people, seed=2).summary["cheats"] / 100_000
    exact = np.exp(-least / 0.5)
    assert share == pytest.approx(exact, abs=2.576 * np.sqrt(exact * (1 - exact) / 100_000))
    assert tempting(people) == pytest.approx((least, exact))
    assert tempting(replace(people, compute_saved_usd=2 * least))[1] == 1.0
    for saved, share in ((0.9 * least, 0.0), (1.1 * least, 1.0)):
        assert tempting(replace(people, outside_gain_usd=0.0, compute_saved_usd=saved)) == (pytest.approx(least), share)


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("operators", 0), ("queries_per_epoch", 10**7), ("epochs", 2.5), ("fishermen", -1), ("stake_usd", 0.0),
        ("price_usd", -1.0),
        ("rho", 1.1), ("check_rate", -0.1), ("false_conviction", 2), ("patch_epoch", 5), ("enter_per_epoch", -1.0),
        ("malicious_share", 0.8), ("outside_gain_usd", float("inf")),
    ],
)  # fmt: skip
def test_bad_input_names_the_field(field, bad):
    with pytest.raises(ParameterError, match=field):
        replace(QUIET, **{field: bad})
