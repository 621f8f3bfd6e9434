"""Units that cannot be decided: drawn again, bounded, recomputable; they convict nobody and hide
little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import InconclusiveError, ParameterError, SpotCheckError
from otr_core.lane.formats import INT32
from otr_core.spotcheck import query, verify
from otr_core.spotcheck.query import QueryOutcome, examine
from otr_paper.studies import detection

RANDOM = b"r" * 32


def checker(marks):
    """check() over a list of marks: '.' right, '?' inconclusive, 'x' broken."""

    def check(number):
        if marks[number] == "?":
            raise InconclusiveError("saturated")
        if marks[number] == "x":
            raise SpotCheckError("operator", number, "right")

    return check


def test_an_inconclusive_unit_is_replaced_by_the_next_number():
    assert examine(3, checker("....")) == QueryOutcome(3, (), False)
    assert examine(3, checker(".?..")) == QueryOutcome(4, (1,), False)
    assert examine(0, checker("")) == QueryOutcome(0, (), False)


def test_one_too_many_is_a_dispute_not_a_conviction():
    assert examine(3, checker("?.?x")) == QueryOutcome(3, (0, 2), True)
    assert examine(3, checker("?x"), redraws=0) == QueryOutcome(1, (0,), True)
    with pytest.raises(SpotCheckError):
        examine(3, checker("?.x"))
    with pytest.raises(ParameterError):
        examine(1, checker("."), redraws=-1)


@given(st.text(alphabet=".?", min_size=12, max_size=12), st.integers(0, 5), st.integers(0, 4))
def test_whatever_saturates_an_operator_who_breaks_nothing_is_never_convicted(marks, units, redraws):
    found = examine(units, checker(marks), redraws)
    assert found.drawn <= units + redraws + 1
    assert found.disputed == (len(found.inconclusive) > redraws)
    assert found.disputed or found.drawn - len(found.inconclusive) == units


def put(tiny_operator, rows, shares, number):
    """The answer an operator without circuits can give to a unit: openings, verified."""
    who = tiny_operator.operator
    committed = who.commit(rows, 5, 1)
    challenge = verify.SpotCheckChallenge(who.receipt, 5, 1, committed.root, RANDOM, number, shares)
    unit = challenge.unit(tiny_operator.layout)
    return challenge, who.open_unit(unit, committed)


def saturated(tiny_operator, value=INT32):
    rows = tiny_operator.operator.rows(5, 1)
    return rows | {"attention.residual": np.full_like(rows["attention.residual"], value)}


def test_a_saturated_unit_needs_no_proof_and_convicts_nobody(tiny_operator):
    """The rule of the verifier and of the operator: openings alone, shown to be inconclusive by
    what they hold."""
    challenge, opening = put(tiny_operator, saturated(tiny_operator), {"o": 1}, 0)
    with pytest.raises(InconclusiveError, match="saturates"):
        tiny_operator.verifier.verify(challenge, opening)
    who = tiny_operator.operator
    assert who.respond(challenge, who.commit(saturated(tiny_operator), 5, 1)) == opening
    with pytest.raises(SpotCheckError) as failure:  # only committed values can show it
        tiny_operator.verifier.verify(challenge, replace(opening, tree_root=bytes(32)))
    assert failure.value.check == "rows"


def test_a_value_no_saturation_gives_is_a_conviction(tiny_operator):
    challenge, opening = put(tiny_operator, saturated(tiny_operator, INT32 + 1), {"o": 1}, 0)
    with pytest.raises(SpotCheckError) as failure:
        tiny_operator.verifier.verify(challenge, opening)
    assert failure.value.check == "rows"


def test_saturating_on_purpose_ends_in_a_dispute_or_a_conviction(tiny_operator):
    """All units of `o` inconclusive: two of them are a dispute; and the operators that read the row
    break."""
    rows = saturated(tiny_operator)
    found = examine(4, lambda number: tiny_operator.verifier.verify(*put(tiny_operator, rows, {"o": 1}, number)))
    assert found == QueryOutcome(query.REDRAWS + 1, tuple(range(query.REDRAWS + 1)), True)
    with pytest.raises(SpotCheckError) as failure:
        examine(1, lambda number: tiny_operator.verifier.verify(*put(tiny_operator, rows, {"mlp.norm": 1}, number)))
    assert failure.value.check == "operator"


def test_an_honest_operator_passes_the_same_way(tiny_operator):
    rows = tiny_operator.operator.rows(5, 1)
    shares = {name: 1 for name in tiny_operator.layout.blocks if name not in tiny_operator.layout.matrices}
    assert examine(
        6, lambda number: tiny_operator.verifier.verify(*put(tiny_operator, rows, shares, number))
    ) == QueryOutcome(6, (), False)


def enumerated(b, i, units, redraws):
    """Probability of not passing, by walking every sequence of draws."""

    def walk(left, spare):
        if left == 0:
            return 0.0
        dispute = i if spare == 0 else i * walk(left, spare - 1)
        return b + dispute + (1 - b - i) * walk(left - 1, spare)

    return walk(units, redraws)


@given(st.floats(0, 0.5), st.floats(0, 0.5), st.integers(1, 7), st.integers(0, 3))
def test_detection_with_redraws_against_a_walk_over_all_draws(b, i, units, redraws):
    found = detection.per_query_redrawn(b, i, units, redraws)
    assert found == pytest.approx(enumerated(b, i, units, redraws), abs=1e-12)


@given(st.floats(0, 0.9), st.integers(1, 60))
def test_without_saturation_nothing_changes_and_with_it_more_units_still_help(b, units):
    assert detection.per_query_redrawn(b, 0.0, units) == pytest.approx(detection.per_query(1.0, b, units), abs=1e-12)
    now, more = (detection.per_query_redrawn(0.0, b, n) for n in (units, units + 1))
    assert now <= more + 1e-12
    with pytest.raises(ParameterError):
        detection.per_query_redrawn(0.6, 0.6, units)


def test_the_simulated_dodge_follows_the_formula_and_the_honest_are_never_convicted(tiny_operator):
    rows = detection.dodges(tiny_operator.layout, draws=1500, randomness=RANDOM)
    assert len(rows) == 12
    for row in rows:
        assert abs(row["convicted"] + row["disputed"] - row["computed"]) < 5 * (0.25 / 1500) ** 0.5
        if row["case"].startswith("honest"):
            assert row["convicted"] == 0
        if "all of it" in row["case"]:
            assert row["convicted"] == 0
            assert row["computed"] < row["without"]
