"""The serving machine: equal to a step-by-step one, to queueing theory, and to its own capacity
formula."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import StepLaw
from otr_paper.simulation.replica import saturated_rate, serve_pool, serve_requests
from tests.helpers.machine_second_opinion import serve_by_steps
from tests.helpers.queueing_theory import md1_wait_s, mean_number

LAW = StepLaw(0.018, 6e-5, 2.4e-6, 6e-5, 1.4e-8, 3, 4_000, 6)

# Times that no step ends on exactly: which comes first, the step or the arrival, must not hang on
# the last bit.
requests = st.lists(
    st.tuples(st.floats(0.0, 3.0).map(lambda t: t + 0.123456789e-3), st.integers(1, 900), st.integers(1, 60)),
    min_size=1,
    max_size=25,
)


@given(found=requests, wait=st.integers(0, 8))
def test_equal_to_a_step_by_step_machine(found, wait):
    found = sorted(found)
    times, read, written = ([r[k] for r in found] for k in range(3))
    law = StepLaw(LAW.base_s, LAW.each_s, LAW.context_s, LAW.prompt_s, LAW.prompt2_s, wait, LAW.kv_tokens, 6)
    served = serve_requests(times, read, written, law)
    first, done = serve_by_steps(times, read, written, law)
    assert served.first_s.tolist() == pytest.approx(first, rel=1e-9)
    assert served.done_s.tolist() == pytest.approx(done, rel=1e-9)


def test_one_request_alone():
    served = serve_requests([1.0], [100], [10], LAW)
    first = 1.0 + LAW.base_s + LAW.prompt_s * 100 + LAW.prompt2_s * 100**2
    assert served.first_s[0] == pytest.approx(first)
    contexts = sum(100 + written for written in range(1, 10))
    assert served.done_s[0] == pytest.approx(first + 9 * (LAW.base_s + LAW.each_s) + LAW.context_s * contexts)


def test_a_request_that_fits_into_no_machine_is_refused():
    with pytest.raises(ParameterError, match="4000"):
        serve_requests([0.0], [3990], [11], LAW)
    assert serve_requests([0.0], [3990], [10], LAW).done_s[0] > 0
    with pytest.raises(ParameterError, match="machines"):
        serve_pool(poisson(10, 1.0, 1), LAW, 0)


def poisson(count, rate, seed, read=200, written=40):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, count))
    return Requests(times - times[0], rng.integers(1, 2 * read, count), rng.integers(1, 2 * written, count))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_littles_law(share):
    """Mean number in the machine, by time, is rate times mean time in it, by request: within 2
    %."""
    many = poisson(40_000, 1.0, 3)
    capacity = saturated_rate(many, LAW)
    loaded = many.at_load(share * capacity / many.rate_per_s)
    served = serve_pool(loaded, LAW, 1)
    low, high = np.quantile(loaded.arrival_s, (0.1, 0.9))
    inside = (loaded.arrival_s >= low) & (loaded.arrival_s < high)
    mean_time = (served.done_s - served.arrival_s)[inside].mean()
    number = mean_number(served.arrival_s, served.done_s, low, high)
    assert number == pytest.approx(inside.sum() / (high - low) * mean_time, rel=0.02)


def test_the_capacity_formula_is_what_a_full_machine_does():
    many = poisson(20_000, 1.0, 5)
    roomy = StepLaw(0.018, 6e-5, 2.4e-8, 6e-5, 1.4e-9, 3, 470_000, 64)
    assert roomy.capacity_per_s(many) == pytest.approx(saturated_rate(many, roomy), rel=0.02)
    assert roomy.slowed(0.25).capacity_per_s(many) == pytest.approx(0.75 * roomy.capacity_per_s(many))


def test_more_machines_are_not_slower_and_share_all_requests():
    many = poisson(4_000, 8.0, 7)
    means = [(serve_pool(many, LAW, n).done_s - many.arrival_s).mean() for n in (4, 8, 16)]
    assert means == sorted(means, reverse=True)
    alone = serve_pool(many, LAW, 4)
    part = serve_requests(
        many.arrival_s[1::4].tolist(), many.tokens_in[1::4].tolist(), many.tokens_out[1::4].tolist(), LAW
    )
    assert np.array_equal(alone.done_s[1::4], part.done_s)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_one_answer_at_a_time_is_m_d_1(share):
    """With one answer at a time and equal answers the machine is the M/D/1 queue: waits within 2 %
    of theory."""
    law = StepLaw(0.1, 0.0, 0.0, 0.0, 0.0, 0, 1e9, 1)
    written, service, rng = 10, 1.0, np.random.default_rng(11)
    waits, gaps = [], []
    for _ in range(20):
        gap = rng.exponential(service / share, 40_000)
        times = np.cumsum(gap)
        served = serve_requests(times.tolist(), [1] * len(gap), [written] * len(gap), law)
        waits.append((served.done_s - times - service).mean())
        gaps.append(gap.mean())
    assert controlled(waits, [gaps], [service / share]) == pytest.approx(md1_wait_s(share, service), rel=0.02)


def controlled(values, controls, means):
    """Mean of ``values`` by regression on batch means whose true values are known: the chance in
    them taken out."""
    matrix = np.column_stack([np.ones(len(values)), *[np.array(c) - m for c, m in zip(controls, means, strict=True)]])
    return np.linalg.lstsq(matrix, np.array(values), rcond=None)[0][0]
