"""Many challengers of one honest answer: the verdict keeps its bound while the operator can send
its moves in time."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from otr_core import merkle
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import Court
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.players import HonestOperator
from otr_paper.labs.disputes.cheats import Griefer
from otr_paper.labs.disputes.parties import OPERATOR, leaf_of
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from otr_paper.studies import dispute_costs
from otr_paper.studies.crowd import Crowd, play_crowd
from tests.helpers.tiny_disputes import tiny_court


def besieged(count: int, clock_s: int) -> Court:
    served = tiny()
    court = tiny_court(served, replace(TERMS, clock_s=clock_s))
    signed = tiny_signed(served.honest)
    root = merkle.root([leaf_of(signed)])
    court, batch = court.commit_batch(START, OPERATOR, root, 1), batch_id(OPERATOR, root)
    for number in range(1, count + 1):
        who, salt = f"0x{number:040x}", bytes([number]) * 32
        court = court.challenge(START, who, challenge_hash(who, batch, 0, 0, salt), TERMS.bond_wei)
        court = court.open(START, who, number, batch=batch, index=0, token=0, salt=salt, path=(), **vars(signed))
    return court


def siege(count: int, clock_s: int, *, slot_s: int, stall: bool) -> Crowd:
    court = besieged(count, clock_s)
    seeds = Random(4)
    return play_crowd(
        court, range(1, count + 1), HonestOperator(tiny().honest), lambda: Griefer(Random(seeds.random())), now=START,
        slot_s=slot_s, stall=stall,
    )  # fmt: skip


@pytest.mark.parametrize("stall", [True, False])
@pytest.mark.parametrize("count", [1, 5, 32])
def test_the_last_verdict_is_within_one_game_however_many_challenge(count, stall):
    rounds = dispute_costs.most_rounds(tiny().trees.dims, len(tiny().honest.fed), TERMS.arity_bits)
    crowd = siege(count, 12_000, slot_s=12, stall=stall)
    assert (crowd.games, crowd.operator_lost) == (count, 0)
    assert crowd.last_verdict_s <= dispute_costs.longest_game_s(replace(TERMS, clock_s=12_000), rounds)


def test_an_operator_that_cannot_send_its_moves_in_time_loses():
    """The bound's condition: the queue of one move a game must fit the clock."""
    assert siege(12, 100, slot_s=60, stall=False).operator_lost > 0
