"""Money, clocks, windows and standing: each rule, and each call that breaks it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import pytest

from otr_core import merkle
from otr_core.dispute import game as table
from otr_core.dispute.accounts import MOST_WEI, batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.state import Verdict
from otr_core.errors import ParameterError
from otr_core.lane import program as pr
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.labs.disputes.parties import (
    CLIENT,
    FISHERMAN,
    OPERATOR,
    OTHER,
)
from otr_paper.labs.disputes.world import START, TERMS, random_tamper, tiny, tiny_signed
from tests.helpers.tiny_disputes import (
    SALT,
    batch_of,
    challenged,
    filed,
    id_of,
    opened,
    opening_of,
    refused,
    tiny_court,
)


def false_run():
    return tiny().run(replace(random_tamper(tiny(), Random(8), pr.LayerOperator.OUTPUT), delta=2**20))


def first_nodes(run) -> tuple[bytes, ...]:
    """What the operator shows first of a dispute about the states."""
    return run.states.children(merkle.height(run.states.size), 0, TERMS.arity_bits)


def lost(court: Court) -> tuple[int, int, int]:
    """What a conviction of the operator slashes, pays and puts by for others' costs."""
    slashed = court.operators[OPERATOR].stake_wei * court.terms.slash_bps // 10_000
    return slashed, slashed * court.terms.reward_bps // 10_000, 8 * court.terms.cost_wei


def test_a_false_answer_is_slashed_its_batches_void_and_the_rest_burnt():
    other = batch_id(OPERATOR, bytes(32))
    court = tiny_court(tiny()).commit_batch(START, OPERATOR, bytes(32), 5).escrow(START, CLIENT, other, 700)
    court = court.escrow(START, OTHER, other, 300)
    slashed, reward, costs = lost(court)
    start = filed(court, false_run())
    held, stake = start.court.held_wei, court.operators[OPERATOR].stake_wei
    after, log = play(
        start.court, start.number, HonestOperator(false_run()), HonestChallenger(tiny().honest), now=start.now
    )
    operator, now = after.operators[OPERATOR], log[-1].now
    assert (operator.stake_wei, operator.reward_wei, operator.convicted_at) == (stake - slashed, reward, now)
    assert after.burnt_wei == slashed - reward - costs
    assert after.credits == {FISHERMAN: TERMS.bond_wei}
    assert after.held_wei == held
    refused("void", after.finalise, now + 10**6, other)
    refunded = after.refund(CLIENT, other)
    assert refunded.credits[CLIENT] == 700
    refused("credit", refunded.refund, CLIENT, other)
    assert refunded.refund(OTHER, other).credits[OTHER] == 300
    refused("early", after.pay_reward, now + TERMS.claim_s, OPERATOR)
    paid = after.pay_reward(now + TERMS.claim_s + 1, OPERATOR)
    assert paid.credits[FISHERMAN] == TERMS.bond_wei + reward
    assert (paid.burnt_wei, paid.held_wei) == (slashed - reward, held)
    refused("reward", paid.pay_reward, now + TERMS.claim_s + 2, OPERATOR)
    emptied, amount = paid.withdraw(FISHERMAN)
    assert (amount, emptied.held_wei) == (TERMS.bond_wei + reward, held - TERMS.bond_wei - reward)
    refused("credit", emptied.withdraw, FISHERMAN)
    refused("standing", after.commit_batch, now + 1, OPERATOR, bytes(32), 1)
    refused("standing", after.register, now + 1, OPERATOR, 10**18)
    refused("escrow", after.escrow, now + 1, CLIENT, other, 1)
    refused("void", opened, challenged(after, OTHER, now + 1, signed := [tiny_signed(false_run())]), OTHER, 2, now + 2,
            signed)  # fmt: skip


