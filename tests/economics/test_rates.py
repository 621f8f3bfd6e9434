"""The square-root law against a plain grid search and its own extremes."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.errors import ParameterError

GOOD = {
    "gain_usd": 0.00047, "proof_cost_usd": 1.4, "capital_cost_usd": 1e-7, "d": 0.9, "slash_fraction": 0.5
}  # fmt: skip


def cost(rho, *, gain_usd, proof_cost_usd, capital_cost_usd, d, slash_fraction):
    stake = gain_usd / (rho * d) / slash_fraction
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
    }
    best = eco.optimal_rho(**terms)
    grid = np.geomspace(1e-9, 1.0, 20_001)
    found = grid[np.argmin(cost(grid, **terms))]
    assert best == pytest.approx(found, rel=2e-3)
    assert cost(best, **terms) <= cost(grid, **terms).min() * (1 + 1e-12)


def test_worked_example():
    example = {**GOOD, "d": 1.0, "slash_fraction": 1.0}
    rate = eco.optimal_rho(**example)
    assert rate == pytest.approx(5.794e-6, rel=1e-3)
    assert 0.00047 / rate == pytest.approx(81.1, rel=1e-3)
    assert cost(rate, **example) == pytest.approx(1.622e-5, rel=1e-3)


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
