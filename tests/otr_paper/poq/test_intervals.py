"""Bootstrap intervals against the normal ones."""

import numpy as np
import pytest

from otr_core.errors import InputError
from otr_paper.poq import intervals


def test_bootstrap_agrees_with_the_normal_interval_of_a_mean():
    draws = np.random.default_rng(7).normal(3, 2, 400)
    found = intervals.bootstrap(intervals.mean_of, [draws], seed=1, resamples=4000)
    half = 1.96 * draws.std(ddof=1) / 20
    assert found.value == pytest.approx(draws.mean())
    assert (found.low, found.high) == pytest.approx((draws.mean() - half, draws.mean() + half), abs=0.03)
    assert found == intervals.bootstrap(intervals.mean_of, [draws], seed=1, resamples=4000)


def test_pairing_is_kept():
    one = np.random.default_rng(8).random(50)
    found = intervals.bootstrap(intervals.relative_loss, [0.7 * one, one], seed=2)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))
    with pytest.raises(InputError):
        intervals.bootstrap(intervals.mean_of, [one, one[1:]], seed=2)
