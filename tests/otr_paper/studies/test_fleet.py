"""Fleets: exact means against plays, against closed forms of one operator, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.economics.detection import served_before_verdict, undetected_cheats
from otr_core.economics.guarantee import attack_profit
from otr_core.errors import ParameterError
from otr_paper.store.results import read_result
from otr_paper.studies.fleet import (
    NAMES,
    Fleet,
    agreement,
    cases_in_court,
    expected_counts,
    fleet_point,
    play_fleet,
    random_fleet,
)

ONE = Fleet(
    owners=1, clones=1, answers=1, detection=0.1, gain_usd=3.0, price_usd=1.0, harm_usd=5.0, stake_usd=100.0,
    slash_fraction=1.0, reward_share=0.0, capacity=1, verdict_epochs=4, patch_epochs=2000, unbonding_epochs=2000,
    reuse=1, price_left=1.0, insured=0.0, common=True, freeze=True,
)  # fmt: skip


def test_a_share_of_the_stored_fleets_is_played_again():
    found = agreement([fleet_point({"runs": 400}, seed) for seed in range(150)])
    assert min(found["inside"].values()) > 0.95
    assert max(found["farthest"].values()) < 5


def test_the_stored_fleets_agree(project):
    _card, stored = read_result(project.results, "fleet")
    assert stored["fleets"] >= 1000
    assert min(stored["inside"].values()) > 0.985
    assert max(stored["farthest"].values()) < 5


def test_one_operator_is_the_operator_of_the_guarantee():
    found = expected_counts(ONE)
    assert found["final"] == pytest.approx(undetected_cheats(detection=0.1))
    assert found["served"] == pytest.approx(served_before_verdict(detection=0.1, pending=4))
    profit = attack_profit(gain_usd=3.0, price_usd=1.0, loss_usd=100.0, detection=0.1, pending=4)
    assert found["profit_usd"] == pytest.approx(profit)
    assert found["slashed_usd"] == pytest.approx(100.0)
    assert found["uninsured_usd"] == pytest.approx(9 * 5.0)


def test_a_common_slash_makes_clones_one_operator_with_more_at_stake():
    three = replace(ONE, clones=3)
    apart = replace(three, common=False, capacity=9)
    assert expected_counts(three)["final"] == pytest.approx(expected_counts(ONE)["final"], rel=1e-9)
    assert expected_counts(three)["slashed_usd"] == pytest.approx(300.0)
    assert expected_counts(apart)["final"] == pytest.approx(3 * expected_counts(ONE)["final"], rel=1e-9)
    assert expected_counts(apart)["slashed_usd"] == pytest.approx(300.0)


def test_a_court_that_is_full_lets_more_be_served_and_none_more_become_final():
    many = replace(ONE, owners=6, detection=0.9, patch_epochs=60, unbonding_epochs=60)
    wide = replace(many, capacity=6)
    assert expected_counts(many)["final"] == expected_counts(wide)["final"]
    assert expected_counts(many)["served"] > expected_counts(wide)["served"] + 6
    # all found at once: the court takes one an epoch, the k-th serves k - 1 epochs more
    sure = replace(many, detection=1.0)
    assert expected_counts(sure)["served"] == pytest.approx(sum(range(1, 7)) + 6 * 4)
    found, taken = cases_in_court(sure, 7)
    assert found.tolist() == [0, 6, 6, 6, 6, 6, 6, 6]
    assert taken.tolist() == [0, 1, 2, 3, 4, 5, 6, 6]


def test_who_leaves_before_its_verdict_keeps_its_stake_unless_a_case_holds_it():
    sure = replace(ONE, detection=1.0, unbonding_epochs=3)
    assert expected_counts(sure)["slashed_usd"] == 100.0
    assert expected_counts(replace(sure, freeze=False))["slashed_usd"] == 0.0
    late = replace(sure, freeze=False, unbonding_epochs=5)
    assert expected_counts(late)["slashed_usd"] == 100.0  # found in the first epoch, convicted at the end of the fifth
    assert expected_counts(replace(late, unbonding_epochs=4))["slashed_usd"] == 0.0


def test_reuse_and_a_fallen_price_divide_what_a_slash_takes_and_insurance_returns_of_it():
    half = replace(ONE, reuse=4, price_left=0.5, insured=0.25)
    found = expected_counts(half)
    assert found["slashed_usd"] == pytest.approx(100 * 0.5 / 4)
    assert found["uninsured_usd"] == pytest.approx(expected_counts(ONE)["uninsured_usd"] - 0.25 * 12.5)
    assert found["profit_usd"] == pytest.approx(expected_counts(ONE)["profit_usd"] + 87.5)
    own = expected_counts(replace(half, reward_share=0.4))
    assert own["profit_usd"] - found["profit_usd"] == pytest.approx(0.4 * 12.5)


def test_same_seed_same_play_and_wrong_numbers_are_named():
    fleet = random_fleet(3)
    assert (play_fleet(fleet, runs=20, seed=5) == play_fleet(fleet, runs=20, seed=5)).all()
    assert play_fleet(fleet, runs=20, seed=5).shape == (len(NAMES), 20)
    assert random_fleet(3) == fleet != random_fleet(4)
    for name, value in (
        ("owners", 0),
        ("detection", 1.5),
        ("stake_usd", float("nan")),
        ("capacity", 0.5),
        ("clones", 10_001),
    ):
        with pytest.raises(ParameterError, match=name):
            replace(fleet, **{name: value})
    never = replace(ONE, detection=0.0, patch_epochs=7, unbonding_epochs=7)
    assert expected_counts(never)["final"] == 7.0
    assert np.all(play_fleet(never, runs=3, seed=1)[0] == 7.0)
