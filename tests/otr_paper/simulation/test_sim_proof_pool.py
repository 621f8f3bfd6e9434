"""The line for proofs: batches against a slow second opinion and the plain line, which is within 2
% of theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.simulation import proof_pool
from otr_paper.simulation.proof_pool import batch_end_times
from tests.helpers.queueing_theory import erlang_c, md1_wait_s, mmc_wait_s, start_times

BATCHES, JOBS = 20, 60_000


def controlled(values, controls, means):
    matrix = np.column_stack([np.ones(len(values)), *[np.array(c) - m for c, m in zip(controls, means, strict=True)]])
    return np.linalg.lstsq(matrix, np.array(values), rcond=None)[0][0]


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 4])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_m_m_c_wait(servers, share):
    rng = np.random.default_rng([servers, round(10 * share)])
    waits, gaps, services = [], [], []
    gap_mean = 1.0 / (share * servers)
    for _ in range(BATCHES):
        gap, service = rng.exponential(gap_mean, JOBS), rng.exponential(1.0, JOBS)
        times = np.cumsum(gap)
        waits.append((start_times(times.tolist(), service.tolist(), servers) - times).mean())
        gaps.append(gap.mean())
        services.append(service.mean())
    found = controlled(waits, [gaps, services], [gap_mean, 1.0])
    assert found == pytest.approx(mmc_wait_s(share * servers, 1.0, servers), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_m_d_1_wait(share):
    rng = np.random.default_rng(round(100 * share))
    waits, gaps = [], []
    for _ in range(BATCHES):
        gap = rng.exponential(1.0 / share, JOBS)
        times = np.cumsum(gap)
        waits.append((start_times(times.tolist(), [1.0] * JOBS, 1) - times).mean())
        gaps.append(gap.mean())
    assert controlled(waits, [gaps], [1.0 / share]) == pytest.approx(md1_wait_s(share, 1.0), rel=0.02)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 1.0), (5, 4.5), (40, 36.0)])
def test_erlang_c_by_its_sum(servers, load):
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    assert erlang_c(servers, load) == pytest.approx(last / (sum(terms) + last))


def test_known_waits():
    assert mmc_wait_s(0.5, 1.0, 1) == pytest.approx(1.0)
    assert md1_wait_s(0.5, 1.0) == pytest.approx(0.5)
    for bad in (1.0, 1.5, -0.1):
        with pytest.raises(ParameterError, match="without end"):
            md1_wait_s(bad, 1.0)
    with pytest.raises(ParameterError, match="without end"):
        mmc_wait_s(4.0, 1.0, 4)


jobs = st.lists(st.floats(0.0, 50.0), min_size=1, max_size=40).map(sorted)


def batches_by_hand(arrivals, service, size, servers):
    """Every batch looked for anew: the earliest free server, whoever has arrived by then."""
    free, ends, waiting = [0.0] * servers, {}, list(enumerate(arrivals))
    while waiting:
        server = min(range(servers), key=lambda s: free[s])
        start = max(free[server], waiting[0][1])
        batch = [job for job, time in waiting if time <= start][:size]
        for job in batch:
            ends[job] = start + service
        waiting = [(job, time) for job, time in waiting if job not in batch]
        free[server] = start + service
    return [ends[job] for job in range(len(arrivals))]


@given(arrivals=jobs, service=st.floats(0.1, 9.0), size=st.integers(1, 6), servers=st.integers(1, 4))
def test_batches_against_a_second_opinion(arrivals, service, size, servers):
    found = batch_end_times(arrivals, service, size, servers)
    assert found.tolist() == pytest.approx(batches_by_hand(arrivals, service, size, servers))


@given(arrivals=jobs, service=st.floats(0.1, 9.0), servers=st.integers(1, 4))
def test_batches_of_one_are_the_plain_line(arrivals, service, servers):
    plain = start_times(arrivals, [service] * len(arrivals), servers) + service
    assert np.array_equal(batch_end_times(arrivals, service, 1, servers), plain)
    more = start_times(arrivals, [service] * len(arrivals), servers + 1) + service
    assert (more <= plain + 1e-9).all()


def test_pool_sizes():
    assert proof_pool.utilisation(0.0553, 1200, 83) == pytest.approx(0.0553 * 1200 / 83)
    assert proof_pool.servers_for(0.0553, 1200, 0.8) == math.ceil(0.0553 * 1200 / 0.8)
    assert proof_pool.servers_for(5.53, 223, 0.8, 24) == math.ceil(5.53 * 223 / 24 / 0.8)
    assert proof_pool.servers_for(0.0, 1200, 0.8) == 1
    for bad in (0.0, 1.0):
        with pytest.raises(ParameterError, match="most_utilisation"):
            proof_pool.servers_for(1.0, 1.0, bad)
    with pytest.raises(ParameterError, match="servers"):
        start_times([0.0], [1.0], 0)
    with pytest.raises(ParameterError, match="size"):
        batch_end_times([0.0], 1.0, 0, 1)
