"""Recorded runs of a real decoder: honest ones are inside at every operator, changed ones are
not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from otr_node.native import load_native
from otr_paper.labs.tolerance.native_operators import OPERATORS, NativeOperator, Referee, Run, Schedule, record
from otr_paper.labs.tolerance.tolerance import Reference
from otr_paper.labs.variants import requantised
from tests.otr_paper.labs.tolerance import IDS

WAYS = [Schedule("whole"), Schedule("2 threads", threads=2), Schedule("batch", rows=3), Schedule("padding", pad=5)]

WAYS += [Schedule("steps", first_piece=1), Schedule("own", first_piece=7)]


def leaf_passes(referee: Referee, run: Run, layer: int, position: int, operator: NativeOperator) -> bool:
    """Whether one operator's output at one position passes, judged from the values committed up to
    there."""
    seen = {name: values[: position + 1] for name, values in run[layer].items()}
    whole = referee.reference(operator, layer, seen)
    return Reference(whole.value[-1:], whole.bound[-1:]).accepts(seen[operator.output][-1:])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_honest_runs_are_inside_at_every_operator(model, way):
    referee, run = Referee.of(model), record(model, IDS, way)
    for layer, state in enumerate(run):
        for operator in referee.operators(layer):
            assert state[operator.output].shape[0] == len(IDS)
            assert referee.reference(operator, layer, state).accepts(state[operator.output]), operator.name


def test_the_recorded_run_is_the_lane_s_own(model):
    session = model.session()
    session.feed(IDS[:7])
    logits = [session.feed([token]) for token in IDS[7:]]
    run = record(model, IDS, Schedule("own", first_piece=7))
    assert (run[-1]["logits"][7:] == np.stack(logits)).all()
    for before, after in pairwise(run):
        assert (before["out"] == after["in"]).all()


def test_llama_3_positions_are_inside_and_plain_ones_are_not(folder):
    model = load_native(folder["llama3"])
    referee, run = Referee.of(model), record(model, IDS, Schedule("whole"))
    assert leaf_passes(referee, run, 1, 15, OPERATORS["k rotary"])
    assert leaf_passes(referee, run, 3, 15, OPERATORS["lm_head"])
    plain = replace(referee, architecture=replace(referee.architecture, rope_scaling=None))
    assert not leaf_passes(plain, run, 1, 15, OPERATORS["k rotary"])


@pytest.mark.parametrize("name", OPERATORS)
def test_a_moved_element_is_refused_at_its_operator_alone(model, name):
    referee, run = Referee.of(model), record(model, IDS, Schedule("own", first_piece=7))
    operator, position = OPERATORS[name], 11
    layer = 1 if operator in referee.operators(1) else 3
    assert leaf_passes(referee, run, layer, position, operator)
    values = run[layer][operator.output].copy()
    values[position, 2] += 0.2 * np.sqrt(np.mean(values[position] ** 2)) + 0.05 * abs(values[position, 2])
    forged = [{**state, operator.output: values} if at == layer else state for at, state in enumerate(run)]
    assert not leaf_passes(referee, forged, layer, position, operator)
    assert leaf_passes(referee, forged, layer, position - 1, operator)


def test_other_weights_and_other_formats_are_refused(folder):
    honest = Referee.of(load_native(folder["plain"]))
    eight = record(load_native(folder["plain"], alter=lambda t: requantised(t, 8)), IDS, Schedule("whole"))
    half = record(load_native(folder["plain"], lane="native-bfloat16"), IDS, Schedule("whole"))
    dropped = record(load_native(folder["plain"], drop_layers=[1]), IDS, Schedule("whole"))
    for position in range(len(IDS)):
        for operator in honest.operators(1):
            assert leaf_passes(honest, eight, 1, position, operator) == (operator.kind != "linear"), operator.name
        assert not leaf_passes(honest, half, 1, position, OPERATORS["gate"])
        assert not leaf_passes(honest, dropped, 1, position, OPERATORS["q"])


def test_smollm2_is_inside_and_its_int8_copy_is_not(smollm2):
    ids = [1, 9690, 198, 2683, 359, 253, 5356, 5646]
    model = load_native(smollm2)
    referee = Referee.of(model)
    run = record(model, ids, Schedule("own", first_piece=5))
    eight = record(load_native(smollm2, alter=lambda t: requantised(t, 8)), ids, Schedule("own", first_piece=5))
    for layer in (0, 14, 29, 30):
        for operator in referee.operators(layer):
            assert referee.reference(operator, layer, run[layer]).accepts(run[layer][operator.output])
            ratios = referee.reference(operator, layer, eight[layer]).ratios(eight[layer][operator.output]).max(-1)
            assert (ratios > 1).all() == (operator.kind == "linear"), (layer, operator.name)
