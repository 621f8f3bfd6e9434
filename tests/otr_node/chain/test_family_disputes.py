"""Disputes about models of other families on the embedded chain, and their steps at its judge."""

from __future__ import annotations

from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import pytest

from otr_core.dispute.openings import Openings
from otr_core.dispute.play import play
from otr_core.dispute.players import HonestChallenger, HonestOperator
from otr_core.dispute.records import ChallengeStatus
from otr_core.errors import ChainError
from otr_core.lane.element import LAYER, TOKEN, Place
from otr_core.lane.program import layer_program
from otr_core.lane.sampling import Decoding
from otr_core.lane.step import right
from otr_node.run import Run, Tamper
from otr_paper.benches.workbench import Served, Workbench
from otr_paper.labs.disputes.both import Both, both
from otr_paper.labs.disputes.parties import vouched
from otr_paper.labs.disputes.world import SEED, TERMS
from otr_paper.labs.families import CASES, write_family
from tests.helpers.ends import ends_of

pytestmark = pytest.mark.slow
SALT = b"s" * 32
#: What each family adds to a plain Llama's program, by the operators that do it.
TAMPERED = [
    *(("qwen3", name) for name in ("query.peak", "query.squares", "query.factor", "query.normed", "query.scaled")),
    *(("qwen3", name) for name in ("key.peak", "key.squares", "key.factor", "key.normed", "key.scaled")),
    *(("gemma2", name) for name in ("attention.capped", "mlp.product", "attention.left", "attention.left.normed")),
    *(("gemma2", name) for name in ("attention.residual", "mlp.left", "mlp.left.factor", "output")),
    *(("gemma3", name) for name in ("attention.query", "attention.scores")),
    *(("olmo2", name) for name in ("attention.qkv", "query.squares", "key.normed", "mlp.gate_up")),
    ("qwen2", "attention.normed"),
    ("mistral", "attention.scores"),
    ("smollm3", "attention.key"),
    ("llama, heads of 256", "attention.mixed"),
    ("llama, heads of 128", "attention.query"),
]


@cache
def served(name: str, temperature: int = 0) -> Served:
    bench = Workbench(write_family(Path(mkdtemp(prefix="otr-family-")) / "m", name))
    return bench.serve("w3 w5 w7 w9 w11 w13", Decoding(5, seed=5, temperature_milli=temperature), trace_secret=SEED)


@cache
def pair(name: str) -> Both:
    return both(served(name).honest, TERMS)


@pytest.mark.parametrize("name", CASES)
def test_every_step_of_a_family_is_judged_the_same(name):
    """Right steps, steps with a changed value and with a changed opening, of each operator, at the
    contract and by the definition."""
    chain = pair(name).chain.chain
    judge = next(iter(pair(name).chain.judges.values()))
    random = Random(name)
    for temperature in (0, 900):
        run = served(name, temperature).honest
        d, claim, last = run.trees.dims, run.claim, run.trees.dims.layers - 1
        end = len(run.fed) - 1
        layers = [] if temperature else [(LAYER, end, random.randrange(last + 1))]
        for where in (*layers, (TOKEN, end, last)):
            done = run.execution(*where)
            for number, op in enumerate(done.program):
                element = random.randrange(op.length)
                step = random.randrange(op.steps + 1) if op.steps > 1 else 0
                before, after = ends_of(done, number, element, step)
                for change in (0, 1):
                    value = int(done.vectors[number][element]) + change
                    place = Place(*where, number, element, step, value, token_step=done.token_step)
                    reader = Openings(done, place, piece=run.piece, token=run.token)
                    expected = right(d, claim, place, reader)
                    words = (*where, number, element, step, 0, done.token_step, value)
                    committed = (claim.states_root, claim.tokens_root, done.operators.root)
                    roots = (*committed, *before, *after, *astuple(claim)[3:])
                    openings = [(o.data, list(o.proof)) for o in reader.made]
                    assert chain.call(judge, "judge", words, roots, openings) == expected, op.name
                    assert expected or change
                if openings and number % 5 == 0:
                    false = (openings[0][0][:-1] + bytes([openings[0][0][-1] ^ 1]), openings[0][1])
                    with pytest.raises(ChainError, match="opening root"):
                        chain.call(judge, "judge", words, roots, [false, *openings[1:]])


def false_run(name: str, operator: str) -> Run:
    """A run with one value of the operator changed, by so much that its trace is false."""
    mine, random = served(name), Random(operator)
    position = len(mine.honest.fed) - 2
    program = layer_program(mine.bench.trees.dims, position)
    number = [each.name for each in program].index(operator)
    for power in (*range(4, 44, 4), *range(4, 44, 4)):
        element = random.randrange(program[number].length)
        if operator in ("attention.scores", "attention.capped"):  # a place that is seen, its own
            element -= element % mine.bench.trees.dims.padded(position + 1) - position
        false = mine.run(Tamper(position, 0, number, element, 2**power))
        if false.trace.root != mine.honest.trace.root:
            return false
    raise AssertionError(f"no change of {operator} reaches the trace")


@pytest.mark.parametrize(("name", "operator"), TAMPERED)
def test_a_changed_value_of_an_added_operator_is_convicted_on_chain(name, operator):
    false, mine, courts = false_run(name, operator), served(name), both(served(name).honest, TERMS)
    signed = vouched(mine.order, false)
    number, now = courts.open_challenge(signed, [], token=0, salt=SALT)
    players = HonestOperator(false), HonestChallenger(mine.honest)
    court, log = play(courts.court, number, *players, now=now, observe=courts.observe)
    assert court.challenges[number - 1].status == ChallengeStatus.WON
    last = log[-1].before
    assert last.program[last.operator].name == operator
    assert log[-1].move[0] == "prove"


@pytest.mark.parametrize("name", ["gemma3", "olmo2", "llama, heads of 256"])
def test_an_honest_operator_of_a_family_wins_on_chain(name):
    """Its challenger errs in a value of its own."""
    mine, courts = served(name), both(served(name).honest, TERMS)
    wrong = false_run(name, "output")
    number, now = courts.open_challenge(vouched(mine.order, mine.honest), [], token=0, salt=SALT)
    players = HonestOperator(mine.honest), HonestChallenger(replace(wrong, token_ids=mine.honest.token_ids))
    court, log = play(courts.court, number, *players, now=now, observe=courts.observe)
    assert court.challenges[number - 1].status == ChallengeStatus.LOST
    assert log[-1].move[0] == "prove"
