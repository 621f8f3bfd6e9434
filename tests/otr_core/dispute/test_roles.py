"""Keys, classes of platforms, the registrar and its successor, and pauses: what they may do, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core.dispute.court import Court
from otr_core.dispute.duties import spot_subject
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.registry import NOTICE_S, judgeable
from otr_core.dispute.state import Verdict
from otr_core.poea.receipt import SignedReceipt
from otr_paper.labs.disputes.parties import (
    CLIENT,
    FISHERMAN,
    KEY_ID,
    OPERATOR,
    OTHER,
    REGISTRAR,
    registered_key,
    registered_model,
)
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from tests.helpers.tiny_disputes import (
    batch_of,
    challenged,
    id_of,
    opened,
    refused,
    tiny_court,
)

CLASS, NEXT_CLASS = b"class of platforms".ljust(32), b"the next class".ljust(32)
FINAL = TERMS.window_s + TERMS.reveal_s


def signed(**changes) -> SignedReceipt:
    return tiny_signed(tiny().honest, **changes)


def classed() -> Court:
    """A court whose operator's key is of a class of platforms, and another operator of the same."""
    court, model_id = tiny_court(tiny()), tiny().order.model_id
    key = replace(court.keys[KEY_ID], platform=CLASS)
    court = replace(court, keys={KEY_ID: key}, platforms={OPERATOR: CLASS})
    court = court.register(START, OTHER, TERMS.least_stake_wei)
    return court.register_key(START, REGISTRAR, b"o" * 32, replace(registered_key(OTHER, model_id), platform=CLASS))


def test_only_the_registrar_registers_and_revokes():
    court = tiny_court(tiny())
    refused("sender", court.register_model, OTHER, b"z" * 32, registered_model(tiny().trees))
    refused("sender", court.register_key, START, OTHER, b"z" * 32, court.keys[KEY_ID])
    refused("key", court.register_key, START, REGISTRAR, KEY_ID, court.keys[KEY_ID])
    refused("sender", court.revoke, START, OTHER, KEY_ID)
    refused("sender", court.name_heir, START, OTHER, OTHER)
    refused("sender", court.pause_clocks, START, OTHER)


@pytest.mark.parametrize("subject", [KEY_ID, CLASS])
def test_an_answer_is_convicted_by_a_revocation_only_if_committed_after_it_counts(subject):
    court = classed().revoke(START, REGISTRAR, subject)
    for late, status in ((0, ChallengeStatus.OPEN), (1, ChallengeStatus.WON)):
        now = START + NOTICE_S + late
        after = challenged(batch_of(court, signed(), now=now), FISHERMAN, now, [signed()])
        after = opened(after, FISHERMAN, 1, now + 1, [signed()])
        assert after.challenges[0].status == status


@pytest.mark.parametrize("subject", [KEY_ID, CLASS])
def test_a_revocation_is_for_ever_and_comes_before_first_trust_too(subject):
    court = classed().revoke(START, REGISTRAR, subject)
    refused("revoked", court.revoke, START + 1, REGISTRAR, subject)
    key = replace(classed().keys[KEY_ID], platform=CLASS)
    early = replace(tiny_court(tiny()), keys={}).revoke(START, REGISTRAR, subject)
    refused("key", early.register_key, START, REGISTRAR, KEY_ID, key)
    # a new key on a new class is how an operator is admitted again
    again = early.register_key(START, REGISTRAR, b"n" * 32, replace(key, platform=NEXT_CLASS))
    assert again.platforms[OPERATOR] == NEXT_CLASS


