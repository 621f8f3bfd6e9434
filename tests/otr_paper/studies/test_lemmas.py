"""Each lemma is proven again, and each stored counter-example is put in by exact fractions."""

from __future__ import annotations

import pytest
import z3

from otr_paper.producers.guarantee import refute
from otr_paper.studies.lemmas import LEMMAS


@pytest.fixture(scope="module")
def stored(project):
    from otr_paper.store.results import read_result

    return {row["name"]: row for row in read_result(project.results, "guarantee")[1]["lemmas"]}


def test_thirteen_lemmas_three_of_them_weakened_on_purpose(stored):
    assert len(LEMMAS) == len(stored) == 13
    assert sum(lemma.false for lemma in LEMMAS) == 3


@pytest.mark.parametrize("lemma", LEMMAS, ids=lambda lemma: lemma.name)
def test_it_follows_from_its_hypotheses_and_from_no_part_of_them(lemma):
    assert (refute(lemma) is None) != lemma.false
    for name in () if lemma.false else lemma.hypotheses:
        found = refute(lemma, name)
        assert found is not None, name
        assert lemma.refuted_by(found, name)


@pytest.mark.parametrize("lemma", LEMMAS, ids=lambda lemma: lemma.name)
def test_the_stored_counter_examples_are_ones(stored, lemma):
    row = stored[lemma.name]
    if lemma.false:
        assert lemma.refuted_by(row["refuted"])
        return
    assert row["refuted"] is None
    assert row["dropped"].keys() == lemma.hypotheses.keys()
    for name, numbers in row["dropped"].items():
        assert lemma.refuted_by(numbers, name)
        assert not lemma.refuted_by(numbers)  # with all hypotheses it is none


def test_the_threshold_is_where_cheating_until_the_verdict_earns_nothing():
    """The converse, by z3 alone: below it that schedule pays, above it does not."""
    g, v, loss, caught, others = z3.Reals("g v L D R")
    profit = g * (1 - caught) / caught + (g - v - loss) + others * (g - v)
    needed = g / caught - v + others * (g - v)
    solver = z3.Solver()
    solver.add(caught > 0, caught <= 1, others >= 0, g > v, v >= 0)
    solver.add((profit > 0) != (loss < needed))
    assert solver.check() == z3.unsat
