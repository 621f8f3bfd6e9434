"""The conditions around the game, each against payoffs written out for the actor it binds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core import economics as eco
from otr_core.errors import ParameterError

money = st.floats(0.01, 1e4)
share = st.floats(0.01, 0.99)


def test_a_cheater_takes_the_cheaper_way_out():
    assert eco.effective_loss(fraud_loss_usd=100.0, timeout_loss_usd=10.0) == 10.0
    assert eco.effective_loss(fraud_loss_usd=10.0, timeout_loss_usd=100.0) == 10.0
    assert list(eco.effective_loss(fraud_loss_usd=[1.0, 5.0], timeout_loss_usd=3.0)) == [1.0, 3.0]


def test_outage_cost_within_the_interval_of_played_queries():
    draws, n = np.random.default_rng(4), 300_000
    lost = ((draws.random(n) < 0.2) & (draws.random(n) < 0.1)) * 7.0
    exact = eco.outage_cost(rho=0.2, outage=0.1, timeout_loss_usd=7.0)
    assert abs(lost.mean() - exact) < 2.576 * lost.std() / np.sqrt(n)


@given(money, money, share, share, money, share)
def test_most_reward_share_is_where_self_reporting_pays_for_the_cheat(gain, stake, slash, detection, price, dispute):
    terms = {"stake_usd": stake, "slash_fraction": slash, "dispute_cost_usd": dispute}
    most = eco.most_reward_share(gain_usd=gain, price_usd=price, detection=detection, **terms)

    def surplus(alpha):
        returned = alpha * slash * stake  # the operator's own fisherman hands the reward back
        return detection * (price + slash * stake + dispute - returned) - gain

    if most == 1.0:
        assert surplus(1.0) >= -1e-9 * (gain + price + dispute)
    else:
        assert surplus(most) == pytest.approx(0, abs=1e-9 * (gain + stake + price))
    if 0 <= most <= 1:
        loss = eco.self_report_loss(reward_share=most, **terms)
        assert detection * (price + loss) >= gain - 1e-9 * (gain + stake + price)


@given(money, money, share, share, money, share, st.integers(1, 50))
def test_bribe_proof_share_is_where_bribes_eat_the_gain(gain, stake, slash, sampled, price, dispute, fishermen):
    least = eco.least_bribe_proof_share(
        gain_usd=gain, price_usd=price, stake_usd=stake, slash_fraction=slash, dispute_cost_usd=dispute,
        sampled_detection=sampled, fishermen=fishermen,
    )  # fmt: skip
    left = gain - sampled * (price + slash * stake + dispute)
    bribes = fishermen * least * slash * stake
    assert bribes == pytest.approx(max(left, 0), rel=1e-9, abs=1e-9)
    # The rule of thumb, and where it stops being enough.
    if gain <= slash * stake + sampled * (price + slash * stake + dispute):
        assert least <= 1 / fishermen + 1e-12
    else:
        assert least > 1 / fishermen - 1e-12


def test_most_reward_share_where_nothing_is_needed():
    terms = {"price_usd": 5.0, "stake_usd": 1.0, "slash_fraction": 0.0, "dispute_cost_usd": 0.0, "detection": 0.5}
    assert eco.most_reward_share(gain_usd=1.0, **terms) == 1.0
    assert eco.most_reward_share(gain_usd=0.0, **{**terms, "detection": 0.0}) == 1.0
    assert eco.most_reward_share(gain_usd=9.0, **terms) == -np.inf


def test_self_report_loss_by_hand():
    loss = eco.self_report_loss(stake_usd=100.0, slash_fraction=0.5, reward_share=0.3, dispute_cost_usd=2.0)
    assert loss == pytest.approx(50.0 - 15.0 + 2.0)
    assert eco.outage_cost(rho=0.5, outage=0.5, timeout_loss_usd=8.0) == 2.0


def test_challenge_bond_and_griefing_are_inverse():
    bond = eco.least_challenge_bond(defender_cost_usd=5.0, move_cost_usd=1.0, ratio=10.0)
    assert bond == 49.0
    assert eco.griefing_factor(defender_cost_usd=5.0, bond_usd=bond, move_cost_usd=1.0) == pytest.approx(0.1)
    assert eco.least_challenge_bond(defender_cost_usd=5.0, move_cost_usd=1.0) == 49.0  # the default ratio is 10
    assert eco.least_challenge_bond(defender_cost_usd=0.01, move_cost_usd=1.0) == 0.0
    assert eco.griefing_factor(defender_cost_usd=5.0, bond_usd=0.0, move_cost_usd=0.0) == np.inf
    assert eco.griefing_factor(defender_cost_usd=0.0, bond_usd=0.0, move_cost_usd=0.0) == 0.0


def test_least_price_leaves_an_honest_operator_nothing():
    terms = {
        "honest_cost_usd": 0.4, "attestation_cost_usd": 0.02, "rho": 0.05, "proof_cost_usd": 2.0, "outage": 0.01,
        "timeout_loss_usd": 30.0, "stake_usd": 50.0, "capital_cost_usd": 1e-3,
    }  # fmt: skip
    price = eco.least_price(**terms)
    draws, n = np.random.default_rng(8), 400_000
    sampled, down = draws.random(n) < 0.05, draws.random(n) < 0.01
    profit = price - 0.42 - sampled * 2.0 - (sampled & down) * 30.0 - 50.0 * 1e-3
    assert abs(profit.mean()) < 2.576 * profit.std() / np.sqrt(n)
    for name, value in terms.items():
        more = {**terms, name: min(value * 1.5, 1.0) if name in ("rho", "outage") else value * 1.5}
        assert eco.least_price(**more) > price, name


def test_bad_input_names_the_field():
    with pytest.raises(ParameterError, match="ratio"):
        eco.least_challenge_bond(defender_cost_usd=1.0, move_cost_usd=0.0, ratio=0.0)
    with pytest.raises(ParameterError, match="fishermen"):
        eco.least_bribe_proof_share(
            gain_usd=1, price_usd=1, stake_usd=1, slash_fraction=1, dispute_cost_usd=0, sampled_detection=0.1,
            fishermen=0,
        )  # fmt: skip
    with pytest.raises(ParameterError, match="outage"):
        eco.outage_cost(rho=0.1, outage=1.5, timeout_loss_usd=1.0)
