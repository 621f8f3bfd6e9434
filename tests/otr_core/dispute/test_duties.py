"""Withheld receipts, answers that the beacon draws, second answers, one receipt in two places: each
duty's exits, who pays for them, and each call that breaks a rule."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from otr_core import merkle
from otr_core.dispute.court import Court
from otr_core.dispute.duties import (
    TWO_ANSWERS,
    TWO_PLACES,
    LeafPlace,
    challenge_hash,
    is_drawn,
    spot_statement,
    spot_subject,
    two_keys,
)
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.registry import NOTICE_S
from otr_core.dispute.state import Verdict
from otr_core.errors import ParameterError
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.receipt import SignedReceipt, sign_receipt
from otr_node.chain.onchain import FIRST_COURT
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, KEY, KEY_ID, OPERATOR, OTHER, REGISTRAR, leaf_of
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from tests.helpers.tiny_disputes import (
    SALT,
    batch_of,
    challenged,
    id_of,
    opened,
    placed,
    refused,
    root_of,
    tiny_court,
)

SLASHED = 3 * TERMS.least_stake_wei * TERMS.slash_bps // 10_000
REWARD = SLASHED * TERMS.reward_bps // 10_000
FALSE = b"not the answer".ljust(32)


def honest() -> SignedReceipt:
    return tiny_signed(tiny().honest)


def another() -> SignedReceipt:
    """A second answer to the same order, by the same key."""
    return tiny_signed(tiny().honest, states_root=FALSE)


def demanded(court: Court, signed: SignedReceipt, now: int = START + 5, who: str = CLIENT) -> Court:
    return court.demand(now, who, OPERATOR, signed.receipt, signed.signature, court.terms.bond_wei)


# --- withheld receipts


def test_a_withheld_receipt_convicts_in_time_and_pays_who_demanded_it():
    """H3: a signed receipt that is committed nowhere met no check at all."""
    court = demanded(tiny_court(tiny()), honest())
    refused("early", court.lapse, START + 5 + TERMS.duty_s, 1)
    after = court.lapse(START + 6 + TERMS.duty_s, 1)
    assert (after.operators[OPERATOR].convicted, after.challenges[0].status) == (True, ChallengeStatus.WON)
    refused("duty", after.lapse, START + 7 + TERMS.duty_s, 1)
    paid = after.pay_reward(START + 7 + TERMS.duty_s + TERMS.claim_s, OPERATOR)
    assert paid.credits == {CLIENT: TERMS.bond_wei + REWARD}


def test_publishing_it_ends_the_demand_and_makes_it_challengeable():
    signed = another()
    court = demanded(tiny_court(tiny()), signed)
    refused("sender", court.publish_receipt, START + 6, OTHER, 1)
    court = court.publish_receipt(START + 6, OPERATOR, 1)
    assert court.credits == {CLIENT: TERMS.bond_wei}
    assert court.challenges[0].status == ChallengeStatus.MOOT
    refused("duty", court.publish_receipt, START + 7, OPERATOR, 1)
    court = opened(challenged(court, FISHERMAN, START + 8, [signed]), FISHERMAN, 1 + 1, START + 9, [signed])
    assert court.challenges[1].status == ChallengeStatus.OPEN


def test_a_receipt_is_published_even_by_a_frozen_and_leaving_operator():
    signed = another()
    court = batch_of(tiny_court(tiny()), honest()).request_exit(START + 2, OPERATOR)
    court = opened(challenged(court, FISHERMAN, START + 3, [honest()]), FISHERMAN, 1, START + 4, [honest()])
    refused("standing", court.commit_batch, START + 5, OPERATOR, bytes(32), 1)
    court = demanded(court, signed).publish_receipt(START + 6, OPERATOR, 2)
    assert id_of(signed) in court.batches


def test_what_was_committed_before_is_shown_and_costs_who_demanded_it():
    signed, others = honest(), another()
    court = demanded(batch_of(tiny_court(tiny()), others, signed), signed)
    path = merkle.inclusion_proof([leaf_of(others), leaf_of(signed)], 1)
    place = LeafPlace(id_of(others, signed), 1, tuple(path))
    for false in (placed(place, at=0), placed(place, path=()), placed(place, path=(bytes(32),))):
        refused("path", court.show, START + 6, 1, false)
    refused("batch", court.show, START + 6, 1, placed(place, batch=bytes(32)))
    shown = court.show(START + 7, 1, place)
    assert shown.credits == {OPERATOR: TERMS.bond_wei // 2}
    assert shown.challenges[0].status == ChallengeStatus.LOST
    refused("duty", shown.show, START + 8, 1, place)


def test_what_was_committed_after_the_demand_is_shown_at_no_ones_cost():
    court = batch_of(demanded(tiny_court(tiny()), honest()), honest(), now=START + 6)
    shown = court.show(START + 7, 1, LeafPlace(id_of(honest()), 0, ()))
    assert shown.credits == {CLIENT: TERMS.bond_wei}


def test_an_arbiter_of_one_key_twice_is_none():
    with pytest.raises(ParameterError, match="second"):
        two_keys(bytes(20), bytes(20))
    assert not two_keys(bytes(20), b"k" * 20)(bytes(32), bytes(130))


def test_who_is_convicted_publishes_nothing_more():
    court = demanded(tiny_court(tiny()), honest())
    court = demanded(court, another(), now=START + 5 + TERMS.duty_s).lapse(START + 6 + TERMS.duty_s, 1)
    refused("standing", court.publish_receipt, START + 7 + TERMS.duty_s, OPERATOR, 2)


@pytest.mark.parametrize("late", [0, 1])
def test_a_duty_is_done_or_lapses_and_no_second_is_of_both(late):
    """Else whoever is late could undo each lapse by a call ahead of it, and be late for ever."""
    held = demanded(batch_of(tiny_court(tiny()), honest()), honest())
    withheld, end = demanded(tiny_court(tiny()), another()), START + 5 + TERMS.duty_s
    spot = drawn().summon(START + 5, FISHERMAN, id_of(honest(), another()), 0, 0)
    shown = proof(spot_subject(id_of(honest(), another()), 0), Verdict.CHALLENGER_LOSES)
    for court, done in (
        (held, lambda now: held.show(now, 1, LeafPlace(id_of(honest()), 0, ()))),
        (withheld, lambda now: withheld.publish_receipt(now, OPERATOR, 1)),
        (spot, lambda now: spot.attest(now, 1, Verdict.CHALLENGER_LOSES, shown)),
    ):
        if late:
            refused("late", done, end + 1)
            assert court.lapse(end + 1, 1).operators[OPERATOR].convicted
        else:
            refused("early", court.lapse, end, 1)
            assert not done(end).operators[OPERATOR].convicted


def test_another_operators_batch_shows_nothing():
    court = tiny_court(tiny()).register(START, OTHER, TERMS.least_stake_wei)
    court = demanded(court.commit_batch(START + 1, OTHER, root_of(honest()), 1), honest())
    theirs = next(iter(court.batches))
    refused("batch", court.show, START + 6, 1, LeafPlace(theirs, 0, ()))


def test_only_receipts_that_bind_the_operator_now_are_demanded():
    court, signed = tiny_court(tiny()), honest()
    stranger = sign_receipt(hashlib.sha256(b"stranger").digest(), signed.order, signed.receipt)
    elsewhere = sign_receipt(KEY, replace(signed.order, domain=replace(FIRST_COURT, chain_id=1)), signed.receipt)
    for false in (
        stranger,
        replace(elsewhere, order=signed.order),
        tiny_signed(tiny().honest, key_id=bytes(32)),
        replace(signed, signature=signed.signature[:64]),
    ):
        refused("signature", demanded, court, false)
    refused("standing", court.demand, START, CLIENT, OTHER, signed.receipt, signed.signature, TERMS.bond_wei)
    for bond in (TERMS.bond_wei - 1, TERMS.bond_wei + 1, 0):
        refused("bond", court.demand, START, CLIENT, OPERATOR, signed.receipt, signed.signature, bond)
    two = court.register(START, OTHER, TERMS.least_stake_wei)
    refused("signature", two.demand, START, CLIENT, OTHER, signed.receipt, signed.signature, TERMS.bond_wei)
    gone = court.revoke(START, REGISTRAR, KEY_ID)
    demanded(gone, signed, START + NOTICE_S)
    refused("signature", demanded, gone, signed, START + NOTICE_S + 1)
    convicted = demanded(court, signed).lapse(START + 6 + TERMS.duty_s, 1)
    refused("standing", demanded, convicted, another(), START + 10**5)


def test_nothing_becomes_final_while_a_receipt_is_withheld():
    court = batch_of(tiny_court(tiny()), honest())
    last = START + 2 + TERMS.window_s + TERMS.reveal_s
    court.finalise(last, id_of(honest()))
    refused("frozen", demanded(court, another(), last - 1).finalise, last, id_of(honest()))
    # new batches may be committed: a demand accuses nobody of a false answer
    demanded(court, another(), last - 1).commit_batch(last, OPERATOR, b"n" * 32, 1)


# --- second answers, and one receipt in two places


def accused(court: Court, subject: bytes, kind: int, now: int = START + 5, who: str = FISHERMAN) -> Court:
    return court.challenge(now, who, challenge_hash(who, subject, 0, kind, SALT), court.terms.bond_wei)


def test_two_answers_under_one_order_convict():
    evidence = Equivocation(honest(), another())
    court = accused(tiny_court(tiny()), honest().receipt.order_id, TWO_ANSWERS)
    call: tuple[Any, ...] = START + 6, FISHERMAN, 1, OPERATOR, evidence, SALT
    after = court.equivocation(*call)
    assert after.operators[OPERATOR].convicted
    assert after.pay_reward(START + 7 + TERMS.claim_s, OPERATOR).credits == {FISHERMAN: TERMS.bond_wei + REWARD}
    refused("opened", after.equivocation, *call)
    refused("late", court.equivocation, START + 6 + TERMS.reveal_s, *call[1:])
    refused("sender", court.equivocation, START + 6, OTHER, *call[2:])
    refused("commitment", court.equivocation, *call[:5], bytes(32))
    refused("challenge", court.equivocation, *call[:2], 2, *call[3:])
    refused("standing", court.equivocation, *call[:3], OTHER, *call[4:])
    refused("statement", court.equivocation, *call[:4], Equivocation(honest(), honest()), SALT)
    order = replace(honest().order, nonce=bytes(32))
    elsewhere = sign_receipt(KEY, order, replace(honest().receipt, order_id=order.id))
    refused("order", court.equivocation, *call[:4], Equivocation(honest(), elsewhere), SALT)
    forged = sign_receipt(hashlib.sha256(b"stranger").digest(), honest().order, another().receipt)
    for pair in (Equivocation(honest(), forged), Equivocation(forged, honest())):
        refused("signature", court.equivocation, *call[:4], pair, SALT)


def test_a_second_answer_by_a_revoked_key_convicts_nobody():
    """A stolen key signs what it likes once it is known to be stolen."""
    court = tiny_court(tiny()).revoke(START, REGISTRAR, KEY_ID)
    then = START + NOTICE_S
    court = accused(court, honest().receipt.order_id, TWO_ANSWERS, then)
    evidence = Equivocation(honest(), another())
    assert court.equivocation(then, FISHERMAN, 1, OPERATOR, evidence, SALT).operators[OPERATOR].convicted
    refused("signature", court.equivocation, then + 1, FISHERMAN, 1, OPERATOR, evidence, SALT)


def test_one_receipt_in_two_places_convicts():
    signed, other = honest(), another()
    leaves = [leaf_of(signed), leaf_of(other), leaf_of(signed)]
    court = batch_of(tiny_court(tiny()), signed)
    court = court.commit_batch(START + 2, OPERATOR, merkle.root(leaves), 3)
    court = court.register(START, OTHER, TERMS.least_stake_wei).commit_batch(START, OTHER, root_of(signed), 1)
    whole = next(batch for batch in court.batches if court.batches[batch].size == 3)
    theirs = next(batch for batch in court.batches if court.batches[batch].operator == OTHER)
    first, third = (LeafPlace(whole, at, tuple(merkle.inclusion_proof(leaves, at))) for at in (0, 2))
    alone, leaf = LeafPlace(id_of(signed), 0, ()), merkle.leaf_hash(leaf_of(signed))
    court = accused(court, leaf, TWO_PLACES)
    call = START + 6, FISHERMAN, 1, leaf
    for places in ((first, third), (alone, first), (third, alone)):
        assert court.two_places(*call, *places, SALT).operators[OPERATOR].convicted
    refused("place", court.two_places, *call, alone, alone, SALT)
    refused("place", court.two_places, *call, first, first, SALT)
    refused("batch", court.two_places, *call, alone, LeafPlace(theirs, 0, ()), SALT)
    refused("batch", court.two_places, *call, alone, LeafPlace(bytes(32), 0, ()), SALT)
    refused("path", court.two_places, *call, alone, placed(first, at=1), SALT)
    refused("path", court.two_places, *call, placed(first, path=()), alone, SALT)
    refused("commitment", court.two_places, *call, alone, first, bytes(32))
    refused("late", court.two_places, START + 6 + TERMS.reveal_s, *call[1:], alone, first, SALT)


# --- answers that the beacon draws

EVERY = replace(TERMS, spot_bps=10_000)


def arbiter(statement: bytes, proof: bytes) -> bool:
    return hashlib.sha256(statement).digest() == proof


def proof(subject: bytes, verdict: Verdict) -> bytes:
    return hashlib.sha256(spot_statement(FIRST_COURT, subject, verdict)).digest()


def drawn(terms=EVERY, now: int = START + 2) -> Court:
    court = batch_of(tiny_court(tiny(), terms, arbiter), honest(), another())
    return court.post_draw(now, REGISTRAR, b"b" * 32)


def test_a_drawn_answer_whose_verdict_is_not_shown_in_time_convicts():
    batch = id_of(honest(), another())
    court = drawn().summon(START + 3, FISHERMAN, batch, 1, 0)
    refused("drawn", court.summon, START + 4, OTHER, batch, 1, 0)
    refused("frozen", court.finalise, START + 3 + TERMS.window_s + TERMS.reveal_s, batch)
    refused("early", court.lapse, START + 3 + TERMS.duty_s, 1)
    after = court.lapse(START + 4 + TERMS.duty_s, 1)
    assert after.operators[OPERATOR].convicted
    held = court.held_wei
    after = after.pay_reward(START + 5 + TERMS.duty_s + TERMS.claim_s, OPERATOR)
    assert (after.credits, after.held_wei) == ({FISHERMAN: REWARD}, held)


@pytest.mark.parametrize("verdict", [Verdict.OPERATOR_LOSES, Verdict.CHALLENGER_LOSES])
def test_a_shown_verdict_decides(verdict):
    batch = id_of(honest(), another())
    subject = spot_subject(batch, 0)
    court = drawn().summon(START + 3, FISHERMAN, batch, 0, 0)
    after = court.attest(START + 4, 1, verdict, proof(subject, verdict))
    assert after.operators[OPERATOR].convicted == (verdict == Verdict.OPERATOR_LOSES)
    assert after.held_wei == court.held_wei
    assert after.operators[OPERATOR].open_games == 0
    refused("duty", after.attest, START + 5, 1, verdict, proof(subject, verdict))
    refused("duty", after.lapse, START + 10**5, 1)
    others = {Verdict.OPERATOR_LOSES, Verdict.CHALLENGER_LOSES} - {verdict}
    for false in (proof(subject, *others), proof(spot_subject(batch, 1), verdict), b""):
        refused("proof", court.attest, START + 4, 1, verdict, false)
    refused("proof", court.attest, START + 4, 1, Verdict.NONE, proof(subject, Verdict.NONE))
    refused("duty", demanded(court, honest()).attest, START + 5, 2, verdict, proof(subject, verdict))


def test_a_draw_is_the_first_value_after_the_batch_and_nobody_picks_it():
    batch = id_of(honest(), another())
    late = START + 2 + TERMS.window_s
    court = drawn().post_draw(START + 3, REGISTRAR, b"c" * 32)
    for number in (-1, 1, 2, 9):
        refused("draw", court.summon, START + 4, FISHERMAN, batch, 0, number)
    refused("index", court.summon, START + 4, FISHERMAN, batch, 2, 0)
    refused("index", court.summon, START + 4, FISHERMAN, batch, -1, 0)
    refused("batch", court.summon, START + 4, FISHERMAN, bytes(32), 0, 0)
    refused("window", court.summon, late, FISHERMAN, batch, 0, 0)
    court.summon(late - 1, FISHERMAN, batch, 0, 0)
    refused("sender", court.post_draw, START + 4, OPERATOR, bytes(32))
    # a value that came before the batch, or with it, was known to who committed it
    early = tiny_court(tiny(), EVERY, arbiter).post_draw(START, REGISTRAR, b"a" * 32)
    early = batch_of(early.post_draw(START + 1, REGISTRAR, b"b" * 32), honest(), another())
    for number in (0, 1):
        refused("draw", early.summon, START + 4, FISHERMAN, batch, 0, number)
    after = early.post_draw(START + 5, REGISTRAR, b"c" * 32)
    refused("draw", after.summon, START + 6, FISHERMAN, batch, 0, 1)
    after.summon(START + 6, FISHERMAN, batch, 0, 2)
    without = batch_of(tiny_court(tiny(), EVERY), honest(), another()).post_draw(START + 2, REGISTRAR, bytes(32))
    refused("arbiter", without.summon, START + 4, FISHERMAN, batch, 0, 0)
    none = drawn(replace(TERMS, spot_bps=0))
    refused("draw", none.summon, START + 4, FISHERMAN, batch, 0, 0)


def test_the_beacon_draws_as_often_as_the_terms_say():
    """20,000 answers at 5 %: within four standard deviations of 1,000."""
    hits = sum(is_drawn(b"v" * 32, spot_subject(b"b" * 32, index), 500) for index in range(20_000))
    assert abs(hits - 1_000) < 4 * (20_000 * 0.05 * 0.95) ** 0.5
