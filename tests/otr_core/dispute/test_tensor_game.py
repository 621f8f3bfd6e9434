"""The game about an answer in the lane h100-bf16: down to one step, and in a product of matrices to one
block, whoever lies about what; an honest answer stands."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from otr_core.dispute.court import Court
from otr_core.dispute.play import most_moves, play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.registry import configuration_of, receipt_fault
from otr_core.dispute.state import Game, Verdict
from otr_core.lane.element import LAYER, TOKEN, Place, program
from otr_core.lane.program import Kind
from otr_core.lane.tensor_steps import LANE
from otr_node.run import Run
from otr_paper.benches.block_disputes import OperatorOfFalseBlock, PointingChallenger, false_block
from otr_paper.labs.disputes.chance import against_challenger, against_operator, random_trace
from otr_paper.labs.disputes.free import FreeTrace
from otr_paper.labs.disputes.parties import new_court
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from tests.helpers.tiny_disputes import filed, tiny_court

BLOCKS = (Kind.BLOCKS, Kind.SCORE_BLOCKS, Kind.MIX_BLOCKS)
POSITION, LAYER_NUMBER = 9, 1


@functools.cache
def court(temperature: int) -> Court:
    return new_court(tiny(temperature, lane=LANE).honest, TERMS, now=START, stake_wei=3 * TERMS.least_stake_wei)


def ended(operator, challenger, claimed: Run, token: int = 0) -> Game:
    """The game's end."""
    start = filed(tiny_court(tiny(claimed.decoding.temperature_milli, lane=LANE)), claimed, token)
    after, log = play(start.court, start.number, operator, challenger, now=start.now)
    game = after.challenges[start.number - 1].game
    assert game is not None
    assert log[-1].move[0] == "prove", log[-1]
    assert not any(step.refused for step in log)
    assert len(log) <= most_moves(game.model.dims, game.claim.positions, TERMS.arity_bits)
    return game


OPERATORS = program(tiny(lane=LANE).trees.dims, LAYER, POSITION, 0)


@pytest.mark.parametrize("number", range(len(OPERATORS)), ids=[op.name for op in OPERATORS])
def test_a_changed_value_of_any_operator_is_come_to_and_convicts(number):
    served = tiny(lane=LANE)
    element = Random(number).randrange(OPERATORS[number].length)
    if OPERATORS[number].kind in (Kind.SCORE_BLOCKS, Kind.POWER, Kind.NARROW, Kind.GATHER):
        element -= element % served.trees.dims.padded(POSITION + 1)  # a place that is seen
    false = served.run(served.effective(POSITION, LAYER_NUMBER, number, element))
    game = ended(HonestOperator(false), HonestChallenger(replace(served.honest)), false)
    assert (game.verdict, game.operator, game.element) == (Verdict.OPERATOR_LOSES, number, element)


@pytest.mark.parametrize("number", [n for n, op in enumerate(OPERATORS) if op.kind in BLOCKS])
@pytest.mark.parametrize("place", ["first", "last"])
def test_a_false_block_is_come_to_by_its_number(number, place):
    """All accumulators after it follow from it, and so does the value: nothing but this block is wrong."""
    served, step = tiny(lane=LANE), 0 if place == "first" else OPERATORS[number].steps - 1
    element = OPERATORS[number].length // 3
    if OPERATORS[number].kind == Kind.SCORE_BLOCKS:
        element = 2
    false = false_block(served.honest, LAYER, POSITION, LAYER_NUMBER, number, element, step)
    run = served.run(false.tamper)
    game = ended(OperatorOfFalseBlock(run, false), HonestChallenger(replace(served.honest)), run)
    assert game.verdict == Verdict.OPERATOR_LOSES
    assert (game.operator, game.element, game.step) == (number, element, step)


@pytest.mark.parametrize("number", [n for n, op in enumerate(OPERATORS) if op.steps > 1 or op.kind in BLOCKS])
def test_an_honest_answer_stands_wherever_it_is_pointed_at(number):
    served, random = tiny(lane=LANE), Random(number)
    for step in {0, OPERATORS[number].steps - 1, OPERATORS[number].steps * (OPERATORS[number].steps > 1)}:
        element = random.randrange(OPERATORS[number].length)
        at = Place(LAYER, POSITION, LAYER_NUMBER, number, element, step, 0)
        game = ended(HonestOperator(served.honest), PointingChallenger(served.honest, at), served.honest)
        assert (game.verdict, game.operator, game.element) == (Verdict.CHALLENGER_LOSES, number, element)
        assert game.step == step


@pytest.mark.parametrize("temperature", [0, 1500])
def test_a_token_that_was_not_chosen_convicts(temperature):
    served = tiny(temperature, lane=LANE)
    false = served.with_token(3, served.answer.token_ids[3] + 1)
    token = len(served.answer.prompt_ids) + 3
    fisherman = replace(served.honest, token_ids=false.token_ids)
    game = ended(HonestOperator(false), HonestChallenger(fisherman), false, token)
    assert game.verdict == Verdict.OPERATOR_LOSES
    kind = game.program[game.operator].kind
    assert kind in ((Kind.DRAW, Kind.TEMPER, Kind.SUM) if temperature else (Kind.FIRST_HIGHEST,))
    assert game.target == TOKEN


@pytest.mark.parametrize("temperature", [0, 1500])
def test_free_adversaries_lose(temperature):
    """They fix every leaf, tile, accumulator, index and length by themselves; honest sides never lose."""
    served = tiny(temperature, lane=LANE)
    honest, false, seen = served.honest, served.with_token(4, served.honest.token_ids[4] + 1), Counter[str]()
    for seed in range(90):
        random, now = Random(f"{seed} {temperature}"), START + 1
        if seed % 6 == 5:
            game = against_challenger(court(temperature), served.order, honest, random, now=now)
        else:
            own = random.choice((honest, false)) if seed % 6 == 4 else honest
            leaf = [random.randrange(len(honest.trace.leaves))]
            trace = FreeTrace(false) if seed % 6 == 4 else random_trace(honest, random, leaf)
            first = random.randrange(27)
            found = against_operator(court(temperature), served.order, trace, own, random, first=first, now=now)
            assert found is not None
            game = found
        assert game.status == ("WON" if game.kind == "operator" else "LOST"), [step.move[0] for step in game.log]
        assert game.paid_wei >= 0
        seen[game.reached] += 1
    assert len(seen) > 12


def test_a_receipt_says_the_models_lane():
    """One court judges answers of both lanes, each by the lane of the model that was ordered."""
    served, both = tiny(lane=LANE), tiny_court(tiny(lane=LANE))
    model = both.models[served.order.model_id]

    def fault(**changes) -> str:
        signed = tiny_signed(served.honest, **changes)
        key = both.keys[signed.receipt.key_id]
        return receipt_fault(both.domain, key.operator, key, model, *vars(signed).values())

    assert fault() == ""
    assert fault(lane="portable-1") == "lane"
    assert fault(configuration_digest=configuration_of("portable-1")) == "configuration"
