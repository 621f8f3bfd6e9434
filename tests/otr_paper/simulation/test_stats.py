"""Intervals of what a simulation found."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import ParameterError
from otr_paper.simulation import stats


def test_intervals_cover_and_are_wider_where_values_hang_together():
    covered = 0
    for trial in range(60):
        values = np.random.default_rng(trial).exponential(1.0, 2000)
        found = stats.estimates([values], trial)["mean"]
        covered += found.low <= 1.0 <= found.high
    assert 50 <= covered <= 60
    rng = np.random.default_rng(5)
    runs = np.repeat(rng.exponential(1.0, 100), 20)
    shuffled = rng.permutation(runs)
    width = {name: stats.estimates([v], 1)["mean"] for name, v in (("runs", runs), ("shuffled", shuffled))}
    assert width["runs"].high - width["runs"].low > 2 * (width["shuffled"].high - width["shuffled"].low)


def test_estimates_are_the_statistics_and_intervals_span_replications():
    values = np.arange(1.0, 1001.0)
    found = stats.estimates([values], 0)
    assert (found["mean"].value, found["p50"].value) == (500.5, 500.5)
    assert found["p99"].value == pytest.approx(np.quantile(values, 0.99))
    apart = stats.estimates([np.full(100, 1.0), np.full(100, 3.0)], 0)["mean"]
    assert (apart.value, apart.low, apart.high) == (2.0, 1.0, 3.0)
    for bad in ([], [np.array([])]):
        with pytest.raises(ParameterError, match="replications"):
            stats.estimates(bad, 0)
