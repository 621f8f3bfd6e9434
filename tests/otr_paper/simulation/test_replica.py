"""The serving machine: equal to a step-by-step one, to queueing theory, and to its own capacity
formula."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otr_core.errors import ParameterError
from otr_paper.simulation.arrivals import Requests
from otr_paper.simulation.law import LoadGenerator, ServingPoint, StepLaw
from otr_paper.simulation.replica import closed_loop, saturated_rate, serve_pool, serve_requests
from tests.helpers.machine_second_opinion import serve_by_steps
from tests.helpers.queueing_theory import md1_wait_s, mean_number

LAW = StepLaw(0.018, 6e-5, 2.4e-6, 6e-5, 1.4e-8, 4_000, 6)

# Times that no step ends on exactly: which comes first, the step or the arrival, must not hang on
# the last bit.
requests = st.lists(
    st.tuples(
        st.floats(0.0, 3.0).map(lambda t: t + 0.123456789e-3), st.integers(1, 900), st.integers(1, 60), st.floats(0, 1)
    ),
    min_size=1,
    max_size=25,
)


@given(
    found=requests,
    budget=st.integers(7, 3000),
    first=st.booleans(),
    whole=st.booleans(),
    emit_s=st.sampled_from((0.0, 1e-4, 5e-3)),
)
def test_equal_to_a_step_by_step_machine(found, budget, first, whole, emit_s):
    found = sorted(found)
    times, read, written = ([r[k] for r in found] for k in range(3))
    reused = [int(share * (tokens - 1)) for tokens, share in zip(read, (r[3] for r in found), strict=True)]
    law = replace(LAW, budget_tokens=budget, prefill_first=first, whole_prompts=whole, emit_s=emit_s)
    served = serve_requests(times, read, written, law, reused)
    first, done = serve_by_steps(times, read, written, law, reused)
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
    short = replace(LAW, context_tokens=300)
    with pytest.raises(ParameterError, match=r"found 301.*at most 300.*context \(2 of 3 .* number 2\)"):
        serve_requests([0.0, 1.0, 2.0], [200, 291, 400], [100, 10, 1], short)
    assert serve_requests([0.0], [290], [10], short).done_s[0] > 0
    assert serve_requests([0.0], [3990], [10], LAW).done_s[0] > 0
    with pytest.raises(ParameterError, match="machines"):
        serve_pool(poisson(10, 1.0, 1), LAW, 0)


def test_what_is_cached_is_not_read_again():
    alone = serve_requests([0.0], [900], [2], LAW, [800])
    assert alone.first_s[0] == pytest.approx(LAW.base_s + LAW.prompt_s * 100 + LAW.prompt2_s * (900**2 - 800**2))


def test_prompts_wait_for_one_another_by_the_budget():
    """Three prompts at once: with a budget of one prompt a step they end one after another, without
    a bound all at once, and prompts that go first keep an answer waiting."""
    flat = StepLaw(0.01, 0.0, 0.0, 1e-4, 0.0, 1e6, 50)
    at_once = serve_requests([0.0] * 3, [100] * 3, [5] * 3, flat)
    assert at_once.first_s.tolist() == pytest.approx([0.04] * 3)
    one_by_one = serve_requests([0.0] * 3, [100] * 3, [5] * 3, replace(flat, budget_tokens=102))
    # the first step reads two tokens of the second prompt, the next, beside an answer, 98 and three
    assert one_by_one.first_s.tolist() == pytest.approx([0.0202, 0.0403, 0.0600])
    # uncut: the second waits for a step of its own, which has room for it beside one answer, the third as well
    uncut = serve_requests([0.0] * 3, [100] * 3, [5] * 3, replace(flat, budget_tokens=102, whole_prompts=True))
    assert uncut.first_s.tolist() == pytest.approx([0.02, 0.04, 0.06])
    assert serve_requests([0.0], [250], [5], replace(flat, budget_tokens=102, whole_prompts=True)).first_s[0] > 0.05
    first = replace(flat, budget_tokens=100, prefill_first=True)
    served = serve_requests([0.0] * 3, [100] * 3, [5] * 3, first)
    assert served.first_s.tolist() == pytest.approx([0.02, 0.04, 0.06])
    assert served.done_s.tolist() == pytest.approx([0.1] * 3)


def test_tokens_are_handed_out_no_faster_than_the_engine_can():
    """A GPU that could write 50 tokens in a hundredth of a second, behind an engine that hands one
    out in a thousandth: 1,000 tokens/s whatever the load, and first tokens wait."""
    slow = StepLaw(0.01, 0.0, 0.0, 0.0, 0.0, 1e6, 50, emit_s=1e-3)
    served = serve_requests([0.0] * 50, [1] * 50, [40] * 50, slow)
    assert 50 * 40 / served.done_s.max() == pytest.approx(1000, rel=0.01)
    late = serve_requests([0.0] * 50 + [1.0], [1] * 51, [40] * 51, slow)
    assert late.first_s[-1] - 1.0 > 0.5


def test_a_closed_loop_by_hand():
    """Two users, equal prompts and answers: both prompts in one step, then four steps; the next
    requests come ``return_s`` later and are seen by the idle machine."""
    flat = StepLaw(0.01, 0.0, 0.0, 1e-4, 0.0, 1e6, 50)
    found = closed_loop(ServingPoint("x", 100, 5, 2, 1.0, 1.0, 1.0), flat, LoadGenerator(0.005, 0.0, 10.0))
    assert found.step_s == pytest.approx(0.01)
    assert found.first_token_s == pytest.approx((0.03 + 0.035) / 2)
    assert found.tokens_per_s == pytest.approx(4 * 5 / (0.07 + 0.005 + 0.07))
    spread = closed_loop(ServingPoint("x", 100, 5, 2, 1.0, 1.0, 1.0), flat, LoadGenerator(0.005, 0.5, 10.0))
    assert spread.first_token_s > 10 * found.first_token_s


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
    roomy = StepLaw(0.018, 6e-5, 2.4e-8, 6e-5, 1.4e-9, 470_000, 64)
    assert roomy.capacity_per_s(many) == pytest.approx(saturated_rate(many, roomy), rel=0.02)
    # where the budget binds, where tokens are handed out no faster, and where prompts go first
    for change in ({"budget_tokens": 200}, {"emit_s": 1e-3}, {"prefill_first": True, "budget_tokens": 5000}):
        bound = replace(roomy, **change)
        assert bound.capacity_per_s(many) < roomy.capacity_per_s(many)
        assert bound.capacity_per_s(many) == pytest.approx(saturated_rate(many, bound), rel=0.03), change
    half = replace(many, reused=many.tokens_in // 2)
    assert roomy.capacity_per_s(half) == pytest.approx(saturated_rate(half, roomy), rel=0.02)
    assert roomy.capacity_per_s(half) > 1.05 * roomy.capacity_per_s(many)
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
    law = StepLaw(0.1, 0.0, 0.0, 0.0, 0.0, 1e9, 1)
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
