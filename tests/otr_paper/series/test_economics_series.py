"""The data of the figures: each cell follows from the formula it shows, at the edges and where
regimes change."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.economics import game
from otr_core.economics.model import AnswerValue, Bond, Watch
from otr_core.errors import ParameterError
from otr_paper.series import economics, your_case

ANSWER = AnswerValue(price_usd=0.5, honest_cost_usd=0.4, cheat_cost_usd=0.1)
BOND = Bond(stake_usd=20.0, slash_fraction=0.5, reward_share=0.3)
WATCH = Watch(rho=0.01, fishermen=4, check_cost_usd=0.01)


def test_deterrence_map_agrees_with_min_rho():
    cells = economics.deterrence_map(
        rhos=np.linspace(0.05, 1, 20),
        stakes_usd=[1.0, 10.0, 100.0],
        gains_usd=[0.5, 20.0],
        price_usd=0.3,
        reward_share=0.3,
    )
    assert len(cells) == 120
    for cell in cells:
        least = eco.min_rho(
            gain_usd=cell["gain_usd"], price_usd=0.3, stake_usd=cell["stake_usd"], slash_fraction=1.0,
            dispute_cost_usd=0.0, d=1.0, phi=0.0, w=0.0, reward_share=0.3,
        )  # fmt: skip
        assert cell["deterred"] == (cell["rho"] > least)


def test_regime_map_shows_every_regime_and_replaces_the_gain():
    cells = economics.regime_map(
        answer=ANSWER, bond=BOND, watch=WATCH, rhos=[0.0, 0.01, 0.1, 0.9], gains_usd=[0.05, 1.0, 9.0, 30.0]
    )
    assert {game.HONEST_DOMINANT, game.MIXED, game.ALWAYS_CHEAT} <= {cell["regime"] for cell in cells}
    for cell in cells:
        assert cell["threshold"] == pytest.approx(cell["gain_usd"] / 7.5)  # of 10 slashed 3 come back
        if cell["regime"] == game.MIXED:
            assert cell["detection"] == pytest.approx(cell["threshold"])


def test_best_rate_curves_fall_with_the_price_of_a_proof():
    records = economics.best_rate_curves(
        proof_costs_usd=[0.008, 0.5, 45.0], gains_usd=[0.001, 10.0], price_usd=0.001, capital_cost_usd=1e-7,
        most_stake_usd=1e4, reward_share=0.3,
    )  # fmt: skip
    rates = [record["rho"] for record in records]
    assert rates[:3] == sorted(rates[:3], reverse=True)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert all(record["stake_usd"] <= 1e4 * (1 + 1e-9) for record in records)
    none = economics.best_rate_curves(
        proof_costs_usd=[1.0],
        gains_usd=[10.0],
        price_usd=0.0,
        capital_cost_usd=1e-7,
        most_stake_usd=5.0,
        reward_share=0.0,
    )
    assert np.isnan(none[0]["rho"])


def test_what_one_per_cent_buys():
    records = economics.what_a_rate_buys(
        rho=0.01, gains_usd=[0.0, 1.0, 1e4], price_usd=0.0, slash_fraction=0.2, reward_share=0.5, pending=1239
    )
    assert [record["stake_usd"] for record in records] == pytest.approx([0.0, 1000.0, 1e7])
    assert [record["stake_per_gain"] for record in records] == pytest.approx([0.0, 1000.0, 1000.0])
    # a hundred gains before the first catch, and 1,239 until its verdict
    assert [record["rolling_usd"] for record in records] == pytest.approx([0.0, 13_390.0, 1.339e8])
    assert records[0]["undetected"] == pytest.approx(99.0)
    assert records[0]["served"] == pytest.approx(99 + 1240)
    some = economics.what_a_rate_buys(
        rho=0.01, gains_usd=[1.0], price_usd=0.0, slash_fraction=0.2, reward_share=1.0, pending=0
    )
    assert some[0]["rolling_usd"] == np.inf


def test_render_is_pure_and_shows_the_paper_s_rate_by_default():
    view = your_case.render(your_case.State())
    assert view["numbers"] == your_case.render(your_case.State())["numbers"]
    assert view["numbers"]["detection"] == 0.01
    assert view["numbers"]["cheats_for_99pct_count"] == 459
    assert view["numbers"]["least_stake_usd"] == pytest.approx(0.0462 / 0.7)  # 30 % comes back
    assert view["equilibrium"].regime == game.HONEST_DOMINANT
    assert "honesty pays" in view["sentence"]
    assert view["detection"][0] == {"cheats": 1.0, "detection": pytest.approx(0.01)}
    middle = view["boundary"][30]
    assert middle["stake_usd"] == pytest.approx(100.0)
    assert middle["rho"] == pytest.approx(view["numbers"]["least_rho"])


@pytest.mark.parametrize(
    "change",
    [
        {"rho": 0.0}, {"rho": 1.0}, {"fishermen": 20, "planted_rate": 0.1, "bounty_usd": 1.0}, {"gain_usd": 0.0},
        {"gain_usd": 1e6}, {"gain_usd": np.inf}, {"stake_usd": 1e-3}, {"d": 0.0}, {"slash_fraction": 0.0},
    ],
)  # fmt: skip
def test_render_takes_every_end_of_the_sliders(change):
    view = your_case.render(your_case.State(**change))
    assert view["sentence"]
    deterred = view["numbers"]["surplus_usd"] > 0
    assert deterred == (view["equilibrium"].regime in (game.HONEST_DOMINANT, game.HONEST_WATCHED))


@pytest.mark.parametrize(
    ("field", "bad"), [("rho", 1.1), ("stake_usd", 0.0), ("fishermen", 1.5), ("price_usd", -1.0), ("gain_usd", np.nan)]
)
def test_a_state_is_checked_by_field(field, bad):
    with pytest.raises(ParameterError, match=field):
        your_case.State(**{field: bad})
