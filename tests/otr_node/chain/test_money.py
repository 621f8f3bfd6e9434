"""Every call about money, duties and roles in both courts at once: legal and illegal, equal reasons,
equal to the wei after every call; and the same state from the logs alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.duties import (
    TWO_ANSWERS,
    TWO_PLACES,
    LeafPlace,
    challenge_hash,
    spot_statement,
)
from otr_core.dispute.game import statement as game_statement
from otr_core.dispute.play import play as play_game
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.registry import NOTICE_S
from otr_core.dispute.state import SEED, Verdict
from otr_core.errors import ChainError
from otr_core.lane import program as pr
from otr_core.poea.equivocation import Equivocation
from otr_core.poea.receipt import SignedReceipt, sign_receipt
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import FOLDER
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.parties import CLIENT, FISHERMAN, KEY_ID, OPERATOR, OTHER, REGISTRAR, leaf_of
from otr_paper.labs.disputes.world import TERMS, random_tamper, tiny
from tests.helpers.coalition import CONTENTS, leaves_of, receipts
from tests.helpers.tiny_disputes import placed
from tests.helpers.unusable import words_of
from tests.otr_core.dispute.test_roles import UNFIT

pytestmark = pytest.mark.slow
SALT = b"s" * 32
EVERY = replace(TERMS, spot_bps=10_000, pause_s=500)
ANYONE = (OPERATOR, FISHERMAN, CLIENT, OTHER, REGISTRAR)

#: Accepts the statement itself as its proof, as the Python court's arbiter does here.
CREDULOUS = """
# pragma version 0.4.3
@view
@external
def shows(statement: bytes32, proof: Bytes[4096]) -> bool:
    return len(proof) == 32 and extract32(proof, 0) == statement
