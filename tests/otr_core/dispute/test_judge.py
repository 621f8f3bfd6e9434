"""Every primitive: a right step is right, a changed value is wrong, and no opening can be
exchanged."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest

from otr_core.dispute.judge import Opening, verdict
from otr_core.dispute.openings import Openings
from otr_core.errors import MoveError
from otr_core.lane import program as pr
from otr_core.lane.element import LAYER, TOKEN, Place
from otr_core.lane.program import PORTABLE_KINDS, Kind
from otr_core.lane.step import right
from otr_node.execution import Execution
from otr_node.generate import Answer, rebuild_operators
from otr_paper.benches.workbench import Served
from otr_paper.labs.disputes.world import SEED, tiny
from tests.helpers.ends import ends_of

PLACES = ((LAYER, 0, 0), (LAYER, 9, 1), (LAYER, 12, 2))
CASES = [(0, place) for place in PLACES] + [(temp, (TOKEN, 8, 2)) for temp in (0, 1500)]


def execution(served: Served, place: tuple[int, int, int]) -> Execution:
    return served.honest.execution(*place)


def open_step(served: Served, done: Execution, place: Place) -> tuple[bool, list[Opening]]:
    reader = Openings(done, place, piece=served.honest.piece, token=served.honest.token)
    return right(served.trees.dims, served.honest.claim, place, reader), reader.made


def roots(served: Served, done: Execution, place: Place) -> dict[str, Any]:
    return {
        "weights_root": served.trees.weights_root,
        "tables_root": served.trees.tables_root,
        "operators_root": done.operators.root,
        "ends": ends_of(done, place.operator, place.element, place.step),
    }


def places(done: Execution, random: Random, per_operator: int) -> list[Place]:
    """Steps of every operator (every step of a few elements), and what the trace holds."""
    step = done.token_step
    found = []
    for number, op in enumerate(done.program):
        for _ in range(per_operator):
            element = random.randrange(op.length)
            value = int(done.vectors[number][element])
            for at in range(1 if op.steps == 1 else op.steps + 1):
                found.append(Place(done.target, done.position, done.layer, number, element, at, value, token_step=step))
    end, d = len(done.program), done.dims
    if done.target == TOKEN:
        return found  # a token's leaf holds the value of its last operator, of which the court makes the leaf
    for piece in range(d.pieces):
        row, first = d.piece_place(piece)
        source = (
            done.vectors[pr.LayerOperator.OUTPUT],
            done.vectors[pr.LayerOperator.KEY],
            done.vectors[pr.LayerOperator.QKV][-d.kv :],
        )[row]
        for element in (0, len(source) - 1):
            value = int(source[first + element])
            found.append(Place(LAYER, done.position, done.layer, end, element, 0, value, piece))
    return found


@pytest.mark.parametrize(("temperature", "where"), CASES)
def test_every_right_step_is_right_and_every_changed_value_is_wrong(temperature, where):
    served = tiny(temperature)
    done = execution(served, where)
    kinds = set()
    for place in places(done, Random(1), 3):
        good, openings = open_step(served, done, place)
        assert good, place
        assert verdict(served.trees.dims, served.honest.claim, place, openings, **roots(served, done, place))
        if place.operator < len(done.program):
            op = done.program[place.operator]
            kinds.add(op.kind)
            if op.steps > 1 and place.step < op.steps:
                continue  # judges the accumulator, not the value
        for other in (place.value + 1, place.value - 1):
            false = replace(place, value=other)
            assert not open_step(served, done, false)[0], false
            assert not verdict(served.trees.dims, served.honest.claim, false, openings, **roots(served, done, place))
    expected = {
        # what families add is judged in test_families
        LAYER: set(PORTABLE_KINDS) - {Kind.ARGMAX, Kind.TEMPER, Kind.DRAW, Kind.SCALE, Kind.CAP, Kind.GELU},
        TOKEN: {Kind.COPY, Kind.PEAK, Kind.SQUARES, Kind.FACTOR, Kind.NORM, Kind.DOT, Kind.ARGMAX},
    }[where[0]]
    if temperature:
        expected = expected - {Kind.ARGMAX} | {Kind.TOP, Kind.TEMPER, Kind.SUM, Kind.DRAW}
    assert kinds == expected


@pytest.mark.parametrize(("temperature", "where"), CASES)
def test_a_changed_accumulator_is_wrong_at_its_step_and_only_there(temperature, where):
    served = tiny(temperature)
    done = execution(served, where)
    random = Random(2)
    for number, op in enumerate(done.program):
        if op.steps == 1:
            continue
        element = random.randrange(op.length)
        honest, value = done.accumulators(number, element), int(done.vectors[number][element])
        bad = random.randrange(op.steps)
        false = [(a + (i == bad), b) for i, (a, b) in enumerate(honest)]
        for step in range(op.steps):
            place = Place(*where, number, element, step, value, token_step=done.token_step)
            reader = Openings(done, place, piece=served.honest.piece, token=served.honest.token)
            reader.accumulator = lambda s, false=false: false[s]  # type: ignore[method-assign]
            if step == bad:
                assert not right(served.trees.dims, served.honest.claim, place, reader), (op.name, step)
            elif step not in (bad + 1, bad):
                assert right(served.trees.dims, served.honest.claim, place, reader), (op.name, step)


@pytest.mark.parametrize(("temperature", "where"), CASES)
def test_no_opening_can_be_changed_left_out_or_added(temperature, where):
    served = tiny(temperature)
    done = execution(served, where)
    d, claim = served.trees.dims, served.honest.claim
    for place in places(done, Random(3), 1):
        _, openings = open_step(served, done, place)
        given = roots(served, done, place)
        changed: list[list[Opening]] = [openings[:-1], [*openings, openings[-1]]] if openings else []
        for i, opening in enumerate(openings):
            variants = [
                replace(opening, data=opening.data[:-1] + bytes([opening.data[-1] ^ 1])),
                replace(opening, data=opening.data + b"\0"),
                replace(opening, data=opening.data[:-8]),
                replace(opening, proof=(*opening.proof, bytes(32))),
                replace(opening, proof=opening.proof[:-1]),
                replace(opening, proof=(*opening.proof[:-1], bytes(32))),
            ]
            changed += [[*openings[:i], variant, *openings[i + 1 :]] for variant in variants]
        for variant in changed:
            with pytest.raises(MoveError):
                verdict(d, claim, place, variant, **given)
        if openings:  # none of them is under another root
            nothing = replace(claim, states_root=bytes(32), tokens_root=bytes(32))
            with pytest.raises(MoveError):
                verdict(d, nothing, place, openings, **{**dict.fromkeys(given, bytes(32)), "ends": given["ends"]})
        if place.operator == len(done.program):
            with pytest.raises(MoveError):
                verdict(d, claim, place, openings, **{**given, "operators_root": bytes(32)})


def test_an_opening_is_refused_for_what_is_wrong_with_it():
    """Its length first: of another length it would not be read, whatever root it lies under."""
    served = tiny()
    done = execution(served, PLACES[1])
    place = next(each for each in places(done, Random(3), 1) if done.program[each.operator].kind == Kind.GATE)
    _, openings = open_step(served, done, place)
    first, *rest = openings
    for reason, bad in (
        ("opening length", replace(first, data=first.data + b"\0")),
        ("opening length", replace(first, data=first.data[:-8])),
        ("path", replace(first, proof=first.proof[:-1])),
        ("path", replace(first, proof=())),
        ("opening root", replace(first, proof=(*first.proof, bytes(32)))),
        ("opening root", replace(first, data=bytes(len(first.data)))),
    ):
        with pytest.raises(MoveError) as failure:
            verdict(served.trees.dims, served.honest.claim, place, [bad, *rest], **roots(served, done, place))
        assert failure.value.reason == reason


def test_an_execution_of_a_choice_gives_the_token_of_the_answer():
    served = tiny()
    run = served.honest
    answer = Answer(run.prompt_ids, run.token_ids, "length", run.trace, {})
    for position, layer in ((0, 0), (7, 1), (len(run.fed) - 1, 2)):
        done = execution(served, (LAYER, position, layer))
        names = [op.name for op in done.program]
        theirs = rebuild_operators(served.bench.model, answer, SEED, position, layer)
        for name, values in theirs.items():
            np.testing.assert_array_equal(done.vectors[names.index(name)], values)
    for step, token in enumerate(run.token_ids):
        position = len(run.prompt_ids) - 1 + step
        assert execution(served, (TOKEN, position, 2)).vectors[-1][0] == token


def test_places_beyond_the_tokens_seen_weigh_nothing():
    served = tiny()
    done = execution(served, (LAYER, 4, 0))
    scores = done.vectors[pr.LayerOperator.SCORES].reshape(served.trees.dims.heads, -1)
    assert (scores[:, 5:] == -(2**52)).all()
    assert (done.vectors[pr.LayerOperator.WEIGHTS].reshape(served.trees.dims.heads, -1)[:, 5:] == 0).all()
    place = Place(LAYER, 4, 0, pr.LayerOperator.SCORES, 5, 0, 0)
    assert not open_step(served, done, place)[0]
