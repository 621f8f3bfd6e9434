"""Money, clocks, windows and standing: each rule, and each call that breaks it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core import merkle
from otr_core.dispute import game as table
from otr_core.dispute.court import Court, challenge_hash
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import ChallengeStatus, Terms
from otr_core.dispute.state import Verdict
from otr_core.errors import MoveError, ParameterError
from otr_core.lane import program as pr
from otr_core.poea.receipt import SignedReceipt
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.labs.disputes.parties import (
    CLIENT,
    FISHERMAN,
    KEY_ID,
    OPERATOR,
    OTHER,
    REGISTRAR,
    leaf_of,
    registered_model,
)
from otr_paper.labs.disputes.world import START, TERMS, random_tamper, tiny, tiny_signed
from tests.helpers.tiny_disputes import filed, tiny_court

SALT = b"s" * 32


def refused(reason: str, call, *args, **more) -> None:
    with pytest.raises(MoveError) as failure:
        call(*args, **more)
    assert failure.value.reason == reason


def false_run():
    return tiny().run(replace(random_tamper(tiny(), Random(8), pr.LayerOperator.OUTPUT), delta=2**20))


def first_nodes(run) -> tuple[bytes, ...]:
    """What the operator shows first of a dispute about the states."""
    return run.states.children(merkle.height(run.states.size), 0, TERMS.arity_bits)


def batch_of(court: Court, *signed: SignedReceipt, now: int = START + 1) -> Court:
    leaves = [leaf_of(each) for each in signed]
    return court.commit_batch(now, OPERATOR, merkle.root(leaves), len(leaves))


def challenged(court: Court, who: str, now: int, index: int = 0, batch: int = 0) -> Court:
    return court.challenge(now, who, batch, challenge_hash(who, batch, index, 0, SALT), court.terms.bond_wei)


def opened(court: Court, who: str, number: int, now: int, signed: list[SignedReceipt], index: int = 0) -> Court:
    path = tuple(merkle.inclusion_proof([leaf_of(each) for each in signed], index))
    return court.open(now, who, number, index=index, token=0, salt=SALT, path=path, **vars(signed[index]))


def test_a_false_answer_is_slashed_its_batches_void_and_the_rest_burnt():
    court = tiny_court(tiny()).commit_batch(START, OPERATOR, bytes(32), 5).escrow(START, CLIENT, 0, 700)
    start = filed(court, false_run())
    held = start.court.held_wei
    after, log = play(
        start.court, start.number, HonestOperator(false_run()), HonestChallenger(tiny().honest), now=start.now
    )
    stake = 3 * TERMS.least_stake_wei
    slashed = stake * 9 // 10
    reward = slashed * 4 // 10
    operator = after.operators[OPERATOR]
    assert (operator.stake_wei, operator.reward_wei, operator.convicted) == (stake - slashed, reward, True)
    assert after.burnt_wei == slashed - reward
    assert after.credits == {FISHERMAN: TERMS.bond_wei}
    assert after.held_wei == held
    now = log[-1].now
    refused("void", after.finalise, now + 10**6, 0)
    refunded = after.refund(0)
    assert refunded.credits[CLIENT] == 700
    refused("void", refunded.refund, 0)
    refused("early", after.pay_reward, now + TERMS.claim_s, OPERATOR)
    paid = after.pay_reward(now + TERMS.claim_s + 1, OPERATOR)
    assert paid.credits[FISHERMAN] == TERMS.bond_wei + reward
    refused("reward", paid.pay_reward, now + TERMS.claim_s + 2, OPERATOR)
    emptied, amount = paid.withdraw(FISHERMAN)
    assert (amount, emptied.held_wei) == (TERMS.bond_wei + reward, held - TERMS.bond_wei - reward)
    refused("credit", emptied.withdraw, FISHERMAN)
    refused("standing", after.commit_batch, now + 1, OPERATOR, bytes(32), 1)
    refused("standing", after.register, now + 1, OPERATOR, 10**18)
    refused("void", after.challenge, now + 1, OTHER, 0, SALT, TERMS.bond_wei)
    refused("escrow", after.escrow, now + 1, CLIENT, 0, 1)


def test_a_lost_challenge_pays_the_operator_and_the_fire():
    start = filed(tiny_court(tiny()), tiny().honest)
    after, _ = play(start.court, start.number, HonestOperator(tiny().honest), Griefer(Random(1)), now=start.now)
    assert after.credits == {OPERATOR: TERMS.bond_wei // 2}
    assert after.burnt_wei == TERMS.bond_wei - TERMS.bond_wei // 2
    assert after.held_wei == start.court.held_wei


def test_a_batch_is_final_after_its_window_and_no_sooner():
    signed = tiny_signed(tiny().honest)
    court = batch_of(tiny_court(tiny()), signed).escrow(START + 2, CLIENT, 0, 5_000)
    end = START + 1 + TERMS.window_s + TERMS.reveal_s
    refused("early", court.finalise, end, 0)
    final = court.finalise(end + 1, 0)
    assert final.credits == {OPERATOR: 5_000}
    refused("void", final.finalise, end + 2, 0)
    refused("void", final.challenge, START + 3, FISHERMAN, 0, SALT, TERMS.bond_wei)
    refused("window", court.challenge, START + 2 + TERMS.window_s, FISHERMAN, 0, SALT, TERMS.bond_wei)
    refused("bond", court.challenge, START + 3, FISHERMAN, 0, SALT, TERMS.bond_wei - 1)
    held_up = challenged(court, FISHERMAN, START + 1 + TERMS.window_s)
    refused("early", held_up.finalise, end + 1, 0)
    refused("early", held_up.expire, START + 1 + TERMS.window_s + TERMS.reveal_s, 1)
    expired = held_up.expire(end + 1, 1)
    assert expired.challenges[0].status == ChallengeStatus.LOST
    assert expired.finalise(end + 2, 0).credits[OPERATOR] == 5_000 + TERMS.bond_wei // 2
    for batch in (-1, 1, 10**9):
        refused("batch", court.finalise, end + 1, batch)
    refused("escrow", court.escrow, START + 3, OTHER, 0, 1)
    refused("escrow", court.escrow, START + 3, CLIENT, 0, 0)


def test_only_the_committed_challenge_opens_in_time_and_by_its_owner():
    signed = [tiny_signed(tiny().honest), tiny_signed(false_run())]
    court = challenged(batch_of(tiny_court(tiny()), *signed), FISHERMAN, START + 5, index=1)
    path = tuple(merkle.inclusion_proof([leaf_of(each) for each in signed], 1))
    good = {"index": 1, "token": 0, "salt": SALT, "path": path, **vars(signed[1])}
    assert court.open(START + 6, FISHERMAN, 1, **good).challenges[0].status == ChallengeStatus.OPEN
    refused("sender", court.open, START + 6, OTHER, 1, **good)
    refused("late", court.open, START + 6 + TERMS.reveal_s, FISHERMAN, 1, **good)
    for change in ({"index": 0}, {"token": 1}, {"salt": b"t" * 32}):
        refused("commitment", court.open, START + 6, FISHERMAN, 1, **{**good, **change})
    for change in (
        {"receipt": signed[0].receipt}, {"signature": bytes(65)}, {"path": ()}, {"path": (bytes(32),)},
        {"receipt": replace(signed[1].receipt, states_root=bytes(32))},
    ):  # fmt: skip
        refused("path", court.open, START + 6, FISHERMAN, 1, **{**good, **change})
    refused("challenge", court.open, START + 6, FISHERMAN, 2, **good)
    refused("challenge", court.open, START + 6, FISHERMAN, 0, **good)
    twice = court.open(START + 6, FISHERMAN, 1, **good)
    refused("opened", twice.open, START + 7, FISHERMAN, 1, **good)


def test_copying_a_challenge_pays_nothing_and_the_earliest_right_one_is_paid():
    signed = [tiny_signed(false_run())]
    court = batch_of(tiny_court(tiny()), *signed)
    court = challenged(court, FISHERMAN, START + 5)
    copied = court.challenge(START + 6, OTHER, 0, court.challenges[0].commitment, TERMS.bond_wei)
    refused("commitment", opened, copied, OTHER, 2, START + 7, signed)  # the hash binds its owner
    court = challenged(court, OTHER, START + 8)  # a copycat that guessed the answer
    court = opened(court, OTHER, 2, START + 9, signed)
    court, log = play(court, 2, HonestOperator(false_run()), HonestChallenger(tiny().honest), now=START + 9)
    now = log[-1].now
    assert court.challenges[1].status == ChallengeStatus.WON
    assert court.operators[OPERATOR].best_game == 2
    refused("reward", court.claim_reward, now + 1, 1)  # not opened yet
    court = opened(court, FISHERMAN, 1, now + 1, signed)
    assert court.challenges[0].status == ChallengeStatus.MOOT
    refused("late", court.claim_reward, now + TERMS.claim_s + 1, 1)
    court = court.claim_reward(now + 2, 1)
    refused("order", court.claim_reward, now + 3, 2)
    paid = court.pay_reward(now + TERMS.claim_s + 1, OPERATOR)
    reward = 3 * TERMS.least_stake_wei * 9 // 10 * 4 // 10
    assert paid.credits == {FISHERMAN: TERMS.bond_wei + reward, OTHER: TERMS.bond_wei}
    assert paid.held_wei == court.held_wei


def test_a_conviction_ends_the_other_games_with_their_bonds():
    signed = [tiny_signed(false_run())]
    court = batch_of(tiny_court(tiny()), *signed)
    for i, who in enumerate((FISHERMAN, OTHER)):
        court = opened(challenged(court, who, START + 5 + i), who, i + 1, START + 8 + i, signed)
    refused("over", court.close, 2)
    court, log = play(court, 1, HonestOperator(false_run()), HonestChallenger(tiny().honest), now=START + 9)
    refused("moot", court.move, log[-1].now + 1, OPERATOR, 2, "bisect", first_nodes(tiny().honest))
    refused("moot", court.timeout, log[-1].now + 10**6, 2)
    closed = court.close(2)
    assert closed.credits[OTHER] == TERMS.bond_wei
    assert closed.operators[OPERATOR].open_games == 0
    refused("over", closed.close, 2)
    refused("challenge", closed.close, 3)


def test_clocks():
    start = filed(tiny_court(tiny()), tiny().honest)
    shown = first_nodes(tiny().honest)
    end = start.now + TERMS.clock_s
    refused("early", start.court.timeout, end, start.number)
    refused("late", start.court.move, end + 1, OPERATOR, start.number, "bisect", shown)
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
        proof = hashlib.sha256(table.statement(1, game.claim.trace_root, verdict)).digest()
        ended = start.court.arbitrate(start.now + 1, 1, verdict, proof)
        assert ended.operators[OPERATOR].convicted == convicted
        refused("over", ended.arbitrate, start.now + 2, 1, verdict, proof)
        other = Verdict.OPERATOR_LOSES if verdict == Verdict.CHALLENGER_LOSES else Verdict.CHALLENGER_LOSES
        refused("proof", start.court.arbitrate, start.now + 1, 1, other, proof)
    refused("arbiter", start.court.arbitrate, start.now + 1, 1, Verdict.NONE, proof)
    without = filed(tiny_court(tiny()), tiny().honest)
    refused("arbiter", without.court.arbitrate, without.now + 1, 1, Verdict.OPERATOR_LOSES, proof)


def test_a_stake_leaves_only_when_nothing_can_be_slashed():
    court = tiny_court(tiny())
    refused("stake", court.register, START, OTHER, TERMS.least_stake_wei - 1)
    refused("standing", court.request_exit, START, OTHER)
    refused("exit", court.withdraw_stake, START, OPERATOR)
    court = batch_of(court, tiny_signed(tiny().honest))
    leaving = court.request_exit(START + 2, OPERATOR)
    refused("exit", leaving.request_exit, START + 3, OPERATOR)
    refused("standing", leaving.commit_batch, START + 3, OPERATOR, bytes(32), 1)
    late = START + 2 + TERMS.exit_s + 1
    refused("exit", leaving.withdraw_stake, late, OPERATOR)  # its batch is still live
    final = leaving.finalise(late, 0)
    refused("exit", final.withdraw_stake, late - 1, OPERATOR)
    gone = final.withdraw_stake(late, OPERATOR)
    assert gone.credits[OPERATOR] == 3 * TERMS.least_stake_wei
    assert gone.operators[OPERATOR].stake_wei == 0


def test_only_the_registrar_registers():
    court = tiny_court(tiny())
    refused("sender", court.register_model, OTHER, b"z" * 32, registered_model(tiny().trees))
    refused("sender", court.register_key, OTHER, b"z" * 32, court.keys[KEY_ID])
    refused("key", court.register_key, REGISTRAR, KEY_ID, court.keys[KEY_ID])
    for size in (0, -1, 2**32 + 1):
        refused("size", court.commit_batch, START, OPERATOR, bytes(32), size)
    refused("standing", court.commit_batch, START, OTHER, bytes(32), 1)


@pytest.mark.parametrize(
    "change",
    [
        {"arity_bits": 0}, {"arity_bits": 7}, {"window_s": 0}, {"clock_s": 2**31 + 1}, {"increment_s": -1},
        {"increment_s": 10**6}, {"least_stake_wei": 0}, {"bond_wei": 2**97}, {"slash_bps": 0}, {"slash_bps": 10_001},
        {"reward_bps": 10_000}, {"compensation_bps": 10_000}, {"exit_s": 10_600}, {"claim_s": 599},
    ],
)  # fmt: skip
def test_unusable_terms_are_refused(change):
    with pytest.raises(ParameterError) as failure:
        Terms(**{**TERMS.__dict__, **change})
    assert failure.value.field == next(iter(change))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3), st.integers(1, 5_000)), max_size=25))
def test_money_is_conserved_whatever_is_called(calls):
    signed = [tiny_signed(false_run())]
    court = tiny_court(tiny())
    paid_in, paid_out, now = court.held_wei, 0, START + 1
    people = (OPERATOR, FISHERMAN, CLIENT, OTHER)
    for what, who, wait in calls:
        now += wait
        name, batch, number = people[who], max(len(court.batches) - 1, 0), max(len(court.challenges), 1)
        value = 0
        try:
            if what == 0:
                court = batch_of(court, *signed, now=now)
            elif what == 1:
                court, value = court.escrow(now, name, batch, wait), wait
            elif what == 2:
                court, value = challenged(court, name, now, batch=batch), TERMS.bond_wei
            elif what == 3:
                court = opened(court, name, number, now, signed)
            elif what == 4:
                court = court.timeout(now, number)
            elif what == 5:
                court = court.finalise(now, batch)
            elif what == 6:
                court = court.refund(batch)
            elif what == 7:
                court, amount = court.withdraw(name)
                paid_out += amount
            elif what == 8:
                court = court.expire(now, number) if who % 2 else court.close(number)
            elif what == 9:
                court = court.pay_reward(now, OPERATOR) if who % 2 else court.claim_reward(now, number)
            elif what == 10:
                court = court.request_exit(now, name)
            else:
                court, value = court.register(now, name, wait * 10**15), wait * 10**15
        except MoveError:
            continue
        paid_in += value
        assert court.held_wei == paid_in - paid_out
        assert all(c >= 0 for c in court.credits.values())
