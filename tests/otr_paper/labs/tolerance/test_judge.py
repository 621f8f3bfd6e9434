"""Judging one leaf: what lies inside the bound, what lies outside, and what cannot be judged."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import InputError, ParameterError
from otr_paper.labs.tolerance import tolerance
from otr_paper.labs.tolerance.tolerance import FORMATS, Reference

F32, BF16 = FORMATS["native-float32"], FORMATS["native-bfloat16"]


def test_the_rule_accepts_what_is_inside_and_nothing_else():
    reference = Reference(np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 0.1))
    assert reference.accepts(reference.value + 0.09)
    claimed = reference.value.copy()
    claimed[1, 0] -= 0.11
    assert not reference.accepts(claimed)
    assert reference.ratios(claimed) == pytest.approx(np.array([[0, 0], [1.1, 0]]))
    claimed[1, 0] = 3.0 - 0.06
    assert reference.accepts(claimed)
    assert not reference.accepts(claimed, 0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    reference = Reference(np.zeros((1, 3)), np.ones((1, 3)))
    claimed = np.zeros((1, 3))
    claimed[0, 1] = value
    assert not reference.accepts(claimed)
    assert reference.ratios(claimed).max() == np.inf
    assert not tolerance.residual(claimed, np.zeros((1, 3)), F32).accepts(np.zeros((1, 3)))
    assert not Reference(np.zeros((1, 3)), np.full((1, 3), np.inf)).accepts(np.zeros((1, 3)))


def test_bad_shapes_and_envelopes_are_named_errors():
    reference = Reference(np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(InputError, match="shape"):
        reference.accepts(np.zeros((1, 1)))  # would broadcast
    for envelope in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ParameterError, match="envelope"):
            reference.accepts(np.zeros((1, 3)), envelope)
