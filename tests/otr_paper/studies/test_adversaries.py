"""Classes of adversaries differ as they must; what a break earns, against its recursion."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.economics.guarantee import attack_profit
from otr_core.economics.model import AnswerValue, Bond, Watch
from otr_core.errors import ParameterError
from otr_paper.studies import adversaries


def outcomes_by_name(**changes):
    terms = {
        "answer": AnswerValue(price_usd=0.5, honest_cost_usd=0.4, cheat_cost_usd=0.1),
        "bond": Bond(stake_usd=100.0, slash_fraction=0.5, reward_share=0.6),
        "watch": Watch(rho=0.01, fishermen=3),
        "someone_checks": 0.1, "attestation": 0.999, "until_patch": 50, "pending": 4, "identities": 20,
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
    # the caught answer and four more until its verdict are served as well, and never become final
    assert permanent.served == pytest.approx(permanent.undetected + 1 + 4)
    assert patched.undetected < patched.served < permanent.served
    assert clones.total_served == pytest.approx(20 * permanent.served)
    assert found[adversaries.GENERATION].total_undetected == clones.total_undetected


def test_a_large_outside_gain_undoes_deterrence_for_all_with_a_break():
    rich = AnswerValue(price_usd=0.5, honest_cost_usd=0.4, cheat_cost_usd=0.1, outside_gain_usd=10.0)
    found = outcomes_by_name(answer=rich)
    assert found[adversaries.RATIONAL].deterred
    assert not any(outcome.deterred for name, outcome in found.items() if name != adversaries.RATIONAL)


def test_unknown_adversary_is_refused():
    with pytest.raises(ParameterError, match="adversary"):
        adversaries.outcome(
            "lazy", answer=AnswerValue(price_usd=1, honest_cost_usd=1, cheat_cost_usd=0),
            bond=Bond(stake_usd=1, slash_fraction=1), watch=Watch(rho=0.1), someone_checks=0.0,
            attestation=1.0, until_patch=1.0, pending=0, identities=1,
        )  # fmt: skip


def test_the_gate_stops_what_passes_behind_it():
    # 1 - 0.99 * 0.9 behind it
    for gate, caught in ((0.0, 0.109), (0.5, 1 - 0.5 * 0.891), (1.0, 1.0)):
        found = outcomes_by_name(attestation=gate)[adversaries.RATIONAL]
        assert found.detection == pytest.approx(caught)
        # One try: behind the gate the attack goes on as with a break, at the gate the answer is unpaid.
        beyond = outcomes_by_name()[adversaries.PERMANENT]
        assert found.profit_usd == pytest.approx((1 - gate) * beyond.profit_usd - gate * (0.5 - 0.3))
        assert found.undetected == pytest.approx((1 - gate) * beyond.undetected)
    with pytest.raises(ParameterError, match="attestation"):
        outcomes_by_name(attestation=1.5)


def test_no_class_is_deterred_by_what_its_own_fisherman_brings_back():
    """Only the class that colludes with strangers had the catcher's share taken off: an own fisherman
    needs no collusion."""
    for share in (0.3, 1.0):
        bond = Bond(stake_usd=100.0, slash_fraction=0.5, reward_share=share, dispute_cost_usd=2.0)
        loss = 50.0 * (1 - share) + 2.0
        for found in outcomes_by_name(bond=bond, attestation=0.0).values():
            turns = 50 if found.adversary == adversaries.BREAK else np.inf
            terms = {"gain_usd": 0.3, "price_usd": 0.5, "loss_usd": loss, "detection": found.detection}
            assert found.profit_usd == pytest.approx(attack_profit(**terms, attempts=turns, pending=4))
            pays = found.detection * (0.5 + loss) < 0.3
            assert found.deterred == (not pays and found.adversary != adversaries.MALICIOUS)


def test_what_is_in_flight_can_undo_what_deters_one_answer():
    answer = AnswerValue(price_usd=0.5, honest_cost_usd=0.4, cheat_cost_usd=0.1, outside_gain_usd=1.7)
    for pending, deterred in ((0, True), (40, False)):
        found = outcomes_by_name(answer=answer, pending=pending)[adversaries.PERMANENT]
        assert found.deterred == deterred
        assert (found.profit_usd < 0) == deterred
