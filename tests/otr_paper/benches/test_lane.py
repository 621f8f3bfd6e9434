from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from otr_core.errors import ModelError, ParameterError
from otr_paper import commands
from otr_paper.benches.lane import (
    WIDE,
    LanePlan,
    in_turns,
    measure_capped,
    measure_growth,
    measure_layer,
    measure_memory,
)
from otr_paper.press.lane_cost import lane_costs

APP = typer.Typer()
commands.add(APP)
RATIOS = ("decode_over_fp32", "decode_over_openblas", "decode_over_bf16", "prefill_over_fp32", "prefill_over_bf16")


def test_the_bench_prints_its_ratios_with_a_card(tiny: Path) -> None:
    words = ["bench", "lane", "--model", str(tiny), "--rounds", "2", "--no-wide"]
    shown = CliRunner().invoke(APP, [*words, "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    for name in RATIOS:
        part, over = name.split("_over_")
        times = found["cpu_ms"][part]
        assert found[name] == pytest.approx(times["portable"] / times[over], rel=0.1)
    assert 2 < found["bytes_per_weight"] < 10  # many of the tiny weights are beyond the dense part
    assert (found["prompt"], found["form"]["compiled"]) == (48, True)
    assert found["card"]["command"].startswith("otr bench lane")
    assert found["load_cpu_s"] > 0
    assert {*found["cpu_ms"]["token_by_batch"]} == {"1", "4", "16"}
    table = CliRunner().invoke(APP, words)
    assert "decode over fp32" in table.output


@pytest.mark.slow
def test_a_small_wide_layer_is_measured() -> None:
    small = replace(WIDE, hidden=256, intermediate=512, heads=4, kv_heads=4, head_dim=64)
    found = measure_layer(small, LanePlan(1, 20, 10))
    for part, over in (("decode", "fp32"), ("decode", "bf16"), ("prefill", "fp32")):
        times = found["cpu_ms"][part]
        assert found[f"{part}_over_{over}"] == pytest.approx(times["portable"] / times[over], rel=0.05)


def test_turns_count_every_work_alike_and_not_the_first() -> None:
    calls: list[str] = []
    found = in_turns(3, {"a": lambda: calls.append("a"), "b": lambda: sum(range(10**6)) or calls.append("b")})
    assert "".join(calls).replace("b", "") == "aaaa"
    assert found["b"] > found["a"]
    with pytest.raises(ParameterError, match="rounds"):
        LanePlan(0)


@pytest.mark.slow
def test_growth_is_measured_at_the_asked_contexts_and_widths(tiny: Path) -> None:
    found = measure_growth(tiny, [20, 5], [128], LanePlan(rounds=2, prompt=20, context=10))
    assert [row["context"] for row in found["context"]] == [5, 20]
    assert all(row["portable"] > 0 < row["fp32"] for row in found["context"])
    assert [layer["hidden"] for layer in found["width"]] == [128]


@pytest.mark.slow
def test_the_lane_is_measured_as_compiled_for_another_processor(tiny: Path) -> None:
    row, same = measure_capped(tiny, LanePlan(2, 20, 10), ["AVX2", "as it is"])
    assert (row["machine"], row["form"]["compiled"]) == ("AVX2", True)
    assert min(row["decode_over_fp32"], row["prefill_over_fp32"], same["prefill_over_fp32"]) > 0
    (plain,) = measure_capped(tiny, LanePlan(2, 20, 10), ["no compilation"])
    assert not plain["form"]["compiled"]  # so the child did take the environment
    with pytest.raises(ModelError, match="the lane on AVX2: the process ended with 1"):
        measure_capped(tiny / "none", LanePlan(1, 2, 1), ["AVX2"])


@pytest.mark.slow
def test_memory_of_loading_is_at_least_what_stays(tiny: Path) -> None:
    found = measure_memory(tiny)
    assert 0 < found["kept_bytes_per_weight"] <= found["peak_bytes_per_weight"]


def test_costs_of_the_figure_are_those_of_the_bench() -> None:
    ratios = {"decode_over_fp32": 0.5, "prefill_over_fp32": 1.0}
    bench = {
        "cpu_ms": {"token_by_batch": {"1": 3.0, "16": 1.0, "4": 2.0}},
        "growth": {"context": [{"context": 5, "portable": 1.0, "fp32": 2.0}], "width": [{"hidden": 8} | ratios]},
        "wide": {"hidden": 16} | ratios,
        "capped": [{"machine": "AVX2"} | ratios],
        **ratios,
    }
    rows = [(row["panel"], row["at"], row["series"], row["value"]) for row in lane_costs(bench)]
    assert rows[:3] == [
        ("batch", "1", "portable", 3.0),
        ("batch", "4", "portable", 2.0),
        ("batch", "16", "portable", 1.0),
    ]
    assert rows[3:5] == [("context", "5", "portable", 1.0), ("context", "5", "fp32", 2.0)]
    assert [row[1:] for row in rows if row[0] == "width" and row[2] == "prefill"] == [
        ("8", "prefill", 1.0),
        ("16", "prefill", 1.0),
    ]
    assert {row[1] for row in rows if row[0] == "processor"} == {"as it is", "AVX2"}
