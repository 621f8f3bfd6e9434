"""The vectorised lane against the definition, operator by operator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from otr_core.lane import step
from otr_core.lane.dims import Dims
from otr_core.lane.element import LAYER, TOKEN, Element, Place, program
from otr_core.lane.program import Kind, LayerOperator
from otr_node.execution import Execution
from otr_node.generate import Answer, rebuild_operators
from otr_paper.labs.disputes.world import SEED, tiny
from otr_paper.labs.tiny import TINY
from tests.helpers.token_operators import GREEDY, SAMPLED

PLACES = [(0, (LAYER, 0, 0)), (0, (LAYER, 7, 1)), (0, (LAYER, 12, 2)), (0, (TOKEN, 8, 2)), (1500, (TOKEN, 8, 2))]

#: The operators whose definition rounds to nearest, where the values are such that it shows (a
#: small row is only scaled up before it is squared).
ROUND = (
    *("attention.normed", "attention.qkv", "attention.query", "attention.key", "attention.mixed", "attention.residual"),
    *("mlp.squares", "mlp.normed", "mlp.gate_up", "mlp.product", "output", "head.squares", "head.normed", "logits"),
)


def differing(done: Execution) -> set[str]:
    """The operators of an execution whose values are not what the definition makes of the values
    before them."""
    place = Place(done.target, done.position, done.layer, 0, 0, 0, 0, 0, done.token_step)
    found = set()
    for number, operator in enumerate(done.program):
        if operator.kind != Kind.COPY:  # what enters; judged against the trace in test_judge
            held = replace(done.held, vectors=dict(enumerate(done.vectors)))
            held.compute(done.claim, place, [number])
            if not np.array_equal(held.vectors[number], done.vectors[number]):
                found.add(operator.name)
    return found


@pytest.mark.parametrize(("temperature", "where"), PLACES)
def test_the_lane_computes_what_the_definition_says(temperature, where):
    done = tiny(temperature).honest.execution(*where)
    assert [len(values) for values in done.vectors] == [operator.length for operator in done.program]
    assert differing(done) == set()


@pytest.mark.parametrize("where", [where for _, where in PLACES if where[0] == LAYER])
def test_a_watched_answer_gives_the_values_of_a_player_s_execution(where):
    served = tiny()
    run = served.honest
    answer = Answer(run.prompt_ids, run.token_ids, "length", run.trace, {})
    watched = rebuild_operators(served.bench.portable, answer, SEED, *where[1:])
    for operator, values in zip(LayerOperator, run.execution(*where).vectors, strict=True):
        np.testing.assert_array_equal(watched[operator.label], values)


def test_each_step_of_an_element_adds_up_to_its_value():
    done = tiny().honest.execution(LAYER, 12, 1)
    for number, operator in enumerate(done.program):
        if operator.kind != Kind.COPY:
            element = operator.length - 1
            after = done.accumulators(number, element)
            assert len(after) == operator.steps
            place = Place(LAYER, 12, 1, number, element, 0, 0)
            at = Element(done.dims, done.claim, place, operator, done.held)
            assert step.PRIMITIVES[operator.kind].finish(at, after[-1]) == done.vectors[number][element]


@pytest.mark.parametrize("name", ROUND)
def test_an_operator_that_is_not_rounded_is_seen(name, monkeypatch):
    """The comparison above has power: with its rounding cut off instead, each operator that rounds
    differs."""
    where = [(TOKEN, 8, 2)] if name.startswith(("head", "logits")) else [(LAYER, 0, 0), (LAYER, 7, 1)]
    monkeypatch.setattr(step, "shift", lambda x, count: x >> count if count > 0 else x << -count)
    assert any(name in differing(tiny().honest.execution(*at)) for at in where)


def test_operators_are_numbered_as_the_programs_list_them():
    d = Dims.of(TINY)
    programs = (
        ([name.label for name in LayerOperator], program(d, LAYER, 5, 0)),
        (GREEDY.values(), program(d, TOKEN, 5, 0)),
        (SAMPLED.values(), program(d, TOKEN, 5, 700)),
    )
    assert [name.value for name in LayerOperator] == list(range(len(LayerOperator)))
    for labels, operators in programs:
        for number, (label, operator) in enumerate(zip(labels, operators, strict=True)):
            assert operator.name == label
            assert all(read < number for read in operator.reads)
    assert list(step.PRIMITIVES) == list(Kind)
