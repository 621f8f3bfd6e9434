"""Whatever a coalition of operator, own fisherman and own client calls, in whatever order: money is
conserved, it loses what the guarantee says, and who is honest loses nothing but gas."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from otr_core import merkle
from otr_core.dispute.records import BASIS, MOST_REPAID, ChallengeStatus
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, OPERATOR
from otr_paper.labs.disputes.world import TERMS
from tests.helpers.coalition import (
    COALITION,
    PURSE_WEI,
    SYBIL,
    Fisherman,
    Scene,
    commitment,
    id_of_batch,
    leaves_of,
    new_scene,
    open_call,
    play_out,
    receipts,
)


def commits(*content: str):
    """The operator commits to a batch."""

    def make(scene: Scene, random: Random) -> None:
        root = merkle.root(leaves_of(content))
        scene.call("commit_batch", OPERATOR, lambda c: c.commit_batch(scene.now, OPERATOR, root, len(content)))

    return make


def insures(content: tuple[str, ...], index: int):
    """The Sybil commits to a challenge."""

    def make(scene: Scene, random: Random) -> None:
        hidden = commitment(SYBIL, content, index)
        scene.call("challenge", SYBIL, lambda c: c.challenge(scene.now, SYBIL, hidden, TERMS.bond_wei), TERMS.bond_wei)

    return make


def opens(number: int, content: tuple[str, ...], index: int):
    """The Sybil opens it."""

    def make(scene: Scene, random: Random) -> None:
        if number <= len(scene.court.challenges):
            scene.call("open", SYBIL, open_call(scene, number, content, index))

    return make


def times_out(number: int):
    """The operator lets a game go."""

    def make(scene: Scene, random: Random) -> None:
        scene.now += TERMS.clock_s + 1
        scene.call("timeout", SYBIL, lambda c: c.timeout(scene.now, number))

    return make


def demands(name: str):
    """The Sybil demands a receipt that the operator has signed."""

    def make(scene: Scene, random: Random) -> None:
        signed, bond = receipts()[name], TERMS.bond_wei
        shown = OPERATOR, signed.receipt, signed.signature, bond
        scene.call("demand", SYBIL, lambda c: c.demand(scene.now, SYBIL, *shown), bond)

    return make


POISON, LIE, HONEST = ("poison",), ("lie",), ("honest",)
MIXED, FARM = ("honest", "lie"), ("second", "poison", "poison", "poison")
STRATEGIES = {
    "nothing": (),
    "a lie": (commits(*LIE),),
    "a decoy ready, opened after the honest challenge": (
        commits(*POISON), commits(*LIE), insures(POISON, 0), opens(2, POISON, 0)),
    "insured before the lie": (commits(*POISON), insures(POISON, 0), commits(*LIE), opens(1, POISON, 0)),
    "parked on an honest answer": (
        commits(*HONEST), commits(*LIE), insures(HONEST, 0), opens(1, HONEST, 0), opens(2, HONEST, 0)),
    "a copy of the challenge": (commits(*LIE), insures(LIE, 0), opens(2, LIE, 0)),
    "first on its own lie": (commits(*MIXED), insures(MIXED, 1), commits(*LIE), opens(1, MIXED, 1)),
    "lets a parked game go": (
        commits(*HONEST), insures(HONEST, 0), commits(*LIE), opens(1, HONEST, 0), times_out(1)),
    "a demand kept open": (demands("second"), commits(*LIE)),
    "a withheld lie": (demands("lie"),),
    "a receipt in two batches": (commits(*HONEST), commits("honest", "honest"), commits(*LIE)),
    "farms the costs": (commits(*FARM), *(insures(FARM, 1 + n % 3) for n in range(12)), commits(*LIE)),
}  # fmt: skip


def check(scene: Scene, fisherman: Fisherman, total: int) -> None:
    court, operator = scene.court, scene.court.operators[OPERATOR]
    assert scene.total_wei == total
    bonded = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN, ChallengeStatus.DEMAND, ChallengeStatus.SPOT)
    assert not any(challenge.status in bonded for challenge in court.challenges)
    assert (operator.open_games, operator.live_games, operator.reward_wei, operator.costs_wei) == (0, 0, 0, 0)
    # what is left in the court is owed, staked, or burnt
    owed = sum(court.credits.values()) + sum(each.stake_wei for each in court.operators.values())
    assert court.held_wei == owed + court.burnt_wei
    # the honest client is paid back, or has paid for a batch that became final
    paid = PURSE_WEI - scene.wealth(CLIENT)
    final = sum(wei for (batch, who), wei in court.payments.items() if who == CLIENT and court.batches[batch].closed)
    assert paid == final
    # the coalition: never more than it has been paid, and after a conviction what the guarantee says less
    start = 3 * PURSE_WEI + 3 * TERMS.least_stake_wei
    loss = start + final - scene.wealth(*COALITION)
    reward = scene.slashed_wei * TERMS.reward_bps // BASIS
    assert loss >= (scene.slashed_wei - reward - MOST_REPAID * TERMS.cost_wei if operator.convicted else 0)
    # the fisherman: every lie that it saw is convicted, no bond is lost, and it is paid, or its costs are
    statuses = {number: court.challenges[number - 1].status for number in fisherman.own}
    assert set(statuses.values()) <= {ChallengeStatus.WON}
    gain = scene.wealth(FISHERMAN) - PURSE_WEI
    right = sum(challenge.status == ChallengeStatus.WON for challenge in court.challenges)
    repaid = TERMS.cost_wei if right <= MOST_REPAID + 1 else 0
    if operator.best_game in fisherman.own:
        assert gain >= reward
    elif fisherman.own:
        assert gain >= repaid * len(fisherman.own)
    # a batch with a lie in it is never final
    assert not any(court.batches[id_of_batch(c)].closed for c, _ in fisherman.own.values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_gains_or_costs_the_honest_more_than_is_said(strategy):
    total = new_scene().total_wei
    for seed in range(15):
        scene, fisherman = play_out(seed, 12, STRATEGIES[strategy])
        check(scene, fisherman, total)


def test_no_random_sequence_does_and_every_call_and_reason_is_met():
    total, taken, refused, caught = new_scene().total_wei, Counter(), Counter(), 0
    for seed in range(400):
        scene, fisherman = play_out(1_000 + seed, opening=STRATEGIES["parked on an honest answer"] if seed < 60 else ())
        check(scene, fisherman, total)
        taken.update(scene.taken)
        refused.update(scene.refused)
        caught += any(fisherman.own)
    assert caught > 100
    calls = (
        "register commit_batch escrow finalise refund request_exit withdraw_stake challenge open expire timeout close"
    )
    calls += " pay_reward demand show publish_receipt lapse equivocation two_places summon attest arbitrate post_draw"
    missed = [name for name in calls.split() if not taken[name]]
    assert not missed
    reasons = "standing stake frozen batch escrow cap void early exit window challenge opened late commitment sender"
    reasons += " over game duty signature path place draw reward credit"
    assert not [reason for reason in reasons.split() if not refused[reason]]


def test_the_bound_is_met_by_who_convicts_itself_first():
    """(1 - α)σS less the bounded reserve: the best that any strategy above does."""
    scene, _ = play_out(3, 0, (commits(*POISON), insures(POISON, 0), opens(1, POISON, 0)))
    loss = 3 * PURSE_WEI + 3 * TERMS.least_stake_wei - scene.wealth(*COALITION)
    assert loss == scene.slashed_wei - scene.slashed_wei * TERMS.reward_bps // BASIS
