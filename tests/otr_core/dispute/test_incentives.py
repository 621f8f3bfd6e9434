"""Who is paid, who is frozen and what it costs to be a false friend: the strategies of an operator
that is caught, each of which brought it money once (production_rules.md, section 2.3, A to G)."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import MOST_REPAID, ChallengeStatus
from otr_core.dispute.state import SEED
from otr_core.lane import program as pr
from otr_core.poea.receipt import SignedReceipt
from otr_node.run import Run
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, OPERATOR, OTHER, REGISTRAR, registered_model
from otr_paper.labs.disputes.world import START, TERMS, random_tamper, tiny, tiny_signed
from otr_paper.studies import dispute_costs
from tests.helpers.tiny_disputes import (
    SALT,
    batch_of,
    challenged,
    id_of,
    opened,
    opening_of,
    refused,
    root_of,
    tiny_court,
)

SYBIL = f"0x{0xB1:040x}"
"""The operator's own fisherman."""
SLASHED = 3 * TERMS.least_stake_wei * TERMS.slash_bps // 10_000
REWARD = SLASHED * TERMS.reward_bps // 10_000


def false_run() -> Run:
    return tiny().run(replace(random_tamper(tiny(), Random(8), pr.LayerOperator.OUTPUT), delta=2**20))


def lie() -> SignedReceipt:
    """A receipt about false states, by the registered key."""
    return tiny_signed(false_run())


def poison(number: int = 0) -> SignedReceipt:
    """A receipt by a key that nobody has registered: it convicts within one call."""
    return tiny_signed(tiny().honest, key_id=bytes([200 + number]) * 32)


def both_committed() -> tuple[Court, list[SignedReceipt], list[SignedReceipt]]:
    """A batch with a lie in it, and the operator's own decoy in another."""
    false, decoy = [lie()], [poison()]
    return batch_of(batch_of(tiny_court(tiny()), *false), *decoy, now=START + 2), false, decoy


def silent(court: Court, number: int, now: int) -> tuple[Court, int]:
    """The side to move says nothing until its clock has run out."""
    challenge = court.challenges[number - 1]
    assert challenge.game is not None
    now = max(now, challenge.last_time + challenge.left_s[challenge.game.turn] + 1)
    return court.timeout(now, number), now


def wealth(court: Court, *who: str) -> int:
    """What these hold in the court: stakes, credits, and bonds that are not lost."""
    bonded = (ChallengeStatus.COMMITTED, ChallengeStatus.OPEN, ChallengeStatus.DEMAND)
    bonds = sum(c.challenger in who and c.status in bonded for c in court.challenges)
    stakes = sum(court.operators[name].stake_wei for name in who if name in court.operators)
    return stakes + sum(court.credits.get(name, 0) for name in who) + bonds * court.terms.bond_wei


# --- the decoy: the operator convicts itself while the honest game is played


def test_a_decoy_that_convicts_first_takes_nothing_of_what_the_earlier_challenge_earns():
    """H8: the honest fisherman commits and opens, the operator's Sybil convicts on a poison receipt
    twelve seconds later; the honest game is played to its end, and paid."""
    court, false, decoy = both_committed()
    court = opened(challenged(court, FISHERMAN, START + 5, false), FISHERMAN, 1, START + 6, false)
    court = opened(challenged(court, SYBIL, START + 7, decoy), SYBIL, 2, START + 18, decoy)
    assert court.operators[OPERATOR].convicted
    refused("early", court.pay_reward, START + 19, OPERATOR)
    refused("frozen", court.pay_reward, START + 19 + TERMS.claim_s, OPERATOR)
    court, log = play(court, 1, HonestOperator(false_run()), HonestChallenger(tiny().honest), now=START + 19)
    assert court.challenges[0].status == ChallengeStatus.WON
    court = court.pay_reward(max(log[-1].now, START + 19 + TERMS.claim_s), OPERATOR)
    assert court.credits[FISHERMAN] == TERMS.bond_wei + REWARD
    assert court.credits[SYBIL] == TERMS.bond_wei + TERMS.cost_wei


def test_silence_after_a_decoy_does_not_help_either():
    court, false, decoy = both_committed()
    court = opened(challenged(court, FISHERMAN, START + 5, false), FISHERMAN, 1, START + 6, false)
    court = opened(challenged(court, SYBIL, START + 7, decoy), SYBIL, 2, START + 8, decoy)
    court, now = silent(court, 1, START + 8)
    court = court.pay_reward(now, OPERATOR)
    assert court.credits[FISHERMAN] == TERMS.bond_wei + REWARD


