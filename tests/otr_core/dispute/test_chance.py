"""Free adversaries that play at random, in whole courts: nobody honest loses, and a dispute takes two
inferences a side at most."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from otr_core.dispute.court import Court
from otr_core.dispute.play import most_moves, most_seconds, play
from otr_core.dispute.players import HonestChallenger, HonestOperator, case
from otr_core.lane.program import LayerOperator
from otr_core.lane.sampling import Decoding
from otr_node.run import Run
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.disputes.chance import (
    Played,
    RandomChallenger,
    RandomChoices,
    RandomOperator,
    against_challenger,
    against_operator,
    challenged,
    random_trace,
)
from otr_paper.labs.disputes.free import FreeOperator, FreeTrace
from otr_paper.labs.disputes.parties import new_court
from otr_paper.labs.disputes.search import FreeChallenger
from otr_paper.labs.disputes.world import START, TERMS, tiny, tiny_signed
from tests.helpers.token_operators import GREEDY, SAMPLED


@functools.cache
def court(temperature: int) -> Court:
    return new_court(tiny(temperature).honest, TERMS, now=START, stake_wei=3 * TERMS.least_stake_wei)


def checked(game: Played, honest: Run) -> None:
    """The honest side has won, in time, and lacks nothing but gas."""
    assert game.status == ("WON" if game.kind == "operator" else "LOST"), [step.move[0] for step in game.log]
    assert game.paid_wei >= 0
    bound = most_moves(honest.trees.dims, len(honest.fed), TERMS.arity_bits)
    assert len(game.log) <= bound
    assert game.log[-1].now - game.log[0].now <= most_seconds(TERMS, bound)


def games(served: Served, false: Run, count: int, temperature: int) -> Iterator[Played]:
    """Random games about states, about a false token, and against challengers, in turn."""
    honest = served.honest
    for seed in range(count):
        random, now, order = Random(f"{seed} {temperature}"), START + 1, served.order
        if seed % 5 == 4:
            yield against_challenger(court(temperature), order, honest, random, now=now)
            continue
        if seed % 5 == 3:
            trace, own = FreeTrace(false), random.choice((honest, false))
        else:
            trace, own = random_trace(honest, random, [random.randrange(len(honest.trace.leaves))]), honest
        first = random.randrange(25) if own is trace.honest is honest else random.randrange(11)
        game = against_operator(court(temperature), order, trace, own, random, first=first, now=now)
        assert game is not None
        yield game


@pytest.mark.parametrize("temperature", [0, 1500])
def test_random_games_are_won_by_the_honest_side(temperature):
    """All operators of a layer and of a token's choice are come to."""
    served = tiny(temperature)
    false = served.with_token(4, served.honest.token_ids[4] + 1)
    seen: Counter[str] = Counter()
    for game in games(served, false, 300, temperature):
        checked(game, served.honest)
        seen[game.reached] += 1
    token = SAMPLED if temperature else GREEDY
    names = {each.label for each in LayerOperator} | {*token.values()} | {"kept"}
    assert names - seen.keys() == set()


@pytest.mark.parametrize("where", ["state", "kept", "token", "seed"])
def test_a_dispute_takes_two_inferences_a_side(where):
    """One for the leaves, one for what is disputed, counted on runs of their own."""
    served = tiny()
    own, claimed = served.run(), served.run()
    if where == "token":
        claimed = served.with_token(6, served.honest.token_ids[6] + 1)
    if where == "seed":
        claimed = served.run().with_seed(bytes(range(32)))
    trace = random_trace(claimed, Random(1), [30]) if where in ("state", "kept") else FreeTrace(claimed)
    if where == "seed":
        trace = random_trace(claimed, Random(5), [30])
    signed = tiny_signed(claimed, states_root=trace.states.root, tokens_root=trace.tokens.root)
    model = court(0).models[served.order.model_id]
    game = challenged(court(0), signed, 0, START + 1).court.challenges[-1].game
    assert game is not None
    token = case(own, game.claim, model.stop_ids)
    assert token is not None
    start = challenged(court(0), signed, token, START + 1)
    # the operator's own runs: what it has rebuilt for its false trace is not counted
    before = claimed.inferences
    first = 99 if where == "kept" else 20
    free = FreeOperator(trace, RandomChoices(Random(3), first), claimed.seed)
    operator = RandomOperator(free, Random(4), patience=1, candour=1)
    challenger = HonestChallenger(own)
    after, log = play(start.court, start.number, operator, challenger, now=start.now)
    assert after.challenges[start.number - 1].status.name == "WON"
    assert log[-1].move[0] in ("prove", "timeout")
    assert 0 < challenger.run.inferences <= 2
    if where == "token":
        assert claimed.inferences - before <= 2
    if where == "seed":
        assert own.inferences == 0  # nothing was run before the seed was known


def test_an_honest_operator_takes_two_inferences():
    served = tiny()
    for token in (0, len(served.honest.fed)):
        for seed in range(6):
            run = served.run()
            start = challenged(court(0), tiny_signed(served.honest), token, START + 1)
            challenger = RandomChallenger(FreeChallenger(run.seed), Random(seed), patience=1)
            after, _ = play(start.court, start.number, HonestOperator(run), challenger, now=start.now)
            assert after.challenges[start.number - 1].status.name == "LOST"
            assert run.inferences <= 2


@pytest.mark.slow
def test_random_games_about_a_real_answer(project):
    """SmolLM2 with every leaf free; states of the whole answer at hand, as a fisherman may keep
    them."""
    served = Workbench.of(project).serve("What is the capital of France?", Decoding(12, seed=7), trace_secret=bytes(32))
    honest = served.honest
    made = new_court(honest, TERMS, now=START, stake_wei=3 * TERMS.least_stake_wei)
    for seed in range(40):
        random = Random(seed)
        trace = random_trace(honest, random, [random.randrange(len(honest.trace.leaves))])
        game = against_operator(made, served.order, trace, honest, random, first=random.randrange(25), now=START + 1)
        assert game is not None
        checked(game, replace(honest))
