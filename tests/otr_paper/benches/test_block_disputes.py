"""The stored disputes about blocks and the stored comparison at the contracts meet their bars."""

from __future__ import annotations

from itertools import product

import pytest

from otr_core.errors import InputError
from otr_core.lane.element import LAYER, program
from otr_core.lane.program import Kind
from otr_core.lane.tensor_steps import LANE
from otr_node.run import Tamper
from otr_paper.benches.block_disputes import false_block, knowing, reaches_trace
from otr_paper.benches.block_fuzz import compare_many, extreme_blocks, summed_up
from otr_paper.labs.disputes.world import tiny
from otr_paper.producers.block_disputes import BLOCKS
from otr_paper.producers.block_steps import BLOCKS as COMPARED
from otr_paper.producers.block_steps import STEPS
from otr_paper.store.results import read_result


def test_stored_disputes_end_at_the_false_block(project):
    card, found = read_result(project.results, "block_disputes")
    assert card.kind == "measured"
    assert [(row["seed"], row["operator"]) for row in found["disputes"]] == [*product(found["seeds"], BLOCKS)]
    for row in found["disputes"]:
        assert row["verdict"] == "OPERATOR_LOSES"
        assert 0 <= row["step"] < row["blocks"]  # a block, and not the finish
        assert row["gas_dispute"] <= 1_200_000
        assert row["money"]["stake_slashed_wei"] > 0
    assert found["honest"]["verdict"] == "CHALLENGER_LOSES"
    assert found["honest"]["money"]["stake_slashed_wei"] == 0


def test_stored_gas_keeps_to_its_bars(project):
    card, found = read_result(project.results, "block_gas")
    assert card.kind == "measured"
    small = found["sizes"]["135m"]
    assert max(small[way]["gas"] for way in ("named", "walked")) <= 1_200_000
    for size in found["sizes"].values():
        assert size["named"]["gas"] < size["walked"]["gas"]
        assert size["blocks"] * 16 in (1536, 28672)


def test_stored_comparison_at_the_contracts(project):
    found = read_result(project.results, "block_steps")[1]
    assert found["blocks"]["blocks"] == sum(found["blocks"]["results"].values()) == COMPARED
    assert found["blocks"]["differing"] == {"contract": 0}
    assert found["blocks"]["laid_by_floor"] > 0
    assert found["steps"]["total"] >= STEPS
    assert found["steps"]["differing"] == 0
    assert found["steps"]["right"] == found["steps"]["false"]
    assert found["steps"]["refused"] > 100
    tensor = {kind.name.lower() for kind in Kind if kind > Kind.GELU} | {"draw", "temper", "top", "sum", "copy", "kept"}
    assert set(found["steps"]["steps"]) == tensor
    assert found["gas"]["most"] <= 60_000


def test_a_judge_that_errs_is_seen_and_counted():
    right = compare_many(40, {"one": lambda blocks: [0x7FFFFFFF for _ in blocks]}, 3)
    assert right["differing"]["one"] == 40 - right["results"]["nan"]
    assert summed_up([right, right])["differing"]["one"] == 2 * right["differing"]["one"]
    assert summed_up([right, right])["blocks"] == 80
    assert list(extreme_blocks(3, 1)) == list(extreme_blocks(3, 1)) != list(extreme_blocks(3, 2))


def test_a_false_block_is_false_from_its_number_on():
    served = tiny(lane=LANE)
    operators = program(served.trees.dims, LAYER, 9, 0)
    number = next(at for at, op in enumerate(operators) if op.name == "output")
    honest = served.honest.execution(LAYER, 9, 1)
    false = false_block(served.honest, LAYER, 9, 1, number, 4, 1)
    right = honest.accumulators(number, 4)
    assert [a == b for a, b in zip(false.accumulators, right, strict=True)][:2] == [True, False]
    assert reaches_trace(honest, false.tamper)
    assert not reaches_trace(honest, Tamper(9, 1, number, 4, 0))
    # a score of a position to come, whose blocks are not there
    scores = next(at for at, op in enumerate(operators) if op.kind == Kind.SCORE_BLOCKS)
    with pytest.raises(InputError, match="no bit"):
        false_block(served.honest, LAYER, 9, 1, scores, 15, 0)


def test_a_run_that_knows_what_will_be_disputed_runs_once():
    run = knowing(tiny(lane=LANE).run(), 9, 1)
    _ = run.trace
    assert run.execution(LAYER, 9, 1).vectors[-1].any()
    assert run.inferences == 1