def test_who_has_committed_may_open_after_the_conviction_and_be_paid():
    """Whoever convicts in between, and however quickly: only the order of commitments counts."""
    court, false, decoy = both_committed()
    court = challenged(challenged(court, FISHERMAN, START + 5, false), SYBIL, START + 6, decoy)
    court = opened(court, SYBIL, 2, START + 7, decoy)
    refused("void", opened, challenged(court, OTHER, START + 8, false), OTHER, 3, START + 9, false)
    court, now = silent(opened(court, FISHERMAN, 1, START + 5 + TERMS.reveal_s, false), 1, START)
    assert court.pay_reward(now, OPERATOR).credits[FISHERMAN] == TERMS.bond_wei + REWARD


def test_a_later_challenge_that_is_right_costs_nothing_and_earns_no_reward():
    court, false, decoy = both_committed()
    court = challenged(challenged(court, SYBIL, START + 5, decoy), FISHERMAN, START + 6, false)
    court = opened(opened(court, FISHERMAN, 2, START + 7, false), SYBIL, 1, START + 8, decoy)
    court, now = silent(court, 2, START + 9)
    court = court.pay_reward(now, OPERATOR)
    assert court.credits == {SYBIL: TERMS.bond_wei + REWARD, FISHERMAN: TERMS.bond_wei + TERMS.cost_wei}
    # the guarantee's bound: convicting itself costs (1 - α)σS, to the wei, whatever it does about others
    assert 3 * TERMS.least_stake_wei + TERMS.bond_wei - wealth(court, OPERATOR, SYBIL) == SLASHED - REWARD


def test_the_reserve_for_costs_is_bounded_and_the_rest_of_it_burnt():
    """Farming it with decoys of one's own brings MOST_REPAID times the costs, and no more."""
    decoys = [poison(number) for number in range(MOST_REPAID + 3)]
    court = batch_of(tiny_court(tiny()), *decoys)
    before = wealth(court, OPERATOR, SYBIL)
    for index in range(len(decoys)):
        court = challenged(court, SYBIL, START + 5, decoys, index)
    before += TERMS.bond_wei * len(decoys)
    for index in range(len(decoys)):
        court = opened(court, SYBIL, index + 1, START + 6, decoys, index)
    court = court.pay_reward(START + 7 + TERMS.claim_s, OPERATOR)
    assert before - wealth(court, OPERATOR, SYBIL) == SLASHED - REWARD - MOST_REPAID * TERMS.cost_wei
    assert court.burnt_wei == SLASHED - REWARD - MOST_REPAID * TERMS.cost_wei


# --- the parked challenge


def test_a_parked_challenge_freezes_the_operator_that_it_insures():
    court, false, _ = both_committed()
    court = opened(challenged(court, SYBIL, START + 5, false), SYBIL, 1, START + 6, false)
    refused("frozen", court.commit_batch, START + 7, OPERATOR, bytes(32), 1)
    over = START + 3 + TERMS.window_s + TERMS.reveal_s
    refused("frozen", court.finalise, over, id_of(*false))


@pytest.mark.parametrize("terms", [TERMS, dispute_costs.TERMS])
def test_an_unopened_one_costs_a_bond_each_time_and_more_than_the_reward_over_a_window(terms):
    """Standing insurance: a commitment lives reveal_s, and its bond is burnt whole."""
    court, now, bonds = tiny_court(tiny(), terms), START, 0
    while now <= START + terms.window_s:
        court = court.challenge(now, SYBIL, SALT, terms.bond_wei)
        bonds, now = bonds + 1, now + terms.reveal_s + 1
        court = court.expire(now, bonds)
    reward = terms.least_stake_wei * terms.slash_bps * terms.reward_bps // 10_000**2
    assert court.burnt_wei == bonds * terms.bond_wei > reward
    assert wealth(court, SYBIL) == 0


