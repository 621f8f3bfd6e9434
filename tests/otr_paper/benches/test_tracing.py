"""``otr bench trace``, on the tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from otr_core.errors import ParameterError
from otr_node.lanes import load_model
from otr_paper import commands
from otr_paper.benches import tracing
from otr_paper.benches.tracing import LANES, TracePlan, measure_trace

APP = typer.Typer()
commands.add(APP)
PLAN = TracePlan(rounds=2, prompt=20, tokens=16, stretch=4)


@pytest.mark.parametrize("lane", LANES)
def test_shares_follow_from_the_times_beside_them(tiny: Path, lane: str) -> None:
    row = measure_trace(load_model(tiny, lane=LANES[lane]), PLAN)
    assert (row["lane"], row["prompt_tokens"], row["fed_tokens"], row["rounds"]) == (LANES[lane], 20, 16, 2)
    part = row["finish_s"] / 36
    decode, prefill = row["trace_decode_s"] + part, row["trace_prefill_s"] + 20 * part
    assert row["share_of_decode"] == pytest.approx(decode / row["decode_s"])
    assert row["share_of_prefill"] == pytest.approx(prefill / row["prefill_s"])
    whole = row["prefill_s"] + 16 * row["decode_s"]
    assert row["share_of_answer"] == pytest.approx((prefill + 16 * decode) / whole)
    assert row["hashing"] == "beside"
    assert min(row["hashing_cpu_share_of_decode"], row["hashing_cpu_share_of_prefill"], row["finish_s"]) > 0


def test_what_recording_costs_is_seen(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorder that works within the computation, and long: 20 ms a call."""

    class Clock:
        """Whatever is timed takes 100 ms, and recording what it takes beside."""

        now = 0.0

        def perf_counter(self) -> float:
            self.now += 0.1
            return self.now

        process_time = perf_counter

    clock = Clock()

    class Slow(tracing.TraceRecorder):
        def absorb(self, *rows: object) -> None:  # type: ignore[override]
            super().absorb(*rows)  # type: ignore[arg-type]
            clock.now += 0.02

    monkeypatch.setattr(tracing, "time", clock)

    monkeypatch.setattr(tracing, "TraceRecorder", Slow)
    monkeypatch.setattr(tracing, "shared_process", lambda: None)
    row = measure_trace(load_model(tiny, lane="portable-1"), PLAN)
    assert row["trace_decode_s"] == pytest.approx(0.02)  # all layers come in one call
    assert (row["hashing"], row["hashing_cpu_share_of_decode"]) == ("within", 0.0)


@pytest.mark.parametrize(
    "fields", [{"rounds": 0}, {"prompt": 0}, {"tokens": 0}, {"stretch": 0}, {"tokens": 24}, {"tokens": 8}]
)
def test_a_plan_fills_its_turns(fields: dict[str, int]) -> None:
    with pytest.raises(ParameterError, match=next(iter(fields))):
        TracePlan(**fields)


def test_the_command_prints_one_document_or_a_table(tiny: Path) -> None:
    run = CliRunner().invoke(APP, ["bench", "trace", "--model", str(tiny), "--rounds", "1", "--json"])
    document = json.loads(run.stdout)
    assert run.exit_code == 0
    assert set(document["lanes"]) == {"native", "portable"}
    assert all({"share_of_decode", "share_of_prefill"} <= set(row) for row in document["lanes"].values())
    assert document["card"]["command"] == "otr bench trace --rounds 1"
    assert document["card"]["kind"] == "measured"
    command = ["bench", "trace", "--model", str(tiny), "--rounds", "1", "--lane", "portable"]
    shown = CliRunner().invoke(APP, command).stdout
    assert "share of prefill" in shown
    assert "native" not in shown


@pytest.mark.parametrize(("option", "value"), [("--lane", "bf16"), ("--rounds", "0"), ("--model", "nowhere")])
def test_unusable_options_are_refused_by_name(option: str, value: str) -> None:
    run = CliRunner().invoke(APP, ["bench", "trace", option, value])
    assert run.exit_code != 0
    assert value in str(run.exception)
