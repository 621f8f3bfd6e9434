"""Dresher's inspection game: against the published values, its recursion, and the matrix game of each stage."""

from __future__ import annotations

import json
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from otr_core import economics as eco
from otr_core.errors import ParameterError


@cache
def by_recursion(stages, budget):
    """Exact value: each stage is a 2x2 game over check or not, cheat or wait."""
    if budget >= stages:
        return Fraction(0)
    if budget == 0:
        return Fraction(-1)
    skipped, spent = by_recursion(stages - 1, budget), by_recursion(stages - 1, budget - 1)
    # rows: check, skip; columns: cheat, wait
    a, b, c, d = Fraction(1), spent, Fraction(-1), skipped
    return (a * d - b * c) / (a + d - b - c)


def test_published_values(outside_file):
    known = json.loads(outside_file("vectors/game-theory/known_results.json").read_text())["dresher_inspection_game"]
    assert len(known["values"]) > 20
    for case in known["values"]:
        exact = float(Fraction(case["value"]))
        assert eco.inspection_value(answers=case["n"], checks=case["m"]) == pytest.approx(exact, rel=1e-12)


def test_closed_form_equals_the_recursion():
    for stages in range(1, 31):
        for budget in range(stages + 2):
            exact = float(by_recursion(stages, budget))
            assert eco.inspection_value(answers=stages, checks=budget) == pytest.approx(exact, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("stages", "budget"), [(2, 1), (5, 2), (9, 3), (12, 11)])
def test_first_check_against_nashpy(stages, budget):
    import nashpy

    skipped, spent = float(by_recursion(stages - 1, budget)), float(by_recursion(stages - 1, budget - 1))
    stage = np.array([[1.0, spent], [-1.0, skipped]])
    ((checks, _), _), *others = nashpy.Game(stage, -stage).support_enumeration()
    assert not others
    assert eco.first_check_probability(answers=stages, checks=budget) == pytest.approx(checks, rel=1e-9)


def test_the_best_schedule_holds_the_value_in_played_games():
    """Play the optimal schedule against a cheat at each fixed answer: each yields the value, within its interval."""
    stages, budget, runs = 6, 2, 40_000
    value, draws = eco.inspection_value(answers=stages, checks=budget), np.random.default_rng(3)
    left = np.full(runs, budget)
    checked, hopeless = np.zeros((2, runs, stages), dtype=bool)
    for stage in range(stages):
        rates = [eco.first_check_probability(answers=stages - stage, checks=m) for m in range(budget + 1)]
        hopeless[:, stage] = left >= stages - stage  # every answer left can be checked: the operator stays honest
        checked[:, stage] = draws.random(runs) < np.array(rates)[left]
        left -= checked[:, stage]
    for stage in range(stages):
        pay = np.where(hopeless[:, stage], 0.0, np.where(checked[:, stage], 1.0, -1.0))
        assert pay.mean() == pytest.approx(value, abs=3.5 * pay.std() / np.sqrt(runs))


def test_more_checks_never_help_the_cheat():
    values = [eco.inspection_value(answers=20, checks=budget) for budget in range(22)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (-1.0, 0.0)
    assert eco.first_check_probability(answers=3, checks=0) == 0.0
    assert eco.first_check_probability(answers=3, checks=3) == 1.0


@pytest.mark.parametrize(("answers", "checks", "field"), [(0, 0, "answers"), (2.5, 1, "answers"), (3, -1, "checks")])
def test_bad_input_names_the_field(answers, checks, field):
    with pytest.raises(ParameterError, match=field):
        eco.inspection_value(answers=answers, checks=checks)
    with pytest.raises(ParameterError, match=field):
        eco.first_check_probability(answers=answers, checks=checks)
