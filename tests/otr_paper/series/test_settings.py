"""Published settings: what the formulas ask for, by hand."""

from __future__ import annotations

import math

import pytest

from otr_core.economics.honesty import watched_share
from otr_core.errors import PremiseError
from otr_paper.claims.published import load_published
from otr_paper.series.settings import published_settings


@pytest.fixture(scope="module")
def rows(project):
    return {(row["system"], row["setting"].split()[0]): row for row in published_settings(load_published(project.data))}


def test_pockets_penalty_and_rate_by_hand(rows):
    assert rows["Pocket Network", "penalty"]["computed"] == pytest.approx(20 / 0.25 - 20)  # the claim is lost besides
    assert rows["Pocket Network", "penalty"]["factor"] == pytest.approx(320 / 60)
    assert rows["Pocket Network", "share"]["computed"] == pytest.approx(20 / 340)
    failures = rows["Pocket Network", "failures"]
    assert (failures["stated"], failures["computed"]) == (16, math.ceil(math.log(0.01) / math.log(0.75)))
    assert 1 - 0.75**16 < 0.99 <= 1 - 0.75**17


def test_sampling_and_attention(rows):
    posp = rows["PoSP", "share"]
    assert posp["factor"] == pytest.approx(1.0)
    assert f"{1 / (0.9 * 0.01):.0f} times" in posp["reason"]
    rat = rows["RAT", "penalty"]
    assert (rat["stated"], rat["computed"]) == (pytest.approx(10.0), pytest.approx(3.0))


@pytest.mark.parametrize("cost", [0.5, 3.0, 9.9])
def test_the_attention_challenge_is_hypothesis_h7(cost):
    """Felten and Mamageishvili: looking is dominant iff the chance of a challenge times its penalty exceeds
    the cost of a look."""
    terms = dict(fishermen=3, bought_share=0.0, look_chance=0.9, lost_usd=1000.0, reward_usd=0.0, gas_usd=0.0)
    assert watched_share(tested=1.001 * cost / 1000, check_cost_usd=cost, **terms) == pytest.approx(0.999)
    with pytest.raises(PremiseError):
        watched_share(tested=0.999 * cost / 1000, check_cost_usd=cost, **terms)


def test_bonds_of_the_dispute_game(rows):
    bonds = rows["OP dispute game", "gas"]
    assert bonds["factor"] > 100
    assert "691 ETH" in bonds["reason"]


def test_collateral_that_repays_a_proof(rows):
    kailua = rows["Kailua", "collateral"]
    assert (kailua["computed"], kailua["factor"]) == (100, pytest.approx(3.0))  # a bounty for who always finds
