"""Traces: a good one is read, every bad one is refused by rule and line; the real ones are what
their sources say."""

from __future__ import annotations

import numpy as np
import pytest

from otr_core.errors import ParameterError, TraceError
from otr_paper.claims import published
from otr_paper.simulation import arrivals, summary
from otr_paper.simulation.arrivals import Requests, parse_azure, parse_mooncake

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"
GOOD = (
    "2023-11-16 18:15:46.6805900,374,44",
    "2023-11-16 18:15:50.9951690,396,109",
    "2023-11-16 18:15:50.9951690,879,55",
)


def azure(*lines, head=HEAD):
    return "\n".join((head, *lines)) + "\n"


def test_a_good_trace_is_read():
    found = parse_azure(azure(*GOOD))
    assert found.arrival_s.tolist() == pytest.approx([0.0, 4.314579, 4.314579], abs=1e-7)
    assert found.tokens_in.tolist() == [374, 396, 879]
    assert found.tokens_out.tolist() == [44, 109, 55]
    assert found.rate_per_s == pytest.approx(2 / 4.314579)
    other = parse_mooncake("timestamp_ms,input_tokens,output_tokens,prefix_blocks\n0,6758,500,14\n1500,3,1,0\n")
    assert other.arrival_s.tolist() == [0.0, 1.5]
    assert other.reused.tolist() == [0, 0]


PREFIX = "timestamp_ms,input_tokens,output_tokens,prefix_blocks,first_new_block"


def test_a_prompt_reuses_the_blocks_that_are_known():
    lines = "0,6758,500,14,0\n0,7322,490,15,1\n9,513,4,2,2\n10,1024,4,2,2\n"
    found = parse_mooncake(f"{PREFIX}\n{lines}")
    # of a prompt that is known whole, the last token is read
    assert found.reused.tolist() == [0, 512, 512, 1023]
    assert found.reused_share == pytest.approx((512 + 512 + 1023) / (6758 + 7322 + 513 + 1024))
    assert found.at_load(2.0).reused.tolist() == found.reused.tolist()
    assert found.without_reuse().reused.tolist() == [0] * 4


@pytest.mark.parametrize("bad", ["1,600,4,2,3", "1,600,4,2,-1", "1,600,4,1,0", "1,600,4,3,0"])
def test_blocks_that_do_not_cover_the_prompt_are_refused(bad):
    with pytest.raises(TraceError) as caught:
        parse_mooncake(f"{PREFIX}\n0,6758,500,14,0\n{bad}\n")
    assert (caught.value.rule, caught.value.line) == ("prefix", 3)


@pytest.mark.parametrize("reused", [[-1, 0], [0, 5]])
def test_more_reuse_than_prompt_is_refused(reused):
    with pytest.raises(TraceError, match="prefix"):
        Requests(np.array([0.0, 1.0]), np.array([5, 5]), np.array([1, 1]), np.array(reused))


def test_columns_may_stand_in_any_order():
    found = parse_azure("GeneratedTokens,TIMESTAMP,ContextTokens\n7,2023-11-16 18:15:46,5\n8,2023-11-16 18:15:47,6\n")
    assert (found.tokens_in.tolist(), found.tokens_out.tolist()) == ([5, 6], [7, 8])


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        (azure(*GOOD, head="TIMESTAMP,ContextTokens"), "columns", 1),
        (azure(GOOD[0], "2023-11-16 18:15:50,396"), "columns", 3),
        (azure(GOOD[1], GOOD[0]), "times", 3),
        (azure("2022-11-16 18:15:50,1,1", GOOD[0]), "times", 2),
        (azure(GOOD[0], "2023-11-17 18:15:46.6805900,396,109"), "gap", 3),
        (azure(GOOD[0], "2023-11-16 18:15:50,0,109"), "tokens", 3),
        (azure(GOOD[0], "2023-11-16 18:15:50,5,0"), "tokens", 3),
        (azure(GOOD[0], "2023-11-16 18:15:50,5,-4"), "tokens", 3),
        (azure(GOOD[0], "yesterday,5,4"), "number", 3),
        (azure(GOOD[0], "2023-11-16 18:15:50,5,many"), "number", 3),
        (azure(GOOD[0]), "length", 0),
        ("", "columns", 1),
    ],
)
def test_a_bad_trace_is_refused_by_rule_and_line(text, rule, line):
    with pytest.raises(TraceError) as caught:
        parse_azure(text)
    assert (caught.value.rule, caught.value.line) == (rule, line)
    assert "expected" in str(caught.value)


def test_a_mooncake_trace_that_starts_below_zero_is_refused():
    with pytest.raises(TraceError, match="times"):
        parse_mooncake("timestamp_ms,input_tokens,output_tokens\n-5,1,1\n0,1,1\n")


