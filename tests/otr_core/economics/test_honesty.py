"""Who looks, and what honesty costs: by hand, and with each premise left out."""

from __future__ import annotations

from math import inf

import pytest

from otr_core.economics.honesty import honesty_cost, watched_share
from otr_core.errors import ParameterError, PremiseError
from tests.helpers.premises import name_what_fails

# ---- who looks

LOOK = {
    "fishermen": 5, "bought_share": 0.2, "look_chance": 0.9, "tested": 0.01, "lost_usd": 1.0, "check_cost_usd": 0.0006,
    "reward_usd": 10.0, "gas_usd": 2.0,
}  # fmt: skip


def test_looking_counts_those_who_are_not_bought():
    assert watched_share(**LOOK) == pytest.approx(1 - 0.1**4)
    assert watched_share(**{**LOOK, "bought_share": 0.21}) == pytest.approx(1 - 0.1**3)
    assert watched_share(**{**LOOK, "bought_share": 1.0}) == 0.0
    with pytest.raises(PremiseError, match="H7"):
        watched_share(**{**LOOK, "tested": 0.0006})
    with pytest.raises(PremiseError, match="H8"):
        watched_share(**{**LOOK, "reward_usd": 1.9})


def test_looking_is_the_better_answer_to_whatever_the_others_do():
    """Payoffs case by case: cheats from never to always, and every number of others who look."""
    for cheats in (0.0, 0.01, 1.0):
        for others in range(5):
            looks = -LOOK["check_cost_usd"] + cheats * (LOOK["reward_usd"] - LOOK["gas_usd"]) / (1 + others)
            not_looks = -LOOK["tested"] * LOOK["lost_usd"]
            assert looks > not_looks


# ---- what honesty costs

HONEST = {
    "slash_usd": 100.0, "price_usd": 0.01, "unfinal": 5000, "rho": 0.01, "outage": 0.002, "false_conviction": 0.0,
    "bond_usd": 30.0, "compensation_share": 0.5, "defence_usd": 2.0, "attack_usd": 1.0, "window_s": 100.0,
    "reveal_s": 10.0, "clock_s": 50.0, "increment_s": 3.0, "moves": 20, "check_cost_usd": 0.001, "tested": 0.01,
    "lost_usd": 1.0,
}  # fmt: skip


def test_the_cost_of_honesty_in_full():
    found = honesty_cost(**HONEST)
    # the whole slash, and what is not final is void as well
    assert found.operator_usd == pytest.approx(0.01 * 0.002 * (100 + 50))
    assert found.challenge_usd == pytest.approx(15 - 2)
    assert found.finality_s == 100 + 10 + 2 * 50 + 20 * 3
    assert found.fisherman_usd == pytest.approx(0.001 + 0.01 * 0.002 * 1.0)
    assert found.grief_ratio == pytest.approx(15.5)
    wrongly = honesty_cost(**{**HONEST, "false_conviction": 0.001})
    assert wrongly.operator_usd == pytest.approx((1 - (1 - 2e-5) * (1 - 1e-3)) * 150)
    assert honesty_cost(**{**HONEST, "defence_usd": 0.0}).grief_ratio == inf


def test_bonds_that_do_not_pay_the_honest_are_named():
    with pytest.raises(PremiseError, match="H9: found a lost bond"):
        honesty_cost(**{**HONEST, "compensation_share": 0.06})
    with pytest.raises(PremiseError, match="H9: found griefing"):
        honesty_cost(**{**HONEST, "defence_usd": 3.2})
    honesty_cost(**{**HONEST, "defence_usd": 3.1})


@pytest.mark.parametrize("field", HONEST)
def test_each_number_of_honesty_is_checked_by_name(field):
    with pytest.raises(ParameterError) as error:
        honesty_cost(**{**HONEST, field: -1})
    assert error.value.field == field


# ---- which theorem needs what


@pytest.mark.parametrize("theorem", ["attention", "cost of honesty"])
def test_each_theorem_names_the_premise_that_fails(theorem):
    calls = {
        "attention": lambda failing: watched_share(**LOOK, failing=failing),
        "cost of honesty": lambda failing: honesty_cost(**HONEST, failing=failing),
    }
    name_what_fails(theorem, calls[theorem])
