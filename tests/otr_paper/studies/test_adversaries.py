"""Classes of adversaries differ as they must; what a break earns, against its recursion."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.errors import ParameterError
from otr_paper.studies import adversaries


def test_break_profit_by_recursion():
    def recursive(turns, *, gain_usd, price_usd, loss_usd, detection, discount):
        value = 0.0
        for _ in range(turns):
            value = gain_usd - detection * (price_usd + loss_usd) + discount * (1 - detection) * value
        return value

    for turns, detection, discount in [
        (1, 0.3, 1.0),
        (50, 0.02, 0.97),
        (400, 0.001, 1.0),
        (7, 1.0, 0.5),
        (0, 0.1, 1.0),
    ]:
        terms = {"gain_usd": 0.4, "price_usd": 0.5, "loss_usd": 2.0, "detection": detection, "discount": discount}
        assert adversaries.break_profit(attempts=turns, **terms) == pytest.approx(recursive(turns, **terms), abs=1e-12)


def test_patch_time_never_changes_the_sign():
    turns = np.array([1.0, 10.0, 1e4, np.inf])
    for loss, sign in ((20.0, -1), (2.0, 1)):
        profit = adversaries.break_profit(gain_usd=0.1, price_usd=0.1, loss_usd=loss, detection=0.01, attempts=turns)
        assert (np.sign(profit) == sign).all()
        assert (np.diff(np.abs(profit)) >= 0).all()
        assert abs(profit[2]) > 50 * abs(profit[0])
    assert adversaries.break_profit(gain_usd=1, price_usd=0, loss_usd=1, detection=0.0, attempts=np.inf) == np.inf
    assert adversaries.break_profit(
        gain_usd=1, price_usd=0, loss_usd=0, detection=1.0, attempts=5, attack_cost_usd=3
    ) == pytest.approx(-2)
    assert adversaries.break_profit(gain_usd=0, price_usd=0, loss_usd=0, detection=0, attempts=np.inf) == 0.0


def outcomes_by_name(**changes):
    terms = {
        "answer": eco.AnswerValue(price_usd=0.5, honest_cost_usd=0.4, cheat_cost_usd=0.1),
        "bond": eco.Bond(stake_usd=100.0, slash_fraction=0.5, reward_share=0.9),
        "watch": eco.Watch(rho=0.01, fishermen=3),
        "someone_checks": 0.1, "attestation": 0.999, "until_patch": 50, "identities": 20,
    }  # fmt: skip
    return {found.adversary: found for found in adversaries.outcomes(**{**terms, **changes})}


def test_adversary_classes_differ_as_they_must():
    found = outcomes_by_name()
    assert list(found) == list(adversaries.CLASSES)
    rational, patched = found[adversaries.RATIONAL], found[adversaries.BREAK]
    assert rational.detection > 0.999 > patched.detection == pytest.approx(1 - 0.99 * 0.9)
    assert patched.deterred
    assert patched.undetected < found[adversaries.PERMANENT].undetected
    clones, permanent = found[adversaries.CLONES], found[adversaries.PERMANENT]
    assert clones.total_undetected == pytest.approx(20 * permanent.total_undetected)
    assert clones.profit_usd == permanent.profit_usd
    assert permanent.total_undetected == permanent.undetected == pytest.approx(0.99 * 0.9 / (1 - 0.99 * 0.9))
    colluding = found[adversaries.COLLUDING]
    assert colluding.detection == 0.01
    assert not colluding.deterred
    assert colluding.profit_usd > 0 > permanent.profit_usd
    malicious = found[adversaries.MALICIOUS]
    assert not malicious.deterred
    assert malicious.undetected == permanent.undetected
    assert found[adversaries.GENERATION].total_undetected == clones.total_undetected


def test_a_large_outside_gain_undoes_deterrence_for_all_with_a_break():
    rich = eco.AnswerValue(price_usd=0.5, honest_cost_usd=0.4, cheat_cost_usd=0.1, outside_gain_usd=10.0)
    found = outcomes_by_name(answer=rich)
    assert found[adversaries.RATIONAL].deterred
    assert not any(outcome.deterred for name, outcome in found.items() if name != adversaries.RATIONAL)


def test_unknown_adversary_is_refused():
    with pytest.raises(ParameterError, match="adversary"):
        adversaries.outcome(
            "lazy", answer=eco.AnswerValue(price_usd=1, honest_cost_usd=1, cheat_cost_usd=0),
            bond=eco.Bond(stake_usd=1, slash_fraction=1), watch=eco.Watch(rho=0.1), someone_checks=0.0,
            attestation=1.0, until_patch=1.0, identities=1,
        )  # fmt: skip


def test_the_gate_stops_what_passes_behind_it():
    # 1 - 0.99 * 0.9 behind it
    for gate, caught in ((0.0, 0.109), (0.5, 1 - 0.5 * 0.891), (1.0, 1.0)):
        found = outcomes_by_name(attestation=gate)[adversaries.RATIONAL]
        assert found.detection == pytest.approx(caught)
    with pytest.raises(ParameterError, match="attestation"):
        outcomes_by_name(attestation=1.5)


def test_colluding_fishermen_return_their_reward():
    bond = eco.Bond(stake_usd=100.0, slash_fraction=0.5, reward_share=0.3, dispute_cost_usd=2.0)
    found = outcomes_by_name(bond=bond)[adversaries.COLLUDING]
    loss = 50.0 - 15.0 + 2.0  # the slash without the reward, and the dispute
    terms = {"gain_usd": 0.3, "price_usd": 0.5, "loss_usd": loss, "detection": 0.01, "attempts": np.inf}
    assert found.profit_usd == pytest.approx(adversaries.break_profit(**terms))
