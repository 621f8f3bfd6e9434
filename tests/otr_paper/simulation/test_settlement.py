"""Blocks, beacon rounds and disputes over time: properties, and a clock replayed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.simulation import settlement

times = st.lists(st.floats(0.0, 1e5), min_size=1, max_size=30).map(np.array)


@given(times=times, period=st.floats(0.5, 100.0), phase=st.floats(0.0, 0.999))
def test_a_tick_is_the_next_one(times, period, phase):
    found = settlement.next_tick(times, period, phase)
    assert (found >= times - 1e-6).all()
    assert (found - times <= period + 1e-6).all()
    steps = (found - phase * period) / period
    assert np.allclose(steps, np.rint(steps), atol=1e-6)


def test_a_beacon_round_is_never_one_already_out():
    at_rounds = np.array([0.0, 3.0, 6.0, 7.5])
    assert settlement.next_round(at_rounds, 3.0, 0.0).tolist() == [3.0, 6.0, 9.0, 9.0]
    assert settlement.next_tick(at_rounds, 3.0, 0.0).tolist() == [0.0, 3.0, 6.0, 9.0]
    assert settlement.next_tick(at_rounds, 0.0, 0.5).tolist() == at_rounds.tolist()
    with pytest.raises(ParameterError, match="beacon"):
        settlement.next_round(at_rounds, 0.0, 0.0)
    with pytest.raises(ParameterError, match="period"):
        settlement.next_tick(at_rounds, -1.0, 0.0)


def disputes(count=20_000, *, moves=8, move_s=60.0, block_s=2.0, clock_s=3600.0, silent=0.0, seed=1):
    rng = np.random.default_rng(seed)
    return settlement.dispute_s(
        count, moves=moves, move_s=move_s, block_s=block_s, clock_s=clock_s, silent=silent, rng=rng
    )


def test_disputes_last_their_moves_and_never_longer_than_two_clocks():
    assert disputes().mean() == pytest.approx(8 * 62, rel=0.02)
    short = disputes(clock_s=100.0)
    assert short.max() <= 200.0 + 1e-9
    assert short.mean() < disputes().mean()
    assert disputes(silent=1.0).tolist() == [3602.0] * 20_000
    assert disputes(move_s=0.0, block_s=0.0).max() == 0.0


def test_a_clock_that_runs_out_by_hand():
    """One by one, without arrays: the side whose clock runs out ends the dispute then."""
    rng = np.random.default_rng(9)
    each = rng.exponential(60.0, (500, 6)) + 2.0
    expected = []
    for row in each:
        clocks, total = [150.0, 150.0], 0.0
        for move, used in enumerate(row):
            if used >= clocks[move % 2]:
                total += clocks[move % 2]
                break
            clocks[move % 2] -= used
            total += used
        expected.append(total)
    assert disputes(500, moves=6, clock_s=150.0, seed=9).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("bad", [{"moves": 0}, {"move_s": -1.0}, {"clock_s": 0.0}, {"silent": 1.5}])
def test_impossible_disputes_are_refused(bad):
    with pytest.raises(ParameterError):
        disputes(**bad)