def test_a_parked_challenge_that_is_lost_in_the_end_takes_nothing():
    """Parked on an honest answer before the lie is caught: should its game be lost, so is its bond."""
    court, false, _ = both_committed()
    honest = [tiny_signed(tiny().honest)]
    court = batch_of(court, *honest, now=START + 3)
    court = opened(challenged(court, SYBIL, START + 4, honest), SYBIL, 1, START + 5, honest)
    court = opened(challenged(court, FISHERMAN, START + 6, false), FISHERMAN, 2, START + 7, false)
    shown = HonestOperator(tiny().honest).children(court.challenges[0].game)
    court = court.move(START + 8, OPERATOR, 1, "bisect", shown)
    court, now = silent(court, 2, START + 8)
    refused("frozen", court.pay_reward, now + TERMS.claim_s + 1, OPERATOR)
    court, now = silent(court, 1, now)
    assert court.challenges[0].status == ChallengeStatus.LOST
    court = court.pay_reward(now + TERMS.claim_s, OPERATOR)
    assert court.credits == {FISHERMAN: TERMS.bond_wei + REWARD, OPERATOR: TERMS.bond_wei // 2}


def test_giving_up_is_the_challengers_alone_and_claims_nothing():
    """Anyone's close() on an earlier challenge barred its owner once."""
    court, false, decoy = both_committed()
    court = opened(challenged(court, FISHERMAN, START + 5, false), FISHERMAN, 1, START + 6, false)
    refused("over", court.close, FISHERMAN, 1)
    court = opened(challenged(court, SYBIL, START + 7, decoy), SYBIL, 2, START + 8, decoy)
    for who in (SYBIL, OPERATOR, OTHER):
        refused("sender", court.close, who, 1)
    refused("challenge", court.close, FISHERMAN, 3)
    closed = court.close(FISHERMAN, 1)
    assert closed.challenges[0].status == ChallengeStatus.MOOT
    refused("over", closed.close, FISHERMAN, 1)
    refused("over", closed.move, START + 9, OPERATOR, 1, "bisect", ())
    refused("over", closed.timeout, START + 10**5, 1)
    paid = closed.pay_reward(START + 9 + TERMS.claim_s, OPERATOR)
    assert paid.credits == {FISHERMAN: TERMS.bond_wei, SYBIL: TERMS.bond_wei + REWARD}


# --- A: nothing can be seen, nothing can be copied


def test_a_commitment_names_neither_batch_nor_operator():
    """A: two challenges of different operators' answers differ in nothing but the hash."""
    court, false, decoy = both_committed()
    court = challenged(challenged(court, FISHERMAN, START + 5, false), FISHERMAN, START + 5, decoy)
    one, two = court.challenges
    assert replace(one, commitment=two.commitment) == two
    assert court.operators[OPERATOR].open_games == 0


def test_a_copied_commitment_opens_for_nobody_else():
    court, false, _ = both_committed()
    court = challenged(court, FISHERMAN, START + 5, false)
    court = court.challenge(START + 6, SYBIL, court.challenges[0].commitment, TERMS.bond_wei)
    refused("commitment", court.open, START + 7, SYBIL, 2, **opening_of(false))


def test_a_front_runner_with_a_challenge_of_every_index_claims_nothing_as_moot():
    """It had committed for every index of a batch that it saw challenged, and opened after the
    conviction; now it does not see it, and has to be right."""
    court, false, _ = both_committed()
    court = challenged(court, FISHERMAN, START + 5, false)
    court = challenged(court, SYBIL, START + 6, false)
    court = opened(court, FISHERMAN, 1, START + 7, false)
    court, now = silent(court, 1, START + 8)
    refused("late", opened, court, SYBIL, 2, now, false)
    court = court.expire(now, 2)
    assert court.pay_reward(now + TERMS.claim_s + 1, OPERATOR).credits == {FISHERMAN: TERMS.bond_wei + REWARD}


# --- B to G


def test_a_stranger_with_one_wei_keeps_no_customer_from_paying():
    court, false, _ = both_committed()
    batch = id_of(*false)
    court = court.escrow(START + 3, OTHER, batch, 1).escrow(START + 4, CLIENT, batch, 10**18)
    court = opened(challenged(court, FISHERMAN, START + 5, false), FISHERMAN, 1, START + 6, false)
    court, _ = silent(court, 1, START + 7)
    assert court.refund(CLIENT, batch).credits[CLIENT] == 10**18


def test_a_models_judge_is_never_replaced():
    """C: an honest operator's committed answer was convicted so."""
    court = tiny_court(tiny())
    model_id = tiny().order.model_id
    other = replace(registered_model(tiny().trees), weights_root=bytes(32))
    refused("model", court.register_model, REGISTRAR, model_id, other)


def test_batches_that_change_places_are_challenged_as_before():
    """E: after a re-organisation the operator's two batches come in the other order."""
    false, decoy = [lie()], [poison()]
    for order in ((false, decoy), (decoy, false)):
        court = batch_of(batch_of(tiny_court(tiny()), *order[0]), *order[1])
        court = challenged(court, FISHERMAN, START + 5, false)
        court = opened(court, FISHERMAN, 1, START + 6, false)
        assert court.challenges[0].batch == id_of(*false)
        assert court.challenges[0].status == ChallengeStatus.OPEN


def test_no_more_is_in_flight_than_the_stake_stands_for():
    """G: a million ether became final against a stake of three."""
    court, false, _ = both_committed()
    refused("cap", court.escrow, START + 3, CLIENT, id_of(*false), 10**24)


# --- freeze


def test_nothing_becomes_final_while_another_batch_is_disputed():
    """Batch 1 was paid while batch 0 was in dispute."""
    court, false, decoy = both_committed()
    court = opened(challenged(court, FISHERMAN, START + 5, decoy), FISHERMAN, 1, START + 6, decoy)
    refused("void", court.finalise, START + 10**6, id_of(*false))
    honest = [tiny_signed(tiny().honest)]
    court = batch_of(batch_of(tiny_court(tiny()), *honest), lie(), now=START + 2).escrow(START, CLIENT, id_of(lie()), 9)
    last = START + 1 + TERMS.window_s
    court = opened(challenged(court, FISHERMAN, last, honest), FISHERMAN, 1, last + TERMS.reveal_s, honest)
    refused("frozen", court.finalise, last + 2 * TERMS.reveal_s, id_of(lie()))
    refused("frozen", court.commit_batch, last + TERMS.reveal_s, OPERATOR, b"n" * 32, 1)
    moved = court.move(last + TERMS.reveal_s + 1, OPERATOR, 1, "bisect", HonestOperator(tiny().honest).children(
        court.challenges[0].game))  # fmt: skip
    thawed, now = silent(moved, 1, last)
    assert thawed.challenges[0].status == ChallengeStatus.LOST
    assert thawed.commit_batch(now, OPERATOR, b"n" * 32, 1).finalise(now, id_of(lie())).credits[OPERATOR] > 9


def test_a_griefer_pays_more_than_the_operator_for_each_freeze_and_it_ends():
    """Half its bond goes to the operator, and it holds it up for its own clock at most."""
    honest = [tiny_signed(tiny().honest)]
    court = batch_of(tiny_court(tiny()), *honest)
    court = opened(challenged(court, OTHER, START + 2, honest), OTHER, 1, START + 3, honest)
    game = court.challenges[0].game
    court = court.move(START + 4, OPERATOR, 1, "bisect", HonestOperator(tiny().honest).children(game))
    thawed, now = silent(court, 1, START)
    assert now - START <= 5 + TERMS.clock_s
    assert thawed.credits == {OPERATOR: TERMS.bond_wei * TERMS.compensation_bps // 10_000}
    assert thawed.operators[OPERATOR].live_games == thawed.operators[OPERATOR].open_games == 0


def test_a_commitment_that_was_never_opened_freezes_nobody():
    honest = [tiny_signed(tiny().honest)]
    court = challenged(batch_of(tiny_court(tiny()), *honest), OTHER, START + 2, honest)
    court.commit_batch(START + 3, OPERATOR, b"n" * 32, 1)


def test_an_order_for_two_batches_of_two_operators_is_not_mixed_up():
    """The commitment holds the author: the same root of another operator is another batch."""
    court, false, _ = both_committed()
    court = court.register(START, OTHER, TERMS.least_stake_wei)
    court = court.commit_batch(START + 3, OTHER, root_of(*false), 1)
    theirs = batch_id(OTHER, root_of(*false))
    court = court.challenge(START + 4, FISHERMAN, challenge_hash(FISHERMAN, theirs, 0, 0, SALT), TERMS.bond_wei)
    court = court.open(START + 5, FISHERMAN, 1, **opening_of(false) | {"batch": theirs})
    # it is the operator's receipt, whose key is not the other's: who has sold it in its batch is convicted
    assert court.operators[OTHER].convicted
    assert not court.operators[OPERATOR].convicted


def test_asking_for_the_seed_holds_up_payment_and_no_business_until_something_is_disputed():
    """Who only asks may take it back at no cost: it must not be able to freeze an operator so."""
    honest = [tiny_signed(tiny().honest)]
    court = challenged(batch_of(tiny_court(tiny()), *honest), OTHER, START + 2, honest, token=SEED)
    court = court.open(START + 3, OTHER, 1, **opening_of(honest, token=SEED))
    court = court.commit_batch(START + 4, OPERATOR, b"n" * 32, 1)
    refused("frozen", court.finalise, START + 2 + TERMS.window_s + TERMS.reveal_s, id_of(*honest))
    court = court.move(START + 5, OPERATOR, 1, "reveal_seed", tiny().honest.seed)
    court.commit_batch(START + 6, OPERATOR, b"o" * 32, 1)
    back = court.move(START + 6, OTHER, 1, "retract")
    assert back.credits == {OTHER: TERMS.bond_wei}
    assert (back.operators[OPERATOR].open_games, back.operators[OPERATOR].live_games) == (0, 0)
    court = court.move(START + 6, OTHER, 1, "dispute", 0)
    refused("frozen", court.commit_batch, START + 7, OPERATOR, b"o" * 32, 1)
    ended, _ = silent(court, 1, START + 7)
    assert (ended.operators[OPERATOR].open_games, ended.operators[OPERATOR].live_games) == (0, 0)
