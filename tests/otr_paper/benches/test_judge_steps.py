"""Random steps at the judge: a share of the stored campaign on the embedded chain, and that it sees a
judge that errs."""

from __future__ import annotations

from random import Random

import pytest

from otr_core.lane.element import LAYER, TOKEN, program
from otr_core.lane.program import PORTABLE_KINDS, Kind
from otr_core.lane.tensor_steps import LANE
from otr_node.chain.evm import Chain, call_data, compile_source, compile_vyper, read_call
from otr_node.chain.interface import Contract
from otr_node.chain.onchain import FOLDER
from otr_node.commitment import ModelTrees, commit_model
from otr_node.portable import load_portable
from otr_paper.benches.judge_steps import (
    Ask,
    DrawnProgram,
    StepTally,
    by_batches,
    calldata,
    compare_at_judge,
    deploy_judge,
    drawn_values,
)
from otr_paper.labs.disputes.world import tiny
from otr_paper.labs.families import write_family
from otr_paper.producers.judge_steps import FAMILIES, LEAST, SEEDS, STEPS, TILES
from otr_paper.store.results import read_result
from tests.helpers.nodes import anvil, moved_chain, needs_anvil

SOURCE = (FOLDER / "judge.vy").read_text()


def embedded(contract: Contract, model: ModelTrees) -> tuple[Contract, Ask]:
    """A judge on the embedded chain. Its calldata goes through the general decoder and encoder."""
    chain = Chain(accounts=1)
    judge = deploy_judge(chain, contract, model)

    def ask(calls):
        found = []
        for each in calls:
            named = read_call(judge, each)
            assert named is not None
            call = {"to": judge.address, "from": chain.accounts[0]}
            reason = chain.reason_with({}, judge, "judge", *named[1].values())
            found.append(reason or chain.call(judge, "judge", *named[1].values(), sender=call["from"]))
        return found

    return judge, ask


def test_a_share_of_the_campaign_on_the_embedded_chain():
    tally, trees = StepTally(), tiny().trees
    judge, ask = embedded(compile_vyper(FOLDER / "judge.vy"), trees)
    compare_at_judge(trees, ask, judge, Random(3), 700, tally, each=1)
    assert not tally.differing
    assert tally.right == tally.false >= 350
    assert tally.refused > 2
    added = {Kind.SCALE, Kind.CAP, Kind.GELU}
    assert len(tally.steps) == len(PORTABLE_KINDS) - len(added) + 1  # and what the trace holds


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma2", "qwen3"])
def test_a_share_of_it_for_what_families_add(name, tmp_path):
    trees, tally = commit_model(load_portable(write_family(tmp_path / "m", name))), StepTally()
    judge, ask = embedded(compile_vyper(FOLDER / "judge.vy"), trees)
    compare_at_judge(trees, ask, judge, Random(4), 400, tally, each=1)
    assert not tally.differing
    assert tally.steps["scale"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "instead"),
    [
        ("(1 << 44) //", "(1 << 43) //"),
        ("used == len(o.proof) and node == root", "used == len(o.proof)"),
    ],
)
def test_a_judge_that_errs_is_seen(what, instead):
    assert SOURCE.count(what) == 1
    trees, tally = tiny().trees, StepTally()
    judge, ask = embedded(compile_source(SOURCE.replace(what, instead), str(FOLDER / "judge.vy")), trees)
    compare_at_judge(trees, ask, judge, Random(3), 400, tally, each=1)
    assert tally.differing


def test_calldata_is_that_of_the_abi():
    contract, made = compile_vyper(FOLDER / "judge.vy"), DrawnProgram(tiny().trees, 0, 5, 1, Random(2))
    for step in made.steps(1):
        words = step.words(step.opened()[1])
        assert calldata(contract, words) == call_data(contract.entry("judge"), words)


def test_extremes_are_drawn():
    random, seen = Random(1), set()
    for _ in range(60):
        seen |= {int(each) for each in drawn_values(random, 50, 63)}
    assert {2**63 - 1, -(2**63), 0, 1, -1} <= seen
    assert {abs(each).bit_length() for each in seen} == set(range(65))
    assert all(-(2**31) <= each < 2**31 for _ in range(60) for each in drawn_values(random, 50, 31))


@needs_anvil
@pytest.mark.slow
def test_a_node_is_asked_in_batches():
    tally = StepTally()
    with anvil() as node:
        judge = deploy_judge(moved_chain(node), compile_vyper(FOLDER / "judge.vy"), tiny().trees)
        compare_at_judge(tiny().trees, by_batches(node.url, judge), judge, Random(5), 2_000, tally)
    assert not tally.differing
    assert tally.refused


@pytest.mark.parametrize("target", [LAYER, TOKEN])
def test_programs_of_one_target_are_drawn_where_it_is_asked_for(target):
    tally, seen = StepTally(), []
    contract = compile_vyper(FOLDER / "judge.vy")

    def ask(calls):
        seen.append(len(calls))
        return [True] * len(calls)  # whose answers are not looked at here

    compare_at_judge(tiny().trees, ask, contract, Random(1), 300, tally, targets=(target,))
    assert ("gate" in tally.steps) == ("kept" in tally.steps) == (target == LAYER)
    assert ("argmax" in tally.steps or "draw" in tally.steps) == (target == TOKEN)
    assert all(seen)
    compare_at_judge(tiny().trees, ask, contract, Random(1), 0, tally)
    assert all(seen), "a node answers no batch of no calls"


@pytest.mark.parametrize("lane", STEPS)
def test_the_stored_campaign_is_whole(project, lane):
    card, stored = read_result(project.results, "judge_steps")
    found, kinds = stored["lanes"][lane], {kind.name.lower() for kind in PORTABLE_KINDS}
    assert card.kind == "measured"
    assert stored["lanes"].keys() == STEPS.keys()
    assert stored["differing"] == found["differing"] == 0
    assert found["total"] == sum(found["steps"].values()) >= STEPS[lane]
    assert found["right"] == found["false"] == found["total"] // 2
    assert found["refused"] > 500
    if lane == LANE:
        d = tiny(lane=LANE).trees.dims
        programs = (program(d, *about) for about in ((LAYER, 1, 0), (TOKEN, 1, 0), (TOKEN, 1, 700)))
        kinds = {operator.kind.name.lower() for operators in programs for operator in operators}
    assert set(found["steps"]) == {*kinds, "kept"}
    assert min(found["steps"][kind] for kind in kinds) >= LEAST
    assert found["models"] == (["tiny", *FAMILIES] if lane != LANE else [f"tiny, tiles of {tile}" for tile in TILES])
    assert [row["seed"] for row in found["by_seed"]] == stored["seeds"] == list(SEEDS)
    assert sum(row["total"] for row in found["by_seed"]) == found["total"]
    assert min(row["total"] for row in found["by_seed"]) >= STEPS[lane] // len(SEEDS)