def test_a_revoked_class_reopens_what_is_not_final_once():
    court = batch_of(classed(), signed())
    batch, due = id_of(signed()), START + 1 + FINAL
    court = court.revoke(due - NOTICE_S, REGISTRAR, CLASS)
    refused("early", court.finalise, due + 1, batch)
    refused("early", court.finalise, due + FINAL, batch)
    assert court.finalise(due + FINAL + 1, batch).batches[batch].closed
    late = opened(challenged(court, FISHERMAN, due + TERMS.window_s, [signed()]), FISHERMAN, 1, due + FINAL, [signed()])
    assert late.challenges[0].status == ChallengeStatus.OPEN
    # what was final by then stays final; a key of a newer class does not shorten the second window
    later = batch_of(classed(), signed()).revoke(due - NOTICE_S + 1, REGISTRAR, CLASS)
    assert later.finalise(due + 1, batch).batches[batch].closed
    newer = replace(registered_key(OPERATOR, tiny().order.model_id), platform=NEXT_CLASS)
    newer_too = court.register_key(due + 1, REGISTRAR, b"n" * 32, newer)
    assert newer_too.platforms[OPERATOR] == NEXT_CLASS
    refused("early", newer_too.finalise, due + 1, batch)


def test_an_operators_trusted_keys_are_of_one_class():
    """Else a false answer by a key of the broken class, in a batch that another class's key has made,
    would hold up the wrong class, and that batch would not be reopened."""
    court = classed()
    other = replace(registered_key(OPERATOR, tiny().order.model_id), platform=NEXT_CLASS)
    refused("platform", court.register_key, START + 10**6, REGISTRAR, b"n" * 32, other)
    assert court.register_key(START, REGISTRAR, b"n" * 32, replace(other, platform=CLASS)).platforms[OPERATOR] == CLASS
    revoked = court.revoke(START, REGISTRAR, CLASS)
    refused("platform", revoked.register_key, START + NOTICE_S, REGISTRAR, b"n" * 32, other)
    moved = revoked.register_key(START + NOTICE_S + 1, REGISTRAR, b"n" * 32, other)
    assert moved.platforms[OPERATOR] == NEXT_CLASS
    # what its old keys have signed is no answer any more, and holds nobody up
    late = batch_of(moved, signed(), now=START + NOTICE_S + 2)
    late = opened(challenged(late, FISHERMAN, START + NOTICE_S + 3, [signed()]), FISHERMAN, 1, START + NOTICE_S + 4,
                  [signed()])  # fmt: skip
    assert late.operators[OPERATOR].convicted
    assert not late.fuses


@pytest.mark.parametrize("keyed", [True, False])
def test_a_batch_is_known_by_the_class_of_its_keys(keyed):
    """One that was committed before its operator had a key of a class is no batch of that class, and
    would be neither reopened nor held up with it: its answers convict at once."""
    court, late = tiny_court(tiny()), replace(tiny_court(tiny()).keys[KEY_ID], platform=CLASS)
    court = replace(court, keys={}, platforms={})
    if keyed:
        court = court.register_key(START, REGISTRAR, KEY_ID, late)
    court = batch_of(court, signed())
    if not keyed:
        court = court.register_key(START + 1, REGISTRAR, KEY_ID, late)
    court = opened(challenged(court, FISHERMAN, START + 3, [signed()]), FISHERMAN, 1, START + 4, [signed()])
    assert court.operators[OPERATOR].convicted != keyed
    assert not court.fuses


def test_a_revoked_key_alone_reopens_nothing():
    court = batch_of(classed(), signed()).revoke(START + 2, REGISTRAR, KEY_ID)
    assert court.finalise(START + 2 + FINAL, id_of(signed())).batches[id_of(signed())].closed


def test_the_first_conviction_of_a_trusted_key_is_a_fuse_for_its_class():
    """C2: all answers of the class that are not final get a whole window more, in which they are
    run again; a second conviction does not prolong it."""
    court = classed()
    theirs = court.commit_batch(START + 1, OTHER, b"t" * 32, 1)
    theirs = batch_of(theirs, signed(), now=START + 2)
    theirs = opened(challenged(theirs, FISHERMAN, START + 3, [signed()]), FISHERMAN, 1, START + 4, [signed()])
    fused = theirs.timeout(blown := START + 5 + TERMS.clock_s, 1)
    assert fused.fuses == {CLASS: blown}
    batch = next(each for each in fused.batches if fused.batches[each].operator == OTHER)
    refused("early", fused.finalise, blown + FINAL, batch)
    assert fused.finalise(blown + FINAL + 1, batch).batches[batch].closed
    assert theirs.finalise(START + 2 + FINAL, batch).batches[batch].closed
    again = fused.commit_batch(blown + 1, OTHER, b"u" * 32, 1)
    newer = next(each for each in again.batches if again.batches[each].root == b"u" * 32)
    assert again.finalise(blown + FINAL + 2, newer).batches[newer].closed