"""


def courts(tmp_path, terms=EVERY) -> Both:
    chain = Chain(accounts=6)
    path = tmp_path / "credulous.vy"
    path.write_text(CREDULOUS)
    contract, _ = chain.deploy(compile_vyper(path), sender=chain.accounts[5])
    return both(tiny().honest, terms, arbiter=lambda s, p: s == p, arbiter_address=contract.address, chain=chain)


def id_in(pair: Both, leaves: list[bytes]) -> bytes:
    return batch_id(pair.names[OPERATOR], merkle.root(leaves))


def opening(pair: Both, content: tuple[str, ...], index: int) -> dict[str, Any]:
    leaves = leaves_of(content)
    shown = {"batch": id_in(pair, leaves), "index": index, "token": 0, "salt": SALT}
    return shown | {"path": tuple(merkle.inclusion_proof(leaves, index))} | vars(receipts()[content[index]])


def hidden(pair: Both, who: str, subject: bytes, index: int = 0, kind: int = 0) -> bytes:
    return challenge_hash(pair.names[who], subject, index, kind, SALT)


def told(pair: Both) -> None:
    """The logs tell what the court holds."""
    court, logs = pair.court, pair.chain.logs

    def wei(found: dict[str, int]) -> dict[str, int]:
        return {who.lower(): value for who, value in found.items() if value}

    assert wei(logs.credits) == wei(dict(court.credits))
    assert logs.burnt_wei == court.burnt_wei
    assert wei(logs.stakes) == wei({who: each.stake_wei for who, each in court.operators.items()})
    assert wei(logs.rewards) == wei({who: each.reward_wei for who, each in court.operators.items()})
    assert wei(logs.costs) == wei({who: each.costs_wei for who, each in court.operators.items()})
    assert {who.lower() for who in logs.convicted} == {who for who, each in court.operators.items() if each.convicted}
    assert {who.lower() for who in logs.leaving} == {who for who, each in court.operators.items() if each.exit_at}
    assert list(logs.statuses.values()) == [each.status for each in court.challenges]
    assert [logs.challengers[n].lower() for n in logs.challengers] == [each.challenger for each in court.challenges]
    assert logs.final == {batch for batch, each in court.batches.items() if each.closed}
    held = {batch: (each.operator, each.root, each.size, each.payment_wei) for batch, each in court.batches.items()}
    assert {batch: (each[0].lower(), *each[1:]) for batch, each in logs.batches.items()} == held
    assert {(b, who.lower()): wei for (b, who), wei in logs.payments.items()} == dict(court.payments)
    assert sorted(logs.fuses) == sorted(court.fuses)
    assert logs.draws == [value for value, _ in court.draws]
    assert logs.revoked == dict(court.revoked)
    assert logs.pauses[-1:] == [court.pause[1]] * bool(court.pause[1])


def play(pair: Both, steps: list[tuple[str, int, str, str, tuple[Any, ...], dict[str, Any]]]) -> None:
    """Calls (expected reason, seconds later, sender, name, arguments, named ones), one after another."""
    now = pair.chain.chain.time
    for number, (expected, later, sender, name, args, more) in enumerate(steps):
        now += max(later, 1)
        assert pair.do(now, sender, name, *args, **more) == expected, (number, name, args)
    told(pair)


def test_duties_go_the_same_way_in_both(tmp_path):
    pair = courts(tmp_path)
    honest, second = receipts()["honest"], receipts()["second"]
    leaves = leaves_of(("honest", "lie"))
    batch, bond = id_in(pair, leaves), {"value": TERMS.bond_wei}
    stranger = sign_receipt(hashlib.sha256(b"stranger").digest(), honest.order, honest.receipt)
    place = LeafPlace(batch, 0, tuple(merkle.inclusion_proof(leaves, 0)))
    shown = (OPERATOR, honest.receipt, honest.signature)
    later = (OPERATOR, second.receipt, second.signature)
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves), 2), {}),
        ("bond", 1, CLIENT, "demand", shown, {"value": TERMS.bond_wei - 1}),
        ("signature", 1, CLIENT, "demand", (OPERATOR, stranger.receipt, stranger.signature), bond),
        ("signature", 1, CLIENT, "demand", (OPERATOR, honest.receipt, honest.signature[:64]), bond),
        ("standing", 1, CLIENT, "demand", (OTHER, honest.receipt, honest.signature), bond),
        ("", 1, CLIENT, "demand", shown, bond),
        ("path", 1, OTHER, "show", (1, placed(place, at=1)), {}),
        ("path", 1, OTHER, "show", (1, placed(place, at=2)), {}),
        ("batch", 1, OTHER, "show", (1, placed(place, batch=bytes(32))), {}),
        ("duty", 1, CLIENT, "attest", (1, Verdict.OPERATOR_LOSES, bytes(32)), {}),
        ("early", 1, CLIENT, "lapse", (1,), {}),
        ("", EVERY.duty_s - 5, OTHER, "show", (1, place), {}),
        ("duty", 1, OTHER, "show", (1, place), {}),
        ("duty", 1, OPERATOR, "publish_receipt", (1,), {}),
        ("challenge", 1, OTHER, "lapse", (9,), {}),
        ("", 1, CLIENT, "demand", later, bond),
        ("sender", 1, OTHER, "publish_receipt", (2,), {}),
        ("", 1, OPERATOR, "publish_receipt", (2,), {}),
        ("", 1, CLIENT, "demand", later, bond),
        ("batch", 1, OPERATOR, "publish_receipt", (3,), {}),
        ("early", EVERY.duty_s - 1, OTHER, "lapse", (3,), {}),
        ("late", 1, OPERATOR, "publish_receipt", (3,), {}),
        ("late", 1, OTHER, "show", (3, place), {}),
        ("frozen", TERMS.window_s + TERMS.reveal_s, OTHER, "finalise", (batch,), {}),
        ("", 1, OTHER, "lapse", (3,), {}),
        ("duty", 1, OTHER, "lapse", (3,), {}),
        ("standing", 1, CLIENT, "demand", later, bond),
        ("", TERMS.claim_s + 1, OTHER, "pay_reward", (OPERATOR,), {}),
    ])  # fmt: skip


def test_draws_go_the_same_way_in_both(tmp_path):
    pair = courts(tmp_path)
    leaves = leaves_of(("honest", "lie"))
    batch = id_in(pair, leaves)

    def proof(number: int, verdict: Verdict) -> bytes:
        due = pair.court.challenges[number - 1].commitment
        return spot_statement(pair.court.domain, due, verdict)

    play(pair, [
        ("sender", 1, OPERATOR, "post_draw", (b"a" * 32,), {}),
        ("", 1, REGISTRAR, "post_draw", (b"a" * 32,), {}),
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves), 2), {}),
        ("draw", 1, FISHERMAN, "summon", (batch, 0, 0), {}),
        ("", 1, REGISTRAR, "post_draw", (b"b" * 32,), {}),
        ("", 1, REGISTRAR, "post_draw", (b"c" * 32,), {}),
        ("draw", 1, FISHERMAN, "summon", (batch, 0, 2), {}),
        ("draw", 1, FISHERMAN, "summon", (batch, 0, 3), {}),
        ("index", 1, FISHERMAN, "summon", (batch, 2, 1), {}),
        ("batch", 1, FISHERMAN, "summon", (bytes(32), 0, 1), {}),
        ("", 1, FISHERMAN, "summon", (batch, 0, 1), {}),
        ("drawn", 1, OTHER, "summon", (batch, 0, 1), {}),
        ("", 1, OTHER, "summon", (batch, 1, 1), {}),
    ])  # fmt: skip
    right, wrong = Verdict.CHALLENGER_LOSES, Verdict.OPERATOR_LOSES
    play(pair, [
        ("proof", 1, OTHER, "attest", (1, wrong, proof(1, right)), {}),
        ("proof", 1, OTHER, "attest", (1, right, proof(2, right)), {}),
        ("proof", 1, OTHER, "attest", (1, Verdict.NONE, proof(1, Verdict.NONE)), {}),
        ("proof", 1, OTHER, "attest", (1, Verdict.WITHDRAWN, proof(1, Verdict.WITHDRAWN)), {}),
        ("", 1, OTHER, "attest", (1, right, proof(1, right)), {}),
        ("duty", 1, OTHER, "attest", (1, right, proof(1, right)), {}),
        ("early", EVERY.duty_s - 9, OTHER, "lapse", (2,), {}),
        ("", 1, OTHER, "attest", (2, wrong, proof(2, wrong)), {}),
        ("void", 1, OTHER, "summon", (batch, 1, 1), {}),
        ("early", 1, OTHER, "pay_reward", (OPERATOR,), {}),
        ("", TERMS.claim_s + 1, OTHER, "pay_reward", (OPERATOR,), {}),
    ])  # fmt: skip


def test_an_answer_is_summoned_in_its_batchs_window_in_both(tmp_path):
    pair, leaves = courts(tmp_path), leaves_of(("honest", "lie"))
    batch = id_in(pair, leaves)
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves), 2), {}),
        ("", 1, REGISTRAR, "post_draw", (b"a" * 32,), {}),
        ("", TERMS.window_s - 1, FISHERMAN, "summon", (batch, 0, 0), {}),
        ("window", 1, FISHERMAN, "summon", (batch, 1, 0), {}),
    ])  # fmt: skip


def test_offences_without_a_game_go_the_same_way_in_both(tmp_path):
    honest, second = receipts()["honest"], receipts()["second"]
    forged = sign_receipt(hashlib.sha256(b"stranger").digest(), honest.order, second.receipt)
    order = replace(honest.order, nonce=bytes(32))
    elsewhere = sign_receipt(hashlib.sha256(b"key").digest(), order, replace(honest.receipt, order_id=order.id))
    bond = {"value": TERMS.bond_wei}
    pair = courts(tmp_path)

    def shown(first: SignedReceipt, other: SignedReceipt, salt: bytes = SALT) -> tuple[Any, ...]:
        return 1, OPERATOR, Equivocation(first, other), salt

    order_id = honest.receipt.order_id
    play(pair, [
        ("bond", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, order_id, 0, TWO_ANSWERS),), {"value": 1}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, order_id, 0, TWO_ANSWERS),), bond),
        ("sender", 1, OTHER, "equivocation", shown(honest, second), {}),
        ("commitment", 1, FISHERMAN, "equivocation", shown(honest, second, bytes(32)), {}),
        ("standing", 1, FISHERMAN, "equivocation", (1, CLIENT, Equivocation(honest, second), SALT), {}),
        ("order", 1, FISHERMAN, "equivocation", shown(honest, elsewhere), {}),
        ("statement", 1, FISHERMAN, "equivocation", shown(honest, honest), {}),
        ("signature", 1, FISHERMAN, "equivocation", shown(honest, forged), {}),
        ("signature", 1, FISHERMAN, "equivocation", shown(forged, honest), {}),
        ("", 1, FISHERMAN, "equivocation", shown(honest, second), {}),
        ("opened", 1, FISHERMAN, "equivocation", shown(honest, second), {}),
    ])  # fmt: skip

    pair = courts(tmp_path)
    leaves = leaves_of(("honest", "honest"))
    leaf, batch = merkle.leaf_hash(leaf_of(honest)), id_in(pair, leaves)
    first, other = (LeafPlace(batch, at, tuple(merkle.inclusion_proof(leaves, at))) for at in (0, 1))
    theirs = LeafPlace(batch_id(pair.names[OTHER], merkle.root(leaves)), 0, first.path)
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves), 2), {}),
        ("", 1, OTHER, "register", (), {"value": TERMS.least_stake_wei}),
        ("", 1, OTHER, "commit_batch", (merkle.root(leaves), 2), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, leaf, 0, TWO_PLACES),), bond),
        ("place", 1, FISHERMAN, "two_places", (1, leaf, first, first, SALT), {}),
        ("batch", 1, FISHERMAN, "two_places", (1, leaf, first, theirs, SALT), {}),
        ("batch", 1, FISHERMAN, "two_places", (1, leaf, placed(first, batch=leaf), other, SALT), {}),
        ("path", 1, FISHERMAN, "two_places", (1, leaf, first, placed(other, path=()), SALT), {}),
        ("path", 1, FISHERMAN, "two_places", (1, leaf, placed(first, at=3), other, SALT), {}),
        ("commitment", 1, FISHERMAN, "two_places", (1, bytes(32), first, other, SALT), {}),
        ("sender", 1, OTHER, "two_places", (1, leaf, first, other, SALT), {}),
        ("late", TERMS.reveal_s, FISHERMAN, "two_places", (1, leaf, first, other, SALT), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, leaf, 0, TWO_PLACES),), bond),
        ("", 1, FISHERMAN, "two_places", (2, leaf, first, other, SALT), {}),
    ])  # fmt: skip


def test_roles_and_pauses_go_the_same_way_in_both(tmp_path):
    pair = courts(tmp_path)
    content = ("honest",)
    root, bond = merkle.root(leaves_of(content)), {"value": TERMS.bond_wei}
    batch = id_in(pair, leaves_of(content))
    play(pair, [
        ("sender", 1, OTHER, "revoke", (KEY_ID,), {}),
        ("sender", 1, OTHER, "pause_clocks", (), {}),
        ("sender", 1, OTHER, "name_heir", (OTHER,), {}),
        ("", 1, OPERATOR, "commit_batch", (root, 1), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, batch),), bond),
        ("", 1, REGISTRAR, "pause_clocks", (), {}),
        ("early", 1, REGISTRAR, "pause_clocks", (), {}),
        ("early", TERMS.reveal_s + EVERY.pause_s - 3, OTHER, "expire", (1,), {}),
        ("", 1, FISHERMAN, "open", (1,), opening(pair, content, 0)),
        ("early", TERMS.clock_s, OTHER, "timeout", (1,), {}),
        ("", 1, OTHER, "timeout", (1,), {}),
        ("", 1, REGISTRAR, "revoke", (KEY_ID,), {}),
        ("revoked", 1, REGISTRAR, "revoke", (KEY_ID,), {}),
        ("", 1, REGISTRAR, "name_heir", (OTHER,), {}),
        ("sender", 1, CLIENT, "inherit", (), {}),
        ("early", TERMS.exit_s - 2, OTHER, "inherit", (), {}),
        ("early", 1, OTHER, "inherit", (), {}),
        ("", 2, OTHER, "inherit", (), {}),
        ("sender", 1, REGISTRAR, "revoke", (bytes(32),), {}),
        ("", 1, OTHER, "pause_clocks", (), {}),
    ])  # fmt: skip


@pytest.mark.parametrize("late", [0, 1])
def test_a_revocation_counts_from_the_same_second_in_both(tmp_path, late):
    pair = courts(tmp_path)
    content = ("honest",)
    root, bond = merkle.root(leaves_of(content)), {"value": TERMS.bond_wei}
    batch = id_in(pair, leaves_of(content))
    play(pair, [
        ("", 1, REGISTRAR, "revoke", (KEY_ID,), {}),
        ("", NOTICE_S + late, OPERATOR, "commit_batch", (root, 1), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, batch),), bond),
        ("", 1, FISHERMAN, "open", (1,), opening(pair, content, 0)),
        ("duty", 1, OTHER, "lapse", (1,), {}),
    ])  # fmt: skip
    won = pair.court.challenges[0].status == ChallengeStatus.WON
    assert won == bool(late)


def test_the_last_second_of_every_deadline_is_the_same_in_both(tmp_path):
    """In it what has a deadline is in time and what comes after is early; a second later the other
    way round. Two challenges of one answer, a second apart, have the last second in turn."""
    pair, content = courts(tmp_path), ("honest",)
    bond, shown = {"value": TERMS.bond_wei}, HonestOperator(tiny().honest)
    batch, second = id_in(pair, leaves_of(content)), id_in(pair, leaves_of(("second",)))
    demanded = [(OPERATOR, receipts()[name].receipt, receipts()[name].signature) for name in ("honest", "lie")]
    challenge = (FISHERMAN, "challenge", (hidden(pair, FISHERMAN, batch),), bond)
    opens, window, reveal = opening(pair, content, 0), TERMS.window_s, TERMS.reveal_s
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves_of(content)), 1), {}),
        ("", window - 1, *challenge),
        ("", 1, *challenge),  # in the last second of the window
        ("", 1, *challenge),
        ("", reveal - 2, FISHERMAN, "open", (1,), opens),
        ("", 1, FISHERMAN, "open", (2,), opens),
        ("early", 1, OTHER, "expire", (3,), {}),
        ("late", 1, FISHERMAN, "open", (3,), opens),
        ("", 1, OTHER, "expire", (3,), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, batch),), bond),
        ("window", 1, FISHERMAN, "open", (4,), opens),
    ])  # fmt: skip
    first = pair.court.challenges[0]
    assert first.game is not None
    children, end = shown.children(first.game), first.last_time + TERMS.clock_s - pair.chain.chain.time
    play(pair, [
        ("", end, OPERATOR, "move", (1, "bisect", children), {}),
        ("", 1, OPERATOR, "move", (2, "bisect", children), {}),
        ("early", TERMS.clock_s - 1, OTHER, "timeout", (1,), {}),
        ("late", 1, FISHERMAN, "move", (1, "choose", 0, bytes(32), ()), {}),
        ("", 1, OTHER, "timeout", (1,), {}),
        ("", 1, OTHER, "timeout", (2,), {}),
        ("", 1, CLIENT, "demand", demanded[0], bond),
        ("", EVERY.duty_s, OTHER, "show", (5, LeafPlace(batch, 0, ())), {}),
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves_of(("second",))), 1), {}),
        ("early", window + reveal, OTHER, "finalise", (second,), {}),
        ("", 1, OTHER, "finalise", (second,), {}),
        ("", 1, CLIENT, "demand", demanded[1], bond),
        ("early", EVERY.duty_s, OTHER, "lapse", (6,), {}),
        ("late", 1, OPERATOR, "publish_receipt", (6,), {}),
        ("", 1, OTHER, "lapse", (6,), {}),
        ("early", TERMS.claim_s, OTHER, "pay_reward", (OPERATOR,), {}),
        ("", 1, OTHER, "pay_reward", (OPERATOR,), {}),
        ("", 1, OPERATOR, "request_exit", (), {}),
        ("exit", TERMS.exit_s, OPERATOR, "withdraw_stake", (), {}),
        ("", 1, OPERATOR, "withdraw_stake", (), {}),
    ])  # fmt: skip


def test_who_is_convicted_or_leaving_begins_nothing_new_in_both(tmp_path):
    """And what a conviction or the end of a window decides is decided. A tenth is slashed: the rest
    would be stake enough."""
    pair = courts(tmp_path, replace(EVERY, slash_bps=1_000))
    bond, stake = {"value": TERMS.bond_wei}, {"value": TERMS.least_stake_wei}
    one, lie, decoy = (leaves_of(content) for content in (("honest",), ("poison",), ("lie",)))
    final, void = id_in(pair, one), id_in(pair, lie)
    honest = receipts()["honest"]
    unlisted = receipts()["second"]
    theirs = LeafPlace(batch_id(pair.names[OTHER], merkle.root(one)), 0, ())
    play(pair, [
        ("size", 1, OPERATOR, "commit_batch", (merkle.root(one), 2**32 + 1), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, final),), bond),
        ("", 5, OPERATOR, "commit_batch", (merkle.root(one), 1), {}),
        ("", 1, CLIENT, "escrow", (final,), {"value": 70}),
        ("window", 1, FISHERMAN, "open", (1,), opening(pair, ("honest",), 0)),
        ("", TERMS.window_s + TERMS.reveal_s + 1, OTHER, "finalise", (final,), {}),
        ("escrow", 1, CLIENT, "escrow", (final,), {"value": 70}),
        ("", 1, OTHER, "register", (), stake),
        ("", 1, OTHER, "commit_batch", (merkle.root(one), 1), {}),
        ("", 1, OTHER, "request_exit", (), {}),
        ("standing", 1, OTHER, "register", (), stake),
        ("standing", 1, OTHER, "commit_batch", (merkle.root(decoy), 1), {}),
        ("", 1, OPERATOR, "commit_batch", (merkle.root(lie), 1), {}),
        ("", 1, CLIENT, "escrow", (void,), {"value": 70}),
        ("", 1, CLIENT, "demand", (OPERATOR, unlisted.receipt, unlisted.signature), bond),
        ("", 1, CLIENT, "demand", (OPERATOR, honest.receipt, honest.signature), bond),
        ("batch", 1, OTHER, "show", (3, theirs), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, void),), bond),
        ("", 1, FISHERMAN, "open", (4,), opening(pair, ("poison",), 0)),
        ("over", 1, FISHERMAN, "close", (4,), {}),
        ("standing", 1, OPERATOR, "register", (), stake),
        ("standing", 1, OPERATOR, "commit_batch", (merkle.root(decoy), 1), {}),
        ("standing", 1, OPERATOR, "publish_receipt", (2,), {}),
        ("escrow", 1, CLIENT, "escrow", (void,), {"value": 70}),
        ("void", 1, CLIENT, "refund", (final,), {}),
        ("", 1, OTHER, "challenge", (hidden(pair, OTHER, void),), bond),
        ("void", 1, OTHER, "open", (5,), opening(pair, ("poison",), 0)),
        ("", 1, CLIENT, "refund", (void,), {}),
        ("over", 1, FISHERMAN, "close", (1,), {}),
    ])  # fmt: skip


def test_a_challenge_that_was_committed_after_the_window_opens_nothing_in_both(tmp_path):
    pair, content = courts(tmp_path), ("honest",)
    batch = id_in(pair, leaves_of(content))
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves_of(content)), 1), {}),
        ("", TERMS.window_s + 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, batch),), {"value": TERMS.bond_wei}),
        ("window", 1, FISHERMAN, "open", (1,), opening(pair, content, 0)),
    ])  # fmt: skip


def test_nothing_is_drawn_at_a_rate_of_none_or_without_an_arbiter_in_both(tmp_path):
    chain = Chain(accounts=6)
    alone = both(tiny().honest, EVERY, chain=chain)
    for pair, reason in ((courts(tmp_path, replace(EVERY, spot_bps=0)), "draw"), (alone, "arbiter")):
        leaves = leaves_of(("honest",))
        play(pair, [
            ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves), 1), {}),
            ("", 1, REGISTRAR, "post_draw", (b"a" * 32,), {}),
            (reason, 1, FISHERMAN, "summon", (id_in(pair, leaves), 0, 0), {}),
        ])  # fmt: skip
    challenge = hidden(alone, FISHERMAN, id_in(alone, leaves))
    now = alone.chain.chain.time
    assert alone.do(now, FISHERMAN, "challenge", challenge, value=TERMS.bond_wei) == ""
    assert alone.do(now + 1, FISHERMAN, "open", 1, **opening(alone, ("honest",), 0)) == ""
    assert alone.arbitrate(now + 2, FISHERMAN, 1, Verdict.OPERATOR_LOSES, bytes(32)) == "arbiter"


def test_an_arbiter_gives_one_of_two_verdicts_in_both(tmp_path):
    pair, leaves = courts(tmp_path), leaves_of(("honest",))
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves), 1), {}),
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, id_in(pair, leaves)),), {"value": TERMS.bond_wei}),
        ("", 1, FISHERMAN, "open", (1,), opening(pair, ("honest",), 0)),
    ])  # fmt: skip
    game = pair.court.challenges[0].game
    assert game is not None
    for later, verdict in enumerate((Verdict.NONE, Verdict.WITHDRAWN)):
        proof = game_statement(pair.court.domain, 1, game.claim.trace_root, verdict)
        assert pair.arbitrate(pair.chain.chain.time + later, FISHERMAN, 1, verdict, proof) == "arbiter"


def random_step(pair: Both, random: Random) -> tuple[str, str, tuple[Any, ...], dict[str, Any]]:
    """One call that anyone could make, legal or not."""
    court, content = pair.court, random.choice(CONTENTS)
    leaves, index = leaves_of(content), random.randrange(len(content))
    batch, number, who = id_in(pair, leaves), random.randint(0, len(court.challenges) + 1), random.choice(ANYONE)
    signed, leaf = receipts()[content[index]], merkle.leaf_hash(leaves[index])
    place = LeafPlace(batch, index, tuple(merkle.inclusion_proof(leaves, index)))
    two = Equivocation(receipts()["honest"], signed)
    bond = random.choice((TERMS.bond_wei,) * 5 + (0, 1))
    kind = random.choice(((batch, index, 0),) * 4 + ((leaf, 0, TWO_PLACES), (signed.receipt.order_id, 0, TWO_ANSWERS)))
    due = [each for each, c in enumerate(court.challenges, 1) if c.status in
           (ChallengeStatus.COMMITTED, ChallengeStatus.DEMAND, ChallengeStatus.SPOT, ChallengeStatus.OPEN)]  # fmt: skip
    number = random.choice(due) if due and random.random() < 0.7 else number
    owner = court.challenges[number - 1].challenger if 1 <= number <= len(court.challenges) else ""
    owner = next((name for name, address in pair.names.items() if address == owner), who)
    mine = random.choice((owner, owner, who))
    known = court.challenges[number - 1].commitment if 1 <= number <= len(court.challenges) else b""
    every = [(c, i) for c in CONTENTS for i in range(len(c))]
    fits = [(c, i) for c, i in every if hidden(pair, owner, id_in(pair, leaves_of(c)), i) == known]
    shown = opening(pair, *(fits[0] if fits else (content, index)))
    verdict = random.choice((Verdict.OPERATOR_LOSES, Verdict.CHALLENGER_LOSES, Verdict.NONE))
    told_of = spot_statement(court.domain, known or leaf, verdict)
    value, whom = random.choice((0, 1, 10**9, 10**18, 10**19)), random.choice((OPERATOR, OPERATOR, OTHER))
    steps: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = [
        (OPERATOR, "commit_batch", (merkle.root(leaves), len(content)), {}),
        (who, "commit_batch", (merkle.root(leaves), random.choice((0, 1, 2, 2**32 + 1))), {}),
        (who, "register", (), {"value": value}),
        (who, "escrow", (batch,), {"value": value}),
        (who, "finalise", (batch,), {}),
        (who, "refund", (batch,), {}),
        (who, "challenge", (hidden(pair, who, *kind),), {"value": bond}),
        (who, "challenge", (hidden(pair, who, batch, index),), {"value": TERMS.bond_wei}),
        *3 * [(mine, "open", (number,), shown)],
        (who, "expire", (number,), {}),
        (who, "timeout", (number,), {}),
        (mine, "close", (number,), {}),
        (who, "demand", (whom, signed.receipt, signed.signature), {"value": bond}),
        (who, "show", (number, place), {}),
        (random.choice((OPERATOR, who)), "publish_receipt", (number,), {}),
        (who, "lapse", (number,), {}),
        (random.choice((REGISTRAR, who)), "post_draw", (random.randbytes(32),), {}),
        *2 * [(who, "summon", (batch, random.choice((index, 9)), random.randint(0, len(court.draws))), {})],
        *2 * [(who, "attest", (number, verdict, told_of), {})],
        (mine, "equivocation", (number, random.choice((OPERATOR, OTHER)), two, SALT), {}),
        (mine, "two_places", (number, leaf, place, placed(place, at=0), SALT), {}),
        (who, "pay_reward", (random.choice((OPERATOR, OTHER)),), {}),
        (who, "withdraw", (), {}),
        (random.choice((REGISTRAR, who)), "pause_clocks", (), {}),
        (OTHER, "request_exit", (), {}),
        (OTHER, "withdraw_stake", (), {}),
    ]  # fmt: skip
    return random.choice(steps)


@pytest.mark.parametrize("seed", range(4))
def test_random_calls_legal_and_illegal_are_answered_alike(seed, tmp_path):
    random, pair, reasons = Random(seed), courts(tmp_path, replace(EVERY, spot_bps=6_000)), set()
    now = pair.chain.chain.time
    for _ in range(60):
        now += random.choice((1, 1, 1, 5, 601, 3_001))
        sender, name, args, more = random_step(pair, random)
        reasons.add((name, pair.do(now, sender, name, *args, **more)))
    told(pair)
    assert len(reasons) > 25


def test_only_a_dispute_freezes_business_in_both(tmp_path):
    pair = courts(tmp_path)
    content, run = ("honest",), tiny().honest
    batch, asked = id_in(pair, leaves_of(content)), {"token": SEED}
    commitment = challenge_hash(pair.names[FISHERMAN], batch, 0, SEED, SALT)
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves_of(content)), 1), {}),
        ("", 1, FISHERMAN, "challenge", (commitment,), {"value": TERMS.bond_wei}),
        ("", 1, FISHERMAN, "open", (1,), opening(pair, content, 0) | asked),
        ("", 1, OPERATOR, "commit_batch", (b"n" * 32, 1), {}),
        ("", 1, OPERATOR, "move", (1, "reveal_seed", run.seed), {}),
        ("", 1, OPERATOR, "commit_batch", (b"o" * 32, 1), {}),
        ("", 1, FISHERMAN, "move", (1, "dispute", 0), {}),
        ("frozen", 1, OPERATOR, "commit_batch", (b"p" * 32, 1), {}),
        ("early", 1, OTHER, "timeout", (1,), {}),
        ("", TERMS.clock_s, OTHER, "timeout", (1,), {}),
    ])  # fmt: skip
    with pytest.raises(ChainError) as failure:
        pair.chain.chain.transact(pair.chain.court, "freeze", 1, sender=pair.names[OTHER])
    assert failure.value.check == "sender"


@pytest.mark.parametrize(("unfit", "fit"), UNFIT)
def test_a_judge_of_a_model_whose_disputes_do_not_fit_does_not_deploy(unfit, fit, judge_chain):
    chain, code, dims = judge_chain
    chain.deploy(code, words_of(replace(dims, **fit)), bytes(32), bytes(32), [])
    with pytest.raises(ChainError) as failure:
        chain.deploy(code, words_of(replace(dims, **unfit)), bytes(32), bytes(32), [])
    assert failure.value.check in ("dims", "reverted")


@pytest.fixture(scope="module")
def judge_chain():
    return Chain(accounts=1), compile_vyper(FOLDER / "judge.vy"), tiny().trees.dims


GAS_PRICE_WEI = 2 * 10**9
"""Two gwei, above what blocks of 2026 have cost (data/published); the terms' ``cost_wei`` is a
million gas at it."""


def test_a_catcher_gets_at_least_its_gas_back_even_if_it_comes_second(tmp_path):
    """The operator's own fisherman has committed to a decoy before; the honest one plays its game of
    a false answer to the end all the same."""
    pair = courts(tmp_path)
    decoy, lie = ("poison",), ("lie",)
    bond = {"value": TERMS.bond_wei}
    play(pair, [
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves_of(decoy)), 1), {}),
        ("", 1, OPERATOR, "commit_batch", (merkle.root(leaves_of(lie)), 1), {}),
        ("", 1, OTHER, "challenge", (hidden(pair, OTHER, id_in(pair, leaves_of(decoy))),), bond),
    ])  # fmt: skip
    spent = len(pair.chain.ledger)
    play(pair, [
        ("", 1, FISHERMAN, "challenge", (hidden(pair, FISHERMAN, id_in(pair, leaves_of(lie))),), bond),
        ("", 1, FISHERMAN, "open", (2,), opening(pair, lie, 0)),
    ])  # fmt: skip
    gas = sum(each.gas for each in pair.chain.ledger[spent:])
    play(pair, [("", 1, OTHER, "open", (1,), opening(pair, decoy, 0))])
    false = tiny().run(replace(random_tamper(tiny(), Random(8), pr.LayerOperator.OUTPUT), delta=2**20))
    pair.number, spent = 2, len(pair.chain.ledger)
    players = HonestOperator(false), HonestChallenger(tiny().honest)
    court, log = play_game(pair.court, 2, *players, now=pair.chain.chain.time, observe=pair.observe)
    moves = zip(log, pair.chain.ledger[spent:], strict=True)
    gas += sum(each.gas for step, each in moves if step.who == "challenger")
    pair.number = 0
    fisherman = pair.names[FISHERMAN]
    assert court.challenges[1].status == ChallengeStatus.WON
    gain = court.credits[fisherman] - TERMS.bond_wei
    assert gain == TERMS.cost_wei >= gas * GAS_PRICE_WEI
    play(pair, [("", TERMS.claim_s + 1, OTHER, "pay_reward", (OPERATOR,), {})])
    assert pair.court.credits[pair.names[OTHER]] > TERMS.bond_wei
