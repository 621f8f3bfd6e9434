"""The audit accepts what is exact, and misses a wrong product as often as the bound says, no
more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.labs import freivalds


@given(st.integers(0, 2**32 - 1))
def test_an_exact_product_always_passes_and_an_element_off_by_one_fails(seed):
    rng = np.random.default_rng(seed)
    positions, rows, columns = rng.integers(1, 9, 3)
    w, x = rng.integers(-(2**18), 2**18, (rows, columns)), rng.integers(-(2**22), 2**22, (positions, columns))
    audit, good = freivalds.prepare(w, rng), x @ w.T
    assert audit.holds(x, good).all()
    wrong = good.copy()
    wrong[-1, -1] += 1
    assert list(audit.holds(x, wrong)) == [True] * (positions - 1) + [False]


def test_residues_are_exact_at_full_size():
    rng = np.random.default_rng(1)
    w, x = rng.integers(-(2**20), 2**20, (40, 5000)), rng.integers(-(2**24), 2**24, (3, 5000))
    audit = freivalds.prepare(w, rng)
    exact = [[sum(int(a) * int(b) for a, b in zip(row, w[i], strict=True)) for i in range(40)] for row in x]
    assert audit.holds(x, np.array(exact)).all()


@pytest.mark.parametrize(("prime", "repeats"), [(5, 1), (5, 2), (11, 1)])
def test_the_share_of_missed_errors_is_the_soundness_error(prime, repeats):
    rng = np.random.default_rng(2)
    w, x = rng.integers(-9, 9, (6, 4)), rng.integers(-9, 9, (1, 4))
    wrong = x @ w.T
    wrong[0, 2] += 1
    trials = 20_000
    missed = sum(freivalds.prepare(w, rng, repeats=repeats, prime=prime).holds(x, wrong)[0] for _ in range(trials))
    expected = prime**-repeats
    assert abs(missed / trials - expected) < 5 * (expected / trials) ** 0.5
    assert freivalds.prepare(w, rng, repeats=repeats, prime=prime).soundness_error == pytest.approx(expected)


def test_unusable_parameters():
    rng, w = np.random.default_rng(0), np.ones((2, 2), np.int64)
    for options in ({"repeats": 0}, {"prime": freivalds.PRIME + 1}, {"prime": 1}):
        with pytest.raises(ParameterError):
            freivalds.prepare(w, rng, **options)