def test_a_poison_receipt_is_no_fuse():
    """Nobody attested its key: it says nothing about a class of platforms."""
    decoy = [signed(key_id=b"x" * 32)]
    court = batch_of(classed(), *decoy)
    court = opened(challenged(court, FISHERMAN, START + 3, decoy), FISHERMAN, 1, START + 4, decoy)
    assert court.operators[OPERATOR].convicted
    assert not court.fuses


def test_a_drawn_answer_that_fails_is_a_fuse():
    court = replace(classed(), arbiter=lambda statement, proof: True, terms=replace(TERMS, spot_bps=10_000))
    court = batch_of(court, signed()).post_draw(START + 2, REGISTRAR, bytes(32))
    court = court.summon(START + 3, FISHERMAN, id_of(signed()), 0, 0)
    assert court.challenges[0].commitment == spot_subject(id_of(signed()), 0)
    assert court.attest(START + 4, 1, Verdict.OPERATOR_LOSES, b"").fuses == {CLASS: START + 4}


def test_a_registrar_is_followed_after_a_notice_as_long_as_an_exit():
    court = tiny_court(tiny()).name_heir(START, REGISTRAR, OTHER)
    refused("sender", court.inherit, START + 10**6, CLIENT)
    refused("early", court.inherit, START + TERMS.exit_s, OTHER)
    after = court.inherit(START + TERMS.exit_s + 1, OTHER)
    assert after.registrar == OTHER
    refused("sender", after.revoke, START + 10**6, REGISTRAR, KEY_ID)
    refused("sender", after.inherit, START + 10**6, OTHER)


# --- pauses


def test_a_pause_lengthens_every_deadline_by_what_it_lasts_and_shortens_none():
    """Each deadline that a court knows, once with a pause in it and once without."""
    pause = 500
    plain = batch_of(tiny_court(tiny(), replace(TERMS, pause_s=pause)), signed(), now=START + 1)
    game = opened(challenged(plain, FISHERMAN, START + 2, [signed()]), FISHERMAN, 1, START + 3, [signed()])
    other = signed(states_root=bytes(32))
    duty = plain.demand(START + 3, CLIENT, OPERATOR, other.receipt, other.signature, TERMS.bond_wei)
    guilty = duty.lapse(START + 3 + TERMS.duty_s + 1, 1)
    left = batch_of(tiny_court(tiny()), signed()).finalise(START + 2 + FINAL, id_of(signed()))
    left = replace(left.request_exit(START + 3, OPERATOR), terms=plain.terms)
    committed = challenged(plain, FISHERMAN, START + 2, [signed()])
    deadlines = [
        ("early", plain, START + 1, FINAL, lambda c, now: c.finalise(now, id_of(signed()))),
        ("early", game, START + 3, TERMS.clock_s, lambda c, now: c.timeout(now, 1)),
        ("early", committed, START + 2, TERMS.reveal_s, lambda c, now: c.expire(now, 1)),
        ("early", duty, START + 3, TERMS.duty_s, lambda c, now: c.lapse(now, 1)),
        ("early", guilty, START + 4 + TERMS.duty_s, TERMS.claim_s, lambda c, now: c.pay_reward(now, OPERATOR)),
        ("exit", left, START + 3, TERMS.exit_s, lambda c, now: c.withdraw_stake(now, OPERATOR)),
    ]
    for reason, court, start, seconds, call in deadlines:
        refused(reason, call, court, start + seconds)
        call(court, start + seconds + 1)
        # the pause begins in the first and in the last second of the deadline
        for begin in (start, start + seconds):
            paused = court.pause_clocks(begin, REGISTRAR)
            refused(reason, call, paused, start + seconds + 1)
            refused(reason, call, paused, start + seconds + pause)
            call(paused, start + seconds + pause + 1)
        call(court.pause_clocks(start + seconds + 1, REGISTRAR), start + seconds + 2)


