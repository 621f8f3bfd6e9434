"""What the judge of the lane h100-bf16 refuses, it refuses by the name that Python gives: each check of
its constructor and each of an opening."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from otr_core.dispute.judge import Opening
from otr_core.dispute.registry import judgeable
from otr_core.dispute.words import tensor_words
from otr_core.errors import ChainError
from otr_core.lane.element import LAYER, TOKEN, program
from otr_core.lane.program import Kind
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.evm import Chain, compile_vyper
from otr_node.chain.onchain import FOLDER, STEP_JUDGES, TENSOR_JUDGE
from otr_paper.benches.judge_steps import DrawnProgram, JudgedStep, deploy_judge
from otr_paper.labs.disputes.world import tiny

pytestmark = pytest.mark.slow
JUDGE = FOLDER / f"{TENSOR_JUDGE}.vy"
TREES = tiny(lane=LANE).trees
MOST_OPENINGS = 4  # of a step, in the contracts' interfaces
#: Each breaks one condition of the constructor, and no other.
UNUSABLE = {
    "no layers": {"layers": 0},
    "a number whose products no word holds": {"layers": 2**255},
    "a tile of too few values": {"tile": 4},
    "a tile that pieces do not divide into": {"tile": 24, "hidden": 48},
    "a ragged row": {"tile": 32, "hidden": 48, "intermediate": 64},
    "a ragged inner row": {"tile": 32, "hidden": 64, "intermediate": 48},
    "a row that ends inside a block": {"hidden": 40},
    "an inner row that ends inside a block": {"intermediate": 40},
    "heads that share no key": {"heads": 3},
    "a width that fp32 does not hold": {"hidden": 2**24},
    "an epsilon that is no number": {"epsilon": 255 << 23},
    "one block for what is added to the stream": {"intermediate": 16},
    "one block for what attention adds": {"heads": 2},
    "more logits than a game can number": {"vocab": 2**27},
    "more values by column than a game can number": {"heads": 2**10, "kv_heads": 2**10, "context": 2**19},
    "more leaves than a game can number": {"layers": 2**31, "context": 2},
}


@pytest.fixture(scope="module")
def deployed():
    chain = Chain(accounts=1)
    return chain, deploy_judge(chain, compile_vyper(JUDGE), TREES)


def parts_of(chain, judge):
    return [chain.call(judge, f"JUDGE_OF_{name.upper()}") for name in STEP_JUDGES]


@pytest.mark.parametrize("name", UNUSABLE)
def test_dimensions_at_which_a_side_has_no_move_do_not_deploy(deployed, name):
    chain, judge = deployed
    dims = replace(TREES.dims, **UNUSABLE[name])
    assert not judgeable(dims)
    with pytest.raises(ChainError, match="dims"):
        chain.deploy(compile_vyper(JUDGE), tensor_words(dims), bytes(32), bytes(32), [], *parts_of(chain, judge))


@pytest.mark.parametrize("change", [{}, {"heads": 6}, {"intermediate": 32}, {"tile": 16, "intermediate": 16}])
def test_dimensions_beside_those_deploy_and_no_step_reads_more_than_an_opening_list_holds(deployed, change):
    chain, judge = deployed
    dims = replace(TREES.dims, **change)
    assert judgeable(dims)
    chain.deploy(compile_vyper(JUDGE), tensor_words(dims), bytes(32), bytes(32), [], *parts_of(chain, judge))
    two = 2 if dims.tile < 16 else 1
    for operator in program(dims, LAYER, 9, 0):
        if operator.kind == Kind.BLOCKS and operator.steps == 1:
            assert 2 * two + len(operator.reads) - 1 <= MOST_OPENINGS, operator.name


def test_what_ends_an_answer_is_of_the_vocabulary(deployed):
    chain, judge = deployed
    words = tensor_words(TREES.dims)
    with pytest.raises(ChainError, match="dims"):
        chain.deploy(compile_vyper(JUDGE), words, bytes(32), bytes(32), [TREES.dims.vocab], *parts_of(chain, judge))


@pytest.mark.parametrize("at", [0, 1])
def test_each_contract_that_judges_steps_is_one(deployed, at):
    chain, judge = deployed
    parts = parts_of(chain, judge)
    parts[at] = chain.accounts[0]
    with pytest.raises(ChainError, match="steps"):
        chain.deploy(compile_vyper(JUDGE), tensor_words(TREES.dims), bytes(32), bytes(32), [], *parts)


def test_an_operator_that_no_program_has_is_refused(deployed):
    chain, judge = deployed
    for target, temperature in ((LAYER, 0), (TOKEN, 0), (TOKEN, 700)):
        beyond = len(program(TREES.dims, target, 0, temperature)) + (target == LAYER)
        with pytest.raises(ChainError, match="operator"):
            chain.call(judge, "operator_shape", target, 1, temperature, beyond)


def spoilt(made):
    """Openings with one thing changed, and by which name that is refused."""
    for at, opening in enumerate(made):
        first = bytes([opening.data[0] ^ 1]) + opening.data[1:]
        proof = opening.proof
        for other, reason in (
            (Opening(first, proof), "opening root"),
            (Opening(opening.data[:-8], proof), "opening length"),
            (Opening(opening.data + bytes(8), proof), "opening length"),
            (Opening(opening.data, (*proof, bytes(32))), "opening root"),
            (Opening(opening.data, proof[:-1]), "path"),
            (Opening(opening.data, (bytes(32), *proof[1:])), "opening root"),
        ):
            if other != opening and (proof or reason != "path"):
                yield [*made[:at], other, *made[at + 1 :]], reason
    if len(made) < MOST_OPENINGS:
        yield [*made, *(made[:1] or [Opening(bytes(64), ())])], "openings"


def sort_of(step: JudgedStep) -> str:
    """Which part of the judge looks at a step."""
    if step.kind is None:
        return "kept"
    steps = step.of.program[step.place.operator].steps
    return "single" if steps == 1 else "finish" if step.place.step == steps else "accumulate"


def refused(chain, judge, step: JudgedStep, openings, reason: str) -> None:
    assert step.judged(openings) == reason
    with pytest.raises(ChainError) as failure:
        chain.call(judge, "judge", *step.words(openings))
    assert failure.value.check == reason, (step.place, reason)


def test_every_way_to_open_wrongly_is_refused_as_in_python(deployed):
    chain, judge = deployed
    random, left = Random(4), {"kept": 1, "single": 4, "finish": 1, "accumulate": 4}
    while any(left.values()):
        made = DrawnProgram(TREES, random.choice((LAYER, TOKEN)), 9, TREES.dims.layers - 1, random)
        for step in made.steps(1):
            _, openings = step.opened()
            if not left[sort_of(step)] or not openings or random.random() < 0.7:
                continue
            left[sort_of(step)] -= 1
            assert step.judged(openings) is chain.call(judge, "judge", *step.words(openings)) is True
            for wrong, reason in spoilt(openings):
                refused(chain, judge, step, wrong, reason)


def test_places_beyond_what_there_is_are_refused(deployed):
    """No move of the court names one; a judge that is asked by itself does not judge it."""
    chain, judge = deployed
    made = DrawnProgram(TREES, LAYER, 9, 0, Random(2))
    steps = list(made.steps(1))
    first = next(step for step in steps if step.place.operator == 0)
    turn = next(step for step in steps if made.program[step.place.operator].name == "attention.query")
    for step, more in ((first, {"position": 40}), (turn, {"element": 10**6})):
        _, openings = step.opened()
        with pytest.raises(ChainError) as failure:
            chain.call(judge, "judge", *replace(step, place=replace(step.place, **more)).words(openings))
        assert failure.value.check == "index"
