"""The honest strategy (docs/honest_strategy.md) against everything that can be done to it, on small
models."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from otr_core.dispute import moves_steps
from otr_core.dispute.play import most_moves
from otr_core.dispute.players import HonestChallenger, Move, case, choice
from otr_core.dispute.state import STATES, Game, Level, Turn
from otr_core.lane.dims import Dims
from otr_core.lane.tensor_steps import LANE
from otr_paper.labs.disputes.alphabets import Alphabet, traces
from otr_paper.labs.disputes.campaign import ALL, FAMILIES, small_world
from otr_paper.labs.disputes.free import FreeOperator, FreeTrace, told_leaves
from otr_paper.labs.disputes.search import Searched, search

#: What is too long for the default run on the larger model.
LONG = {("deep", "every move of a challenger"), ("deep", "every first difference")}


CASES = [
    pytest.param(shape, family, marks=(pytest.mark.slow,) if (shape, family) in LONG else ())
    for shape in ("narrow", "deep", LANE)
    for family in FAMILIES
    # 2^16 traces; not stopped
    if (shape, family[:11]) != ("deep", "every trace") and family != "a longer answer"
]


def without_loss(found: Searched, world) -> None:
    assert found.losses == []
    assert found.places > 0
    run = world.honest
    assert found.most_moves <= most_moves(world.model.dims, run.trace.shape.positions, world.arity_bits)
    # what comes after the first difference was never read: trees that differ there alone are one
    assert found.latest_read < 0


@pytest.mark.parametrize(("shape", "family"), CASES)
def test_the_honest_side_never_loses(shape, family):
    """Whatever the other side commits to, shows, names, or does not."""
    world = small_world(shape)
    assert world.model.dims.lane == (LANE if shape == LANE else Dims.lane)
    found, undisputed = FAMILIES[family](world, False)
    without_loss(found, world)
    assert undisputed == 0
    assert found.ends["silence"] > 0


@pytest.mark.parametrize("family", ["every token leaf", "a shorter answer", "a longer answer"])
def test_an_answer_that_stops_has_the_end_it_should_have(family):
    world = small_world("stopped")
    assert world.honest.token_ids[-1] in world.model.stop_ids
    assert len(world.honest.token_ids) < world.served.decoding.max_tokens
    found, undisputed = FAMILIES[family](world, False)
    without_loss(found, world)
    assert undisputed == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "a longer answer"])
def test_the_honest_side_never_loses_over_all_letters(family):
    world = small_world("narrow")
    found, undisputed = FAMILIES[family](world, True)
    without_loss(found, world)
    assert undisputed == 0


@pytest.mark.parametrize("intervals", [2, 3])
def test_accumulations_longer_than_a_round(monkeypatch, intervals):
    """Lists of few entries, so that an accumulation takes several rounds as in a large model."""
    monkeypatch.setattr(moves_steps, "MOST_INTERVALS", intervals)
    world = small_world("narrow")
    choices = Alphabet(narrow=(Level.OPERATORS, Level.TILES))
    last = len(world.honest.trace.leaves) - 1
    found, _ = world.against_operators(traces(world.honest, [last], "F"), choices)
    assert found.losses == []
    assert found.ends["OPERATOR_LOSES"] > 0


@dataclass
class Shaken(HonestChallenger):
    """An honest challenger that is changed in one row of the strategy."""

    row: str = ""

    def move(self, game: Game, shown: Move) -> Move:
        own = super().move(game, shown)
        if self.row == "steps" and game.level == Level.STEPS:
            return "choose_step", 0
        if self.row == "kept" and own == ("choose_kept",):
            return choice(shown[2], 0)
        if self.row == "token" and own == ("choose_token",):
            return choice(shown[2], 0)
        if self.row == "salt" and own[:1] == ("accuse_salt",):
            return ()
        if self.row == "last" and own[:1] == ("choose",) and game.level == Level.TRACE:
            return choice(shown[-1], len(shown[-1]) - 1)
        if self.row == "value" and own[:1] == ("element",):
            return "element", own[1], own[2] + 1
        return own


@pytest.mark.parametrize("row", ["steps", "kept", "token", "salt", "last", "value"])
def test_the_search_finds_a_strategy_that_can_lose(row):
    """Each row of the strategy is needed: without it some adversary wins."""
    world = small_world("narrow")
    losses = 0
    families = [
        (traces(world.honest, [2, 7], "FS"), Alphabet(narrow=ALL)),
        ([FreeTrace(world.with_token(2))], Alphabet(fixed=ALL)),
    ]
    for found, choices in families:
        for trace in found:
            game = world.game(trace, trace.honest, 0)
            free = FreeOperator(trace, choices, trace.honest.seed)
            losses += len(search(game, Shaken(world.honest, row=row), free, Turn.CHALLENGER).losses)
    assert losses > 0


def test_leaves_that_were_handed_over_name_the_first_state_that_differs():
    """And none that do not give the signed root: they are left aside, and the tree is walked down."""
    world = small_world("narrow")
    for trace in traces(world.honest, [2, 7], "F"):
        claim, leaves = world.game(trace, trace.honest, 0).claim, told_leaves(trace)
        (first,) = trace.changes
        stops = world.model.stop_ids
        assert case(world.honest, claim, stops, leaves) == STATES + first
        assert case(world.honest, claim, stops) == 0
        above = tuple(trace.states.node(1, number) for number in range(len(leaves) // 2))  # these give the root too
        honest = told_leaves(FreeTrace(world.honest))
        for others in (leaves[:-1], (*leaves, leaves[0]), (*leaves[1:], leaves[0]), honest, above):
            assert case(world.honest, claim, stops, others) == 0
    right = FreeTrace(world.honest)
    assert case(world.honest, world.game(right, world.honest, 0).claim, stops, told_leaves(right)) is None


def test_whoever_names_another_state_than_the_first_that_differs_can_lose():
    """A step reads earlier states: named after a false one, it is judged right."""
    world, losses = small_world("narrow"), 0
    for trace in traces(world.honest, [2], "F"):
        for leaf in (1, 7):
            game = world.game(trace, trace.honest, STATES + leaf)
            free = FreeOperator(trace, Alphabet(fixed=ALL), trace.honest.seed)
            losses += len(search(game, HonestChallenger(world.honest), free, Turn.CHALLENGER).losses)
    assert losses > 0