@pytest.mark.parametrize(
    ("times", "rule"), [([0.0, 2.0, 1.0], "times"), ([0.0, 1.0, 1e6], "gap"), ([0.0, np.nan, 1.0], "times")]
)
def test_requests_are_checked_when_built(times, rule):
    with pytest.raises(TraceError, match=rule):
        Requests(np.array(times), np.ones(3, dtype=int), np.ones(3, dtype=int))


def test_load_scales_the_times_alone():
    found = parse_azure(azure(*GOOD))
    faster = found.at_load(2.0)
    assert faster.rate_per_s == pytest.approx(2 * found.rate_per_s)
    assert faster.tokens_in is found.tokens_in
    for bad in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ParameterError, match="load"):
            found.at_load(bad)


def drawn(seed=1):
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(0.2, 5000))
    read = rng.integers(1, 4000, 5000)
    written = np.maximum(1, 500 - read // 10 + rng.integers(-80, 80, 5000))
    return Requests(times - times[0], read, written)


def test_a_summary_draws_requests_like_the_trace():
    original = drawn()
    figures = summary.summarise(original)
    copy = summary.draw_requests(figures, seed=4)
    assert len(copy) == len(original)
    again = summary.summarise(copy)
    # the first request is moved to time zero, so counts may shift by a bin's edge
    assert np.abs(np.cumsum(again["per_bin"])[:95] - np.cumsum(figures["per_bin"])[:95]).max() <= 8
    assert np.allclose(again["tokens_in"][5:-5], figures["tokens_in"][5:-5], rtol=0.15, atol=60)
    assert again["rank_correlation"] == pytest.approx(figures["rank_correlation"], abs=0.02)
    assert again["rank_correlation"] < -0.8
    assert copy.tokens_in.mean() == pytest.approx(original.tokens_in.mean(), rel=0.03)


def test_a_summary_is_drawn_the_same_every_time_and_by_seed():
    figures = summary.summarise(drawn())
    one, same, other = (summary.draw_requests(figures, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.arrival_s, same.arrival_s)
    assert np.array_equal(one.tokens_out, same.tokens_out)
    assert not np.array_equal(one.arrival_s, other.arrival_s)


def test_a_broken_summary_is_refused():
    figures = summary.summarise(drawn())
    with pytest.raises(TraceError, match="tokens_in"):
        summary.draw_requests({k: v for k, v in figures.items() if k != "tokens_in"}, 0)
    with pytest.raises(TraceError, match="length"):
        summary.draw_requests({**figures, "requests": 4999}, 0)
    with pytest.raises(TraceError, match="length"):
        summary.draw_requests({**figures, "per_bin": [-1, *figures["per_bin"][1:]]}, 0)


@pytest.mark.outside
@pytest.mark.parametrize(
    ("file", "row", "parse"),
    [
        ("azure_llm_2023_conv.csv", "azure23_conv", parse_azure),
        ("azure_llm_2023_code.csv", "azure23_code", parse_azure),
        ("mooncake_fast25_conversation.csv", "mooncake_conv", parse_mooncake),
    ],
)
def test_real_traces_are_what_their_sources_say(project, outside_file, file, row, parse):
    cited = published.load_published(project.data)
    found = parse(outside_file(f"traces/{file}").read_text())
    assert len(found) == cited.number(f"trace.{row}.requests", "count")
    assert found.duration_s == pytest.approx(cited.number(f"trace.{row}.duration", "s"), abs=1.0)
    assert found.rate_per_s == pytest.approx(cited.number(f"trace.{row}.rate", "req/s"), abs=0.006)
    assert found.tokens_in.mean() == pytest.approx(cited.number(f"trace.{row}.in", "tok"), abs=0.6)
    assert found.tokens_out.mean() == pytest.approx(cited.number(f"trace.{row}.out", "tok"), abs=0.06)
    if f"trace.{row}.cv2" in cited:
        assert summary.summarise(found)["gap_cv2"] == pytest.approx(cited.number(f"trace.{row}.cv2", "1"), rel=0.01)


@pytest.mark.outside
def test_stored_summaries_are_those_of_the_traces(project, outside_file):
    from otr_paper.benches import simulation
    from otr_paper.store.results import read_result

    stored = read_result(project.results, "trace_summaries")[1]
    for name, (_, file, parse) in simulation.TRACES.items():
        assert stored[name] == summary.summarise(parse(outside_file(f"traces/{file}").read_text()))


def test_the_longest_gap_is_a_day():
    assert arrivals.LONGEST_GAP_S == 86400