def test_moves_and_openings_are_in_time_that_a_pause_has_made():
    pause = 500
    court = batch_of(tiny_court(tiny(), replace(TERMS, pause_s=pause)), signed())
    committed = challenged(court, FISHERMAN, START + 2, [signed()]).pause_clocks(START + 2, REGISTRAR)
    last = START + 2 + TERMS.reveal_s + pause
    refused("late", opened, committed, FISHERMAN, 1, last + 1, [signed()])
    game = opened(committed, FISHERMAN, 1, last, [signed()])
    shown = tiny().honest.states.children(game.challenges[0].game.height, 0, TERMS.arity_bits)
    paused = replace(game, pause=(last + 1, last + 1 + pause))
    end = last + TERMS.clock_s + pause
    refused("late", paused.move, end + 1, OPERATOR, 1, "bisect", shown)
    assert paused.move(end, OPERATOR, 1, "bisect", shown).challenges[0].left_s[0] == TERMS.increment_s
    # a window that a pause has made longer takes challenges so much longer
    window = START + 1 + TERMS.window_s + pause
    for late, fine in ((0, True), (1, False)):
        held = challenged(court.pause_clocks(START + 5, REGISTRAR), FISHERMAN, window + late, [signed()])
        if fine:
            opened(held, FISHERMAN, 1, window + 1, [signed()])
        else:
            refused("window", opened, held, FISHERMAN, 1, window + 2, [signed()])


def test_a_second_pause_waits_until_no_deadline_can_fall_into_both():
    court = tiny_court(tiny()).pause_clocks(START, REGISTRAR)
    rested = START + 5 * TERMS.pause_s
    refused("early", court.pause_clocks, rested, REGISTRAR)
    assert court.pause_clocks(rested + 1, REGISTRAR).pause == (rested + 1, rested + 1 + TERMS.pause_s)
    long = replace(court, terms=replace(TERMS, exit_s=10 * TERMS.pause_s))
    refused("early", long.pause_clocks, START + 11 * TERMS.pause_s, REGISTRAR)


#: Dimensions that no dispute fits, each beside the nearest that one does.
UNFIT = [
    ({"tile": 512, "hidden": 512, "intermediate": 512}, {"tile": 256, "hidden": 512, "intermediate": 512}),
    ({"tile": 97, "hidden": 96, "intermediate": 96}, {"tile": 96, "hidden": 97, "intermediate": 95}),
    ({"tile": 1}, {"tile": 2}),
    ({"tile": 0}, {"tile": 4}),
    ({"kv_heads": 3}, {"kv_heads": 4}),
    ({"layers": 0}, {"layers": 1}),
    ({"vocab": 2**27 + 1}, {"vocab": 2**27 - 1}),
    ({"heads": 2**22}, {"heads": 2**20}),
    ({"layers": 2**27}, {"layers": 2**26}),
    ({"numerator": 2**52}, {"numerator": 2**52 - 1}),
    ({"drop": 64}, {"drop": 63}),
    ({"epsilon": 2**62}, {"epsilon": 2**62 - 1}),
]


@pytest.mark.parametrize(("unfit", "fit"), UNFIT)
def test_a_model_whose_disputes_do_not_fit_the_contracts_is_not_registered(unfit, fit):
    court, model = tiny_court(tiny()), registered_model(tiny().trees)
    assert judgeable(replace(model.dims, **fit))
    court.register_model(REGISTRAR, b"m" * 32, replace(model, dims=replace(model.dims, **fit)))
    refused("dims", court.register_model, REGISTRAR, b"m" * 32, replace(model, dims=replace(model.dims, **unfit)))
