"""Judging one leaf: what lies inside the bound, what lies outside, and what cannot be judged."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import InputError, ParameterError
from otr_paper.labs.tolerance import tolerance
from otr_paper.labs.tolerance.tolerance import FORMATS, Reference, judge_tolerance

F32, BF16 = FORMATS["native-float32"], FORMATS["native-bfloat16"]


def test_judge_accepts_inside_and_names_what_is_outside():
    reference = Reference(np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 0.1))
    assert judge_tolerance(reference, reference.value + 0.09).accepted
    claimed = reference.value.copy()
    claimed[1, 0] -= 0.11
    found = judge_tolerance(reference, claimed)
    assert (found.accepted, found.row, found.element, found.expected) == (False, 1, 0, 3.0)
    assert (found.ratio, found.found) == pytest.approx((1.1, 2.89))
    claimed[1, 0] = 3.0 - 0.06
    assert judge_tolerance(reference, claimed).accepted
    assert not judge_tolerance(reference, claimed, 0.5).accepted


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    reference = Reference(np.zeros((1, 3)), np.ones((1, 3)))
    claimed = np.zeros((1, 3))
    claimed[0, 1] = value
    assert not judge_tolerance(reference, claimed).accepted
    assert judge_tolerance(reference, claimed).ratio == np.inf
    assert not judge_tolerance(tolerance.residual(claimed, np.zeros((1, 3)), F32), np.zeros((1, 3))).accepted
    assert not judge_tolerance(Reference(np.zeros((1, 3)), np.full((1, 3), np.inf)), np.zeros((1, 3))).accepted


def test_bad_shapes_and_envelopes_are_named_errors():
    reference = Reference(np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="shape"):
        judge_tolerance(reference, np.zeros((1, 1)))  # would broadcast
    for envelope in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ParameterError, match="envelope"):
            judge_tolerance(reference, np.zeros((1, 3)), envelope)