def test_a_lost_challenge_pays_the_operator_and_the_fire():
    start = filed(tiny_court(tiny()), tiny().honest)
    after, _ = play(start.court, start.number, HonestOperator(tiny().honest), Griefer(Random(1)), now=start.now)
    assert after.credits == {OPERATOR: TERMS.bond_wei // 2}
    assert after.burnt_wei == TERMS.bond_wei - TERMS.bond_wei // 2
    assert after.held_wei == start.court.held_wei


def test_a_batch_is_final_after_its_window_and_no_sooner():
    signed = [tiny_signed(tiny().honest)]
    batch = id_of(*signed)
    court = batch_of(tiny_court(tiny()), *signed).escrow(START + 2, CLIENT, batch, 5_000)
    end = START + 1 + TERMS.window_s + TERMS.reveal_s
    refused("early", court.finalise, end, batch)
    final = court.finalise(end + 1, batch)
    assert final.credits == {OPERATOR: 5_000}
    assert (final.operators[OPERATOR].live_batches, final.operators[OPERATOR].in_flight_wei) == (0, 0)
    refused("void", final.finalise, end + 2, batch)
    refused("escrow", final.escrow, end + 2, CLIENT, batch, 1)
    refused("void", final.refund, CLIENT, batch)
    refused("void", court.refund, CLIENT, batch)
    refused("batch", court.finalise, end + 1, bytes(32))
    refused("batch", court.escrow, START + 3, CLIENT, bytes(32), 1)
    refused("escrow", court.escrow, START + 3, CLIENT, batch, 0)
    refused("bond", court.challenge, START + 3, FISHERMAN, SALT, TERMS.bond_wei - 1)
    refused("bond", court.challenge, START + 3, FISHERMAN, SALT, TERMS.bond_wei + 1)


def test_the_window_is_for_commitments_and_its_end_leaves_time_to_open():
    signed = [tiny_signed(tiny().honest)]
    batch, last = id_of(*signed), START + 1 + TERMS.window_s
    court = batch_of(tiny_court(tiny()), *signed)
    early = batch_of(challenged(tiny_court(tiny()), FISHERMAN, START, signed), *signed)
    refused("window", opened, early, FISHERMAN, 1, START + 2, signed)  # committed before the batch
    refused("window", opened, challenged(court, FISHERMAN, last + 1, signed), FISHERMAN, 1, last + 2, signed)
    in_time = challenged(court, FISHERMAN, last, signed)
    refused("early", in_time.finalise, last + TERMS.reveal_s, batch)
    held_up = opened(in_time, FISHERMAN, 1, last + TERMS.reveal_s, signed)
    refused("frozen", held_up.finalise, last + TERMS.reveal_s + 1, batch)
    refused("late", opened, in_time, FISHERMAN, 1, last + TERMS.reveal_s + 1, signed)
    refused("early", in_time.expire, last + TERMS.reveal_s, 1)
    final = in_time.finalise(last + TERMS.reveal_s + 1, batch)
    expired = final.expire(last + TERMS.reveal_s + 1, 1)
    assert (expired.challenges[0].status, expired.burnt_wei) == (ChallengeStatus.LOST, TERMS.bond_wei)
    refused("opened", expired.expire, last + TERMS.reveal_s + 2, 1)


def test_a_final_batch_is_not_challenged():
    """Nobody can finalise in the window of a challenge; reopened by a pause, the window may end later."""
    signed = [tiny_signed(tiny().honest)]
    court = batch_of(tiny_court(tiny()), *signed)
    end = START + 1 + TERMS.window_s + TERMS.reveal_s
    closed = court.finalise(end + 1, id_of(*signed))
    paused = replace(closed, pause=(START + 2, end))
    refused("void", opened, challenged(paused, FISHERMAN, end + 2, signed), FISHERMAN, 1, end + 3, signed)


def test_only_the_committed_challenge_opens_in_time_and_by_its_owner():
    signed = [tiny_signed(tiny().honest), tiny_signed(false_run())]
    court = challenged(batch_of(tiny_court(tiny()), *signed), FISHERMAN, START + 5, signed, index=1)
    good = opening_of(signed, 1)
    assert court.open(START + 6, FISHERMAN, 1, **good).challenges[0].status == ChallengeStatus.OPEN
    refused("sender", court.open, START + 6, OTHER, 1, **good)
    refused("late", court.open, START + 6 + TERMS.reveal_s, FISHERMAN, 1, **good)
    for change in ({"index": 0}, {"token": 1}, {"salt": b"t" * 32}, {"batch": bytes(32)}):
        refused("commitment", court.open, START + 6, FISHERMAN, 1, **{**good, **change})
    for change in (
        {"receipt": signed[0].receipt}, {"signature": bytes(65)}, {"path": ()}, {"path": (bytes(32),)},
        {"receipt": replace(signed[1].receipt, states_root=bytes(32))}, {"signature": bytes(64)},
    ):  # fmt: skip
        refused("path", court.open, START + 6, FISHERMAN, 1, **{**good, **change})
    refused("challenge", court.open, START + 6, FISHERMAN, 2, **good)
    refused("challenge", court.open, START + 6, FISHERMAN, 0, **good)
    twice = court.open(START + 6, FISHERMAN, 1, **good)
    refused("opened", twice.open, START + 7, FISHERMAN, 1, **good)
    nowhere = court.challenge(START + 5, FISHERMAN, challenge_hash(FISHERMAN, bytes(32), 1, 0, SALT), TERMS.bond_wei)
    refused("batch", nowhere.open, START + 6, FISHERMAN, 2, **{**good, "batch": bytes(32)})


@pytest.mark.parametrize("length", [0, 64, 66])
def test_a_leaf_with_a_signature_of_another_length_is_no_receipt(length):
    """Committed so by its operator: whoever opens it shows nothing, and convicts nobody."""
    whole = tiny_signed(tiny().honest)
    cut = replace(whole, signature=(whole.signature + b"\0")[:length])
    court = challenged(batch_of(tiny_court(tiny()), cut), FISHERMAN, START + 5, [cut])
    refused("path", opened, court, FISHERMAN, 1, START + 6, [cut])


def test_clocks():
    start = filed(tiny_court(tiny()), tiny().honest)
    shown = first_nodes(tiny().honest)
    end = start.now + TERMS.clock_s
    refused("early", start.court.timeout, end, start.number)
    refused("late", start.court.move, end + 1, OPERATOR, start.number, "bisect", shown)
    # whose turn it is comes before how late it is, and time does not run back
    refused("turn", start.court.move, end + 1, FISHERMAN, start.number, "choose_kept")
    refused("time", start.court.move, start.now - 1, OPERATOR, start.number, "bisect", shown)
    timed_out = start.court.timeout(end + 1, start.number)
    assert timed_out.operators[OPERATOR].convicted
    moved = start.court.move(end, OPERATOR, start.number, "bisect", shown).challenges[0]
    assert moved.left_s == (TERMS.increment_s, TERMS.clock_s)
    quick = start.court.move(start.now + 1, OPERATOR, start.number, "bisect", shown).challenges[0]
    assert quick.left_s[0] == TERMS.clock_s  # an increment never adds beyond the full clock
    refused("sender", start.court.move, start.now + 1, FISHERMAN, start.number, "bisect", shown)
    refused("sender", start.court.move, start.now + 1, OPERATOR, start.number, "choose_kept")
    refused("turn", start.court.move, start.now + 1, FISHERMAN, start.number, "choose_kept")
    refused("move", start.court.move, start.now + 1, OPERATOR, start.number, "_tile")
    refused("children", start.court.move, start.now + 1, OPERATOR, start.number, "bisect", (bytes(32),) * 4)
    refused("game", start.court.move, start.now + 1, OPERATOR, 2, "bisect", shown)
    refused("over", timed_out.move, end + 2, OPERATOR, start.number, "bisect", shown)
    refused("over", timed_out.timeout, end + 2, start.number)


def test_an_arbiter_can_end_a_game_at_any_point_and_only_with_a_proof():
    def arbiter(statement: bytes, proof: bytes) -> bool:
        return hashlib.sha256(statement).digest() == proof

    start = filed(tiny_court(tiny(), arbiter=arbiter), tiny().honest)
    game = start.court.challenges[0].game
    assert game is not None
    for verdict, convicted in ((Verdict.OPERATOR_LOSES, True), (Verdict.CHALLENGER_LOSES, False)):
        proof = hashlib.sha256(table.statement(start.court.domain, 1, game.claim.trace_root, verdict)).digest()
        ended = start.court.arbitrate(start.now + 1, 1, verdict, proof)
        assert ended.operators[OPERATOR].convicted == convicted
        refused("over", ended.arbitrate, start.now + 2, 1, verdict, proof)
        other = Verdict.OPERATOR_LOSES if verdict == Verdict.CHALLENGER_LOSES else Verdict.CHALLENGER_LOSES
        refused("proof", start.court.arbitrate, start.now + 1, 1, other, proof)
    refused("arbiter", start.court.arbitrate, start.now + 1, 1, Verdict.NONE, proof)
    without = filed(tiny_court(tiny()), tiny().honest)
    refused("arbiter", without.court.arbitrate, without.now + 1, 1, Verdict.OPERATOR_LOSES, proof)


def test_a_verdict_counts_for_one_game_of_one_court():
    """The statement holds chain, court, game and answer, so that no key's word is heard twice."""
    heard = []

    def arbiter(statement: bytes, proof: bytes) -> bool:
        heard.append(statement)
        return statement == proof

    start = filed(tiny_court(tiny(), arbiter=arbiter), tiny().honest)
    verdict, domain = Verdict.OPERATOR_LOSES, start.court.domain
    root = start.court.challenges[0].game.claim.trace_root
    for other in (
        (replace(domain, chain_id=domain.chain_id + 1), 1, root),
        (replace(domain, court=bytes(20)), 1, root),
        (domain, 2, root),
        (domain, 1, bytes(32)),
    ):
        refused("proof", start.court.arbitrate, start.now + 1, 1, verdict, table.statement(*other, verdict))
    own = table.statement(domain, 1, root, verdict)
    assert start.court.arbitrate(start.now + 1, 1, verdict, own).operators[OPERATOR].convicted
    assert set(heard) == {own}


def test_a_stake_leaves_only_when_nothing_can_be_slashed():
    court = tiny_court(tiny())
    refused("stake", court.register, START, OTHER, TERMS.least_stake_wei - 1)
    refused("stake", court.register, START, OTHER, MOST_WEI + 1)
    held = court.operators[OPERATOR].stake_wei
    refused("stake", court.register, START, OPERATOR, MOST_WEI + 1 - held)
    assert court.register(START, OPERATOR, MOST_WEI - held).operators[OPERATOR].stake_wei == MOST_WEI
    refused("standing", court.request_exit, START, OTHER)
    refused("exit", court.withdraw_stake, START, OPERATOR)
    signed = [tiny_signed(tiny().honest)]
    court = batch_of(court, *signed)
    leaving = court.request_exit(START + 2, OPERATOR)
    refused("exit", leaving.request_exit, START + 3, OPERATOR)
    refused("standing", leaving.commit_batch, START + 3, OPERATOR, bytes(32), 1)
    refused("standing", leaving.register, START + 3, OPERATOR, 1)
    late = START + 2 + TERMS.exit_s + 1
    refused("exit", leaving.withdraw_stake, late, OPERATOR)  # its batch is still live
    final = leaving.finalise(late, id_of(*signed))
    refused("exit", final.withdraw_stake, late - 1, OPERATOR)
    gone = final.withdraw_stake(late, OPERATOR)
    assert gone.credits[OPERATOR] == 3 * TERMS.least_stake_wei
    assert gone.operators[OPERATOR].stake_wei == 0


def test_a_stake_waits_for_open_games():
    court = batch_of(tiny_court(tiny()), signed := tiny_signed(tiny().honest)).request_exit(START + 2, OPERATOR)
    court = opened(challenged(court, FISHERMAN, START + 3, [signed]), FISHERMAN, 1, START + 4, [signed])
    late = START + 3 + TERMS.exit_s
    closed = replace(court, batches={}, operators={OPERATOR: replace(court.operators[OPERATOR], live_batches=0)})
    refused("exit", closed.withdraw_stake, late, OPERATOR)


def test_a_root_is_committed_once_by_an_operator_and_by_others_too():
    """Nobody can squat on another's root: the id of a batch holds its author."""
    court = tiny_court(tiny()).register(START, OTHER, TERMS.least_stake_wei)
    court = court.commit_batch(START, OTHER, b"r" * 32, 9).commit_batch(START + 1, OPERATOR, b"r" * 32, 3)
    assert [court.batches[batch_id(who, b"r" * 32)].size for who in (OTHER, OPERATOR)] == [9, 3]
    refused("batch", court.commit_batch, START + 2, OPERATOR, b"r" * 32, 3)
    for size in (0, -1, 2**32 + 1):
        refused("size", court.commit_batch, START, OPERATOR, bytes(32), size)
    refused("standing", court.commit_batch, START, CLIENT, bytes(32), 1)


def test_escrow_is_capped_by_the_stake_over_all_batches_in_flight():
    court, stake = tiny_court(tiny()), 3 * TERMS.least_stake_wei
    for root in (b"a" * 32, b"b" * 32):
        court = court.commit_batch(START, OPERATOR, root, 1)
    first, second = (batch_id(OPERATOR, root) for root in (b"a" * 32, b"b" * 32))
    court = court.escrow(START, CLIENT, first, stake - 5)
    refused("cap", court.escrow, START, OTHER, second, 6)
    court = court.escrow(START, OTHER, second, 5)
    refused("cap", court.escrow, START, CLIENT, first, 1)
    later = court.finalise(START + TERMS.window_s + TERMS.reveal_s + 1, first)
    assert later.escrow(START + 10**5, CLIENT, second, stake - 5).operators[OPERATOR].in_flight_wei == stake


@pytest.mark.parametrize(
    "change",
    [
        {"arity_bits": 0}, {"arity_bits": 7}, {"window_s": 0}, {"clock_s": 2**31 + 1}, {"increment_s": -1},
        {"increment_s": 10**6}, {"least_stake_wei": 0}, {"bond_wei": 2**97}, {"slash_bps": 0}, {"slash_bps": 10_001},
        {"reward_bps": 10_000}, {"compensation_bps": 10_000}, {"exit_s": 10_600}, {"claim_s": 599},
        {"clock_s": 59}, {"window_s": 59}, {"reveal_s": 59}, {"duty_s": 59}, {"pause_s": 59}, {"increment_s": 11},
        {"cap_bps": -1}, {"cap_bps": 10**6 + 1}, {"spot_bps": 10_001}, {"cost_wei": 10**17 + 1},
    ],
)  # fmt: skip
def test_unusable_terms_are_refused(change):
    with pytest.raises(ParameterError) as failure:
        Terms(**{**TERMS.__dict__, **change})
    assert failure.value.field == next(iter(change))
