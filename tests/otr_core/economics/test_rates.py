"""The square-root law against a plain grid search and its own extremes."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.economics.rates import Rate, best_rate
from otr_core.errors import ParameterError

GOOD = dict(gain_usd=0.00047, proof_cost_usd=1.4, capital_cost_usd=1e-7, d=0.9, slash_fraction=0.5)
GOOD["reward_share"] = 0.2


def cost(rho, *, gain_usd, proof_cost_usd, capital_cost_usd, d, slash_fraction, reward_share):
    stake = gain_usd / (rho * d) / (slash_fraction - slash_fraction * reward_share)
    return rho * proof_cost_usd + capital_cost_usd * stake


@pytest.mark.parametrize("seed", range(20))
def test_square_root_law_is_the_minimum_of_a_grid(seed):
    draws = np.random.default_rng(seed)
    terms = {
        "gain_usd": 10 ** draws.uniform(-4, 2),
        "proof_cost_usd": 10 ** draws.uniform(-3, 2),
        "capital_cost_usd": 10 ** draws.uniform(-9, -3),
        "d": draws.uniform(0.1, 1),
        "slash_fraction": draws.uniform(0.05, 1),
        "reward_share": draws.uniform(0, 0.9),
    }
    best = eco.optimal_rho(**terms)
    grid = np.geomspace(1e-9, 1.0, 20_001)
    found = grid[np.argmin(cost(grid, **terms))]
    assert best == pytest.approx(found, rel=2e-3)
    assert cost(best, **terms) <= cost(grid, **terms).min() * (1 + 1e-12)


def test_worked_example():
    example = {**GOOD, "d": 1.0, "slash_fraction": 1.0, "reward_share": 0.0}
    rate = eco.optimal_rho(**example)
    assert rate == pytest.approx(5.794e-6, rel=1e-3)
    assert 0.00047 / rate == pytest.approx(81.1, rel=1e-3)
    assert cost(rate, **example) == pytest.approx(1.622e-5, rel=1e-3)


def test_where_no_share_is_named_nothing_comes_back():
    bare = {name: value for name, value in GOOD.items() if name != "reward_share"}
    assert eco.optimal_rho(**bare) == eco.optimal_rho(**{**GOOD, "reward_share": 0.0}) < eco.optimal_rho(**GOOD)
    pair = best_rate(**bare, price_usd=0.0001)
    assert pair == best_rate(**{**GOOD, "reward_share": 0.0}, price_usd=0.0001, pending=0)
    assert pair.stake_usd < best_rate(**GOOD, price_usd=0.0001).stake_usd
    assert pair.stake_usd < best_rate(**bare, price_usd=0.0001, pending=3).stake_usd


def test_extremes():
    assert eco.optimal_rho(**{**GOOD, "proof_cost_usd": 0.0}) == 1.0
    assert eco.optimal_rho(**{**GOOD, "capital_cost_usd": 0.0}) == 0.0
    assert eco.optimal_rho(**{**GOOD, "gain_usd": 0.0}) == 0.0
    assert eco.optimal_rho(**{**GOOD, "gain_usd": np.inf}) == 1.0
    assert eco.optimal_rho(**{**GOOD, "d": 0.0}) == np.inf
    assert eco.optimal_rho(**{**GOOD, "slash_fraction": 0.0}) == np.inf


@pytest.mark.parametrize("field", list(GOOD))
def test_bad_input_names_the_field(field):
    with pytest.raises(ParameterError) as error:
        eco.optimal_rho(**{**GOOD, field: float("nan")})
    assert error.value.field == field


def pair_by_grid(
    *, gain_usd, price_usd, proof_cost_usd, capital_cost_usd, d, slash_fraction, reward_share, pending, most_stake_usd,
    most_rho,
):  # fmt: skip
    rates = np.append(np.geomspace(1e-9, most_rho, 20_001), most_rho)
    over = pending * max(gain_usd - price_usd, 0)
    stakes = np.maximum(gain_usd / (rates * d) - price_usd + over, 0) / (slash_fraction * (1 - reward_share))
    costs = np.where(stakes <= most_stake_usd, rates * proof_cost_usd + capital_cost_usd * stakes, np.inf)
    return costs.min()


@pytest.mark.parametrize("seed", range(40))
def test_best_rate_within_limits_against_a_grid(seed):
    draws = np.random.default_rng(seed)
    terms = {
        "gain_usd": 10 ** draws.uniform(-4, 3),
        "price_usd": 10 ** draws.uniform(-4, 1),
        "proof_cost_usd": 10 ** draws.uniform(-3, 2),
        "capital_cost_usd": 10 ** draws.uniform(-9, -2),
        "d": draws.uniform(0.3, 1),
        "slash_fraction": draws.uniform(0.05, 1),
        "reward_share": draws.uniform(0, 0.9),
        "pending": int(draws.choice([0, 0, 3, 50])),
        "most_stake_usd": 10 ** draws.uniform(0, 5),
        "most_rho": 10 ** draws.uniform(-3, 0),
    }
    found = best_rate(**terms)
    cost_found = pair_by_grid(**terms)
    if found is None:
        assert not np.isfinite(cost_found)
        return
    assert found.cost_usd <= cost_found * (1 + 1e-9)
    assert found.cost_usd == pytest.approx(cost_found, rel=1e-3)
    assert found.rho <= terms["most_rho"] * (1 + 1e-12)
    assert found.stake_usd <= terms["most_stake_usd"] * (1 + 1e-9)
    detection = found.rho * terms["d"]
    over = terms["pending"] * max(terms["gain_usd"] - terms["price_usd"], 0)
    lost = terms["price_usd"] + terms["slash_fraction"] * (1 - terms["reward_share"]) * found.stake_usd - over
    assert detection * lost == pytest.approx(terms["gain_usd"], rel=1e-9)


def test_best_rate_extremes():
    terms = {**GOOD, "price_usd": 0.001}
    assert best_rate(**{**terms, "gain_usd": 0.0}) == Rate(0.0, 0.0, 0.0)
    assert best_rate(**{**terms, "gain_usd": np.inf}) is None
    assert best_rate(**{**terms, "d": 0.0}) is None
    assert best_rate(**{**terms, "slash_fraction": 0.0, "gain_usd": 0.01}) is None
    price_alone = best_rate(**{**terms, "slash_fraction": 0.0, "price_usd": 0.001})
    assert price_alone.rho == pytest.approx(0.00047 / 0.0009)
    assert price_alone.stake_usd == 0.0
    assert best_rate(**terms, most_rho=0.0) is None
    assert best_rate(**{**terms, "capital_cost_usd": 0.0}).rho == 0.0


def test_free_capital_lets_the_stake_replace_every_proof():
    free = {"gain_usd": 1.0, "price_usd": 0.0, "proof_cost_usd": 2.0, "capital_cost_usd": 0.0, "d": 1.0}
    assert best_rate(**free, slash_fraction=1.0) == Rate(0.0, np.inf, 0.0)
    limited = best_rate(**free, slash_fraction=1.0, most_stake_usd=1.0)
    assert limited == Rate(1.0, 1.0, 2.0)  # the limit makes every answer be checked
