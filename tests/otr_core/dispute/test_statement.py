"""Every lie about a field of an answer statement convicts, and no bait costs the fisherman
anything."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.game import open_game
from otr_core.dispute.play import Step, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, case
from otr_core.dispute.records import ChallengeStatus
from otr_core.dispute.registry import receipt_fault
from otr_core.dispute.state import SEED, TOKENS, AnswerClaim
from otr_core.lane.element import LAYER, program
from otr_core.poea.receipt import Receipt, SignedReceipt
from otr_node.chain.onchain import FIRST_COURT
from otr_node.run import Run
from otr_paper.labs.disputes.parties import FISHERMAN, OPERATOR, leaf_of, registered_model
from otr_paper.labs.disputes.statement_lies import BY_ITSELF, LIES_OF, SALT, SILENCE, TABLE, UNSEEN, Told
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from tests.helpers.tiny_disputes import tiny_court


def claim_of(signed: SignedReceipt, own: Run) -> AnswerClaim:
    return open_game(signed.order, signed.receipt, registered_model(own.trees), 2, 0).claim


def disputed(told: Told, token: int) -> tuple[Court, Court, list[Step]]:
    """The court when the challenge is open, and after the game."""
    signed = told.signed
    court = tiny_court(tiny(signed.order.decoding.temperature_milli, lane=told.own.trees.dims.lane))
    root = merkle.root([leaf_of(signed)])
    court = court.commit_batch(START + 1, OPERATOR, root, 1)
    batch = batch_id(OPERATOR, root)
    commitment = challenge_hash(FISHERMAN, batch, 0, token, SALT)
    court = court.challenge(START + 2, FISHERMAN, commitment, TERMS.bond_wei)
    opening = {"batch": batch, "index": 0, "token": token, "salt": SALT, "path": (), **vars(signed)}
    court = court.open(START + 3, FISHERMAN, 1, **opening)
    if court.challenges[0].game is None:
        return court, court, []
    return court, *play(court, 1, told.operator, HonestChallenger(told.own), now=START + 3)


@pytest.mark.parametrize(
    ("lane", "lie"), [pytest.param(lane, lie, id=f"{lane}, {lie.name}") for lane in LIES_OF for lie in LIES_OF[lane]]
)
def test_every_lie_convicts_by_its_move(lane, lie):
    told = lie.tell(lane)
    signed, token = told.signed, 0
    if lie.ends == BY_ITSELF:
        court = tiny_court(tiny(signed.order.decoding.temperature_milli, lane=lane))
        key, model = court.keys.get(signed.receipt.key_id), court.models.get(signed.order.model_id)
        assert receipt_fault(FIRST_COURT, OPERATOR, key, model, *vars(signed).values()) == lie.reason
    else:
        found = case(told.own, claim_of(signed, told.own), told.own.trees.stop_ids)
        assert found is not None
        token = found
    _, after, log = disputed(told, token)
    assert after.operators[OPERATOR].convicted
    assert after.challenges[0].status == ChallengeStatus.WON
    assert (log[-1].move[0] if log else BY_ITSELF) == lie.ends
    # nobody is shown to be wrong by running out of time alone: there was no move to make
    assert lie.ends != SILENCE or log[-1].refused
    assert after.credits[FISHERMAN] >= TERMS.bond_wei


def test_every_field_of_the_receipt_is_in_the_table():
    fields = [member for member, _, _ in Receipt.members]
    for lies in LIES_OF.values():
        told = [lie.part for lie in lies]
        assert {*told, *UNSEEN} == set(fields)
        assert not {*told} & {*UNSEEN}
        assert len({lie.name for lie in lies}) == len(lies)
    assert {lie.name for lie in TABLE} == {lie.name for lies in LIES_OF.values() for lie in lies}
    assert len({lie.name for lie in TABLE}) == len(TABLE)


@pytest.mark.parametrize("lane", LIES_OF)
def test_a_lie_that_may_stand_in_many_places_stands_where_its_seed_says(lane):
    """Its receipt is another; that of a lie of which nothing is drawn is the same."""
    drawn = {lie.name for lie in LIES_OF[lane] if lie.tell(lane).signed.receipt != lie.tell(lane, 2).signed.receipt}
    values = {lie.name for lie in LIES_OF[lane] if lie.lie.startswith("a wrong value")}
    assert len(values) == len(program(tiny(lane=lane).trees.dims, LAYER, 0, 0))
    assert drawn == values | {"statesRoot: a state under another salt"}


def test_an_honest_answer_is_not_disputed():
    for milli in (0, 1500):
        served = tiny(milli)
        signed = tiny_signed(served.honest)
        claim = claim_of(signed, served.honest)
        assert case(served.honest, claim, served.honest.trees.stop_ids) is None


def test_a_response_with_another_seed_costs_nobody_anything():
    """The statement is right, and the response holds another seed: who cannot open it sees no
    fraud; the fisherman demands the seed, finds all right and withdraws."""
    served = tiny()
    own = served.honest.with_seed(bytes(32))
    told = Told(tiny_signed(served.honest), HonestOperator(served.honest), own)
    assert case(own, claim_of(told.signed, own), ()) == SEED
    before, after, log = disputed(told, SEED)
    assert [step.move[0] for step in log] == ["reveal_seed", "retract"]
    assert after.challenges[0].status == ChallengeStatus.MOOT
    assert not after.operators[OPERATOR].convicted
    assert after.operators[OPERATOR].stake_wei == before.operators[OPERATOR].stake_wei
    assert after.credits[FISHERMAN] == TERMS.bond_wei


def test_a_seed_that_was_kept_back_opens_every_other_dispute():
    """After the seed is revealed, whatever is wrong is disputed in the same game."""
    served = tiny()
    false = served.with_token(3, served.honest.token_ids[3] + 1)
    own = served.honest.with_seed(bytes(32))
    told = Told(tiny_signed(false), HonestOperator(false), own)
    _, after, log = disputed(told, SEED)
    assert [step.move[0] for step in log][:2] == ["reveal_seed", "dispute"]
    assert after.operators[OPERATOR].convicted


@pytest.mark.parametrize("token", [0, 1, 4, 5, 14, TOKENS, SEED])
def test_no_dispute_of_an_honest_answer_convicts(token):
    """Whatever is disputed, by a challenger that compares with a run of its own."""
    served = tiny()
    told = Told(tiny_signed(served.honest), HonestOperator(served.honest), served.honest)
    _, after, _ = disputed(told, token)
    assert not after.operators[OPERATOR].convicted
    assert after.operators[OPERATOR].stake_wei == 3 * TERMS.least_stake_wei


@pytest.mark.parametrize("milli", [0, 1500])
def test_a_fisherman_who_runs_the_claimed_tokens_finds_the_token(milli):
    """With the response at hand the false token is pointed at from the start."""
    served = tiny(milli)
    for step in range(len(served.honest.token_ids)):
        false = served.with_token(step, served.honest.token_ids[step] + 1)
        own = served.run(token_ids=false.token_ids)
        signed = tiny_signed(false)
        token = case(own, claim_of(signed, own), own.trees.stop_ids)
        assert token == len(false.prompt_ids) + step
        _, after, log = disputed(Told(signed, HonestOperator(false), own), token)
        assert after.operators[OPERATOR].convicted
        assert log[0].move[0] == "expand_token"


def test_an_answer_of_another_length_than_the_own_run_is_found():
    """Shorter, longer, and one that differs long before its end."""
    served = tiny(1500)
    ids = served.honest.token_ids
    for claimed in (ids[:1], ids[:5], (*ids, 4), (*ids, 4, 4, 4), (*ids[:2], ids[2] + 1, *ids[3:], 5, 5)):
        false = served.run(token_ids=claimed)
        signed = tiny_signed(false)
        token = case(served.honest, claim_of(signed, served.honest), served.honest.trees.stop_ids)
        assert token is not None
        _, after, log = disputed(Told(signed, HonestOperator(false), served.honest), token)
        assert after.operators[OPERATOR].convicted, [step.move[0] for step in log]


def test_a_free_hash_in_the_place_of_leaves_that_nobody_has():
    """An own run that ended earlier knows nothing of what comes after: a node of zeros is not what
    it knows."""
    served = tiny(1500)
    false = served.run(token_ids=(*served.honest.token_ids, 4, 4, 4))
    signed = tiny_signed(false)
    zero = replace(signed.receipt, states_root=bytes(32))
    assert case(served.honest, claim_of(replace(signed, receipt=zero), served.honest), (2,)) == 0
