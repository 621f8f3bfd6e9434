"""Envelopes, rates of false slashing, and the smallest change that is caught."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.labs.tolerance import calibration
from otr_paper.labs.tolerance.native_operators import OPERATORS, Referee, Schedule, record
from otr_paper.labs.tolerance.tolerance import FORMATS
from tests.otr_paper.labs.tolerance import IDS


@given(st.integers(0, 20), st.integers(1, 3000), st.floats(0.5, 0.999))
@settings(max_examples=60)
def test_false_slash_limit_is_where_so_few_violations_become_unlikely(violations, checks, confidence):
    from scipy.stats import binom

    violations = min(violations, checks)
    limit = calibration.false_slash_limit(violations, checks, confidence)
    if violations == checks:
        assert limit == 1
    else:
        assert binom.cdf(violations, checks, limit) == pytest.approx(1 - confidence, rel=1e-6)


def test_rule_of_three_and_bad_counts():
    assert calibration.false_slash_limit(0, 10_000) == pytest.approx(3e-4, rel=0.01)
    for violations, checks, confidence in ((2, 1, 0.95), (-1, 5, 0.95), (0, 0, 0.95), (0, 5, 1.0)):
        with pytest.raises(ParameterError):
            calibration.false_slash_limit(violations, checks, confidence)


def test_envelopes_are_quantiles_a_margin_and_one():
    found = calibration.envelopes(np.arange(1, 1001) / 4000)
    assert found["90 %"] == pytest.approx(0.225, rel=0.01)
    assert found["largest"] == 0.25
    assert (found["calibrated"], found["IEEE"]) == (0.5, 1.0)
    assert calibration.envelopes(np.array([0.9]))["calibrated"] == 1.0
    for bad in (np.array([]), np.array([1.01]), np.array([np.inf])):
        with pytest.raises(ParameterError, match="ratios"):
            calibration.envelopes(bad)


def test_left_out_counts_what_the_others_did_not_foresee():
    maxima = {"a": [0.1, 0.2], "b": [0.15, 0.3, 0.5], "c": [0.05]}
    assert calibration.left_out(maxima, 1.0) == {"a": 0, "b": 2, "c": 0}
    assert calibration.left_out(maxima, 2.0) == {"a": 0, "b": 1, "c": 0}


def test_smallest_caught_against_the_closed_form(model):
    """A moved element is caught from (envelope · bound - error) on: the grid must bracket that."""
    referee, run = Referee.of(model), record(model, IDS, Schedule("whole"))
    operator, fmt = OPERATORS["down"], FORMATS["native-float32"]
    reference = referee.reference(operator, 1, run[1])
    claimed = reference.value  # exact: no error of its own
    single, whole = calibration.perturbed_ratios(reference, claimed, fmt, np.random.default_rng(0))
    rms = np.sqrt(np.mean(claimed**2, -1))
    least, most = (reference.bound.min(-1) / rms).min(), (reference.bound.max(-1) / rms).max()
    every = calibration.smallest_caught(single, 1.0, 1.0)
    half = calibration.smallest_caught(single, 1.0, 0.5)
    assert least <= half <= every <= most * 2**0.5 * (1 + 1e-6)
    assert calibration.smallest_caught(whole, 1.0, 1.0) <= every
    assert calibration.smallest_caught(single, 0.25, 1.0) < every
    assert calibration.smallest_caught(np.zeros_like(single), 1.0, 0.5) is None
