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
from otr_core.lane.program import LayerOperator, layer_program
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
    *(("phi3, heads of 96", operator.label) for operator in LayerOperator),
    *(("gemma3, half a head over", name) for name in ("attention.normed", "mlp.squares", "mlp.left", "output")),
    ("qwen2, half a head over", "attention.qkv"),
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


class Asked:
    """Steps of the layer at the last position of the model whose heads have 96 values, at its judge."""

    def __init__(self) -> None:
        name = "phi3, heads of 96"
        self.chain, self.judge = pair(name).chain.chain, next(iter(pair(name).chain.judges.values()))
        self.run = served(name).honest
        self.d, self.at = self.run.trees.dims, len(self.run.fed) - 1
        self.done = self.run.execution(LAYER, self.at, 0)

    def step(self, operator: str, element: int, step: int = 0) -> list[tuple[bytes, list[bytes]]]:
        """The openings that a step takes, at which definition and contract find it right."""
        number = [op.name for op in self.done.program].index(operator)
        self.place = Place(LAYER, self.at, 0, number, element, step, int(self.done.vectors[number][element]))
        reader = Openings(self.done, self.place, piece=self.run.piece, token=self.run.token)
        assert right(self.d, self.run.claim, self.place, reader)
        openings = [(o.data, list(o.proof)) for o in reader.made]
        assert self.verdict(openings) is True
        assert self.verdict(openings, 1) is False
        return openings

    def verdict(self, openings: list[tuple[bytes, list[bytes]]], change: int = 0) -> object:
        """Of the contract on the last step's place, its value (or its accumulator) changed; or why it reverts."""
        at, claim = self.place, self.run.claim
        before, after = ends_of(self.done, at.operator, at.element, at.step)
        words = (*(LAYER, self.at, 0), *(at.operator, at.element, at.step, 0, 0), at.value + change)
        roots = (claim.states_root, claim.tokens_root, self.done.operators.root)
        roots = (*roots, *before, after[0] + change, after[1], *astuple(claim)[3:])
        try:
            return self.chain.call(self.judge, "judge", words, roots, openings)
        except ChainError as error:
            return error.check


def test_a_key_in_two_pieces_takes_both_and_a_value_one():
    ask = Asked()
    seen = ask.d.padded(ask.at + 1)
    for head in range(ask.d.heads):
        apart = (head * 96) // 256 != (head * 96 + 95) // 256
        openings = ask.step("attention.scores", head * seen + 2)
        assert len(openings) == 2 + apart
        assert apart == (head == 2)
        for column in (0, 63, 64, 95):
            assert len(ask.step("attention.mixed", head * 96 + column, 2)) == 2
    both_pieces = ask.step("attention.scores", 2 * seen + 1)
    assert ask.verdict(both_pieces[:2]) not in (True, False)
    assert (
        ask.verdict([both_pieces[0], both_pieces[2], both_pieces[1]]) == "opening length"
    )  # the row's last is shorter
    assert ask.verdict([*both_pieces[:2], both_pieces[1]]) == "opening length"
    alone = ask.step("attention.scores", seen + 1)
    assert ask.verdict([*alone, alone[1]]) == "openings"


def test_the_last_tile_of_a_ragged_row_is_as_short_as_it_is():
    ask = Asked()
    steps = ask.d.tiles(ask.d.intermediate)
    assert (steps, ask.d.intermediate % 96) == (3, 64)
    openings = ask.step("output", 7, steps - 1)
    assert [len(data) for data, _ in openings] == [8 * 64, 4 * 64]
    for number in (0, 1):
        longer = [(data + bytes(8) * (i == number), path) for i, (data, path) in enumerate(openings)]
        assert ask.verdict(longer) == "opening length"


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


@pytest.mark.parametrize("name", ["gemma3", "olmo2", "llama, heads of 256", "phi3, heads of 96"])
def test_an_honest_operator_of_a_family_wins_on_chain(name):
    """Its challenger errs in a value of its own."""
    mine, courts = served(name), both(served(name).honest, TERMS)
    wrong = false_run(name, "output")
    number, now = courts.open_challenge(vouched(mine.order, mine.honest), [], token=0, salt=SALT)
    players = HonestOperator(mine.honest), HonestChallenger(replace(wrong, token_ids=mine.honest.token_ids))
    court, log = play(courts.court, number, *players, now=now, observe=courts.observe)
    assert court.challenges[number - 1].status == ChallengeStatus.LOST
    assert log[-1].move[0] == "prove"
